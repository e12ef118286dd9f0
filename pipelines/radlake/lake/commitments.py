"""What the ledger's database keeps of storage commitment: requests whose result the sender does not know yet."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import PUSH_COMMITMENT, QUARANTINE
from radlake.lake.statements import in_parts

__all__ = ["CommitmentRecords", "CommitmentRequest"]


@dataclass(frozen=True)
class CommitmentRequest:
    """Storage commitment that a sender asks for (PS3.4 J.3.2).

    Attributes
    ----------
    ae_title : str
        Of the sender.
    wanted : mapping
        SOP Class UID by SOP Instance UID.
    n_tried : int
        How often it was tried to tell the result over an association of ours.
    """

    hospital_id: str
    transaction_uid: str
    ae_title: str
    wanted: Mapping[str, str]
    n_tried: int = 0


class CommitmentRecords:
    """Requests of all hospitals."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def keep(self, request: CommitmentRequest, *, due_at: datetime) -> bool:
        """Keep a request durably; False when its transaction UID is in use for other instances.

        Parameters
        ----------
        due_at : datetime
            When its result is told over an association of ours, unless it was told before.
        """
        where = _is(request)
        wanted = zlib.compress(json.dumps(dict(request.wanted), sort_keys=True).encode())
        with self._ledger.writing() as connection:
            known = connection.execute(sa.select(PUSH_COMMITMENT.c.wanted).where(*where)).scalar()
            if known is not None:
                return zlib.decompress(known) == zlib.decompress(wanted)
            connection.execute(
                PUSH_COMMITMENT.insert().values(
                    hospital_id=request.hospital_id,
                    transaction_uid=request.transaction_uid,
                    ae_title=request.ae_title,
                    wanted=wanted,
                    n_tried=0,
                    due_at=due_at,
                )
            )
        return True

    def due(self, now: datetime) -> list[CommitmentRequest]:
        """Whose results are to be told now, oldest first."""
        query = sa.select(PUSH_COMMITMENT).where(PUSH_COMMITMENT.c.due_at <= now).order_by(PUSH_COMMITMENT.c.due_at)
        with self._ledger.reading() as connection:
            return [
                CommitmentRequest(
                    row["hospital_id"],
                    row["transaction_uid"],
                    row["ae_title"],
                    json.loads(zlib.decompress(row["wanted"])),
                    row["n_tried"],
                )
                for row in connection.execute(query).mappings()
            ]

    def hurry(self, now: datetime) -> None:
        """All are due: the service that kept them is gone."""
        with self._ledger.writing() as connection:
            connection.execute(PUSH_COMMITMENT.update().values(due_at=now))

    def put_off(self, request: CommitmentRequest, *, n_tried: int, due_at: datetime) -> None:
        with self._ledger.writing() as connection:
            connection.execute(PUSH_COMMITMENT.update().where(*_is(request)).values(n_tried=n_tried, due_at=due_at))

    def forget(self, request: CommitmentRequest) -> None:
        """The sender knows the result, or nobody listens."""
        with self._ledger.writing() as connection:
            connection.execute(PUSH_COMMITMENT.delete().where(*_is(request)))

    def set_aside(self, hospital_id: str, sop_uids: Collection[str]) -> set[str]:
        """Which of these instances lie in quarantine."""
        found = set[str]()
        query = sa.select(QUARANTINE.c.sop_uid).where(
            QUARANTINE.c.hospital_id == hospital_id, QUARANTINE.c.replayed_at.is_(None)
        )
        with self._ledger.reading() as connection:
            for part in in_parts(sorted(sop_uids)):
                found |= set(connection.execute(query.where(QUARANTINE.c.sop_uid.in_(part))).scalars())
        return found


def _is(request: CommitmentRequest) -> tuple[sa.ColumnElement[bool], ...]:
    key = PUSH_COMMITMENT.c
    return key.hospital_id == request.hospital_id, key.transaction_uid == request.transaction_uid
