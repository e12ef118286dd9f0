"""What the ledger's database keeps of studies that are pushed: notices, and whether anybody vouches for them.

A study that a hospital pushes is complete only when somebody vouches that nothing else of it will come. Deciding that
is the business of `radlake.receive.closing`; here it is kept, and the ledger reads it whenever it decides a state.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import sqlalchemy as sa

from radlake.commit_points import reached
from radlake.lake.ledger_tables import PUSH_NOTICE, PUSH_STUDY
from radlake.lake.statements import put_row

if TYPE_CHECKING:
    from radlake.lake.ledger import Ledger

__all__ = ["Notice", "PushRecords", "StepStatus", "unverified_of", "vouch_by_list"]

UNDECIDED = "not closed yet"


class StepStatus(StrEnum):
    """Performed Procedure Step Status (0040,0252), PS3.3 C.4.14."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


@dataclass(frozen=True)
class Notice:
    """What a hospital told of a study: an MPPS, or a JSON notice, which is one that is completed at once.

    Attributes
    ----------
    notice_uid : str
        SOP Instance UID of the MPPS, or a name that is the study's own.
    listed : frozenset of str, optional
        SOP Instance UIDs that it names; None when it gives none.
    n_told : int, optional
        How many instances the study has, when it gives only that.
    """

    notice_uid: str
    study_uid: str
    status: StepStatus
    listed: frozenset[str] | None = None
    n_told: int | None = None


class PushRecords:
    """Notices and doubts of all hospitals, in the ledger's database."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def tell(self, hospital_id: str, notice: Notice, *, now: datetime) -> None:
        """Keep a notice durably, or its newer version; its study waits to be judged."""
        values = {
            "study_uid": notice.study_uid,
            "status": notice.status,
            "listed": None if notice.listed is None else zlib.compress(json.dumps(sorted(notice.listed)).encode()),
            "n_told": notice.n_told,
            "told_at": now,
        }
        key = {"hospital_id": hospital_id, "notice_uid": notice.notice_uid}
        with self._ledger.writing() as connection:
            put_row(connection, PUSH_NOTICE, key, values)
            _doubt(connection, hospital_id, notice.study_uid, unverified=None, now=now)
        reached("push.told")

    def notice(self, hospital_id: str, notice_uid: str) -> Notice | None:
        where = (PUSH_NOTICE.c.hospital_id == hospital_id, PUSH_NOTICE.c.notice_uid == notice_uid)
        with self._ledger.reading() as connection:
            row = connection.execute(sa.select(PUSH_NOTICE).where(*where)).mappings().first()
        return _notice(row) if row else None

    def notices(self, hospital_id: str, study_uid: str) -> list[Notice]:
        """All that was told of a study."""
        where = (PUSH_NOTICE.c.hospital_id == hospital_id, PUSH_NOTICE.c.study_uid == study_uid)
        with self._ledger.reading() as connection:
            query = sa.select(PUSH_NOTICE).where(*where).order_by(PUSH_NOTICE.c.notice_uid)
            return [_notice(row) for row in connection.execute(query).mappings()]

    def doubt(self, hospital_id: str, study_uid: str, *, unverified: str, now: datetime) -> None:
        """Say why nobody vouches for the study; empty when somebody does."""
        with self._ledger.writing() as connection:
            _doubt(connection, hospital_id, study_uid, unverified=unverified, now=now)

    def unverified(self, hospital_id: str, study_uid: str) -> str:
        with self._ledger.reading() as connection:
            return unverified_of(connection, hospital_id, study_uid)

    def doubtful(self, *, since: datetime) -> list[tuple[str, str, datetime]]:
        """Hospital, study and last activity of every study that nobody vouches for, oldest first."""
        query = sa.select(PUSH_STUDY.c.hospital_id, PUSH_STUDY.c.study_uid, PUSH_STUDY.c.active_at)
        query = query.where(PUSH_STUDY.c.unverified != "", PUSH_STUDY.c.active_at >= since)
        with self._ledger.reading() as connection:
            rows = connection.execute(query.order_by(PUSH_STUDY.c.active_at))
            return [(hospital_id, study_uid, active_at) for hospital_id, study_uid, active_at in rows]


def unverified_of(connection: sa.Connection, hospital_id: str, study_uid: str) -> str:
    """Why nobody vouches for a study that was pushed; empty when somebody does, or it was never pushed."""
    where = (PUSH_STUDY.c.hospital_id == hospital_id, PUSH_STUDY.c.study_uid == study_uid)
    return connection.execute(sa.select(PUSH_STUDY.c.unverified).where(*where)).scalar() or ""


def vouch_by_list(
    connection: sa.Connection, hospital_id: str, study_uid: str, *, listed: frozenset[str], have: Collection[str]
) -> None:
    """A node's list vouches for a study when it has everything that came."""
    if listed.issuperset(have):
        where = (PUSH_STUDY.c.hospital_id == hospital_id, PUSH_STUDY.c.study_uid == study_uid)
        connection.execute(PUSH_STUDY.update().where(*where).values(unverified=""))


def _doubt(
    connection: sa.Connection, hospital_id: str, study_uid: str, *, unverified: str | None, now: datetime
) -> None:
    """None: keep the doubt that there is, or wait to be judged."""
    if unverified is None:
        unverified = unverified_of(connection, hospital_id, study_uid) or UNDECIDED
    key = {"hospital_id": hospital_id, "study_uid": study_uid}
    put_row(connection, PUSH_STUDY, key, {"unverified": unverified, "active_at": now})


def _notice(row: sa.RowMapping) -> Notice:
    listed = None if row["listed"] is None else frozenset(json.loads(zlib.decompress(row["listed"])))
    return Notice(row["notice_uid"], row["study_uid"], StepStatus(row["status"]), listed, row["n_told"])
