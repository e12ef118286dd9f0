"""Rows about keeping studies: evidence of their class, legal holds, tombstones. In the ledger's database.

What follows from them is decided in `radlake.retention`; removing is done in `radlake.expiry`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from radlake.lake.evidence import Settlement, StudyState
from radlake.lake.ledger_tables import HOLD, RETENTION, STUDY, TOMBSTONE, VAULT
from radlake.lake.statements import put_row

if TYPE_CHECKING:
    from radlake.lake.ledger import Ledger

__all__ = ["KeptStudy", "RetentionRows", "Tombstone", "enter_evidence"]

_AT_ONCE = 2000  # rows that are read ahead
_IN_FORCE = HOLD.c.released_at.is_(None)
_IS_STORED = sa.and_(STUDY.c.lake_study_uid != "", STUDY.c.state != StudyState.WITHDRAWN)


@dataclass(frozen=True)
class KeptStudy:
    """A stored study, as far as its retention needs it: its true date, and the evidence of its class."""

    hospital_id: str
    study_uid: str
    lake_study_uid: str
    lake_month: int | None
    study_date: date | None
    evidence: tuple[str, ...]
    is_held: bool


@dataclass(frozen=True)
class Tombstone:
    """What is left of an expired study.

    Attributes
    ----------
    rule : str
        Class and years that decided it.
    digest : str
        XXH3-128 over the SOP Instance UIDs and digests of what was removed.
    finished_at : datetime or None
        None while something of it may still be there.
    """

    hospital_id: str
    lake_study_uid: str
    lake_month: int | None
    begun_at: datetime
    rule: str
    why: str
    n_series: int
    n_instances: int
    n_bytes: int
    digest: str
    finished_at: datetime | None = None


def enter_evidence(connection: sa.Connection, item: Settlement) -> None:
    """Add what an ingest told of the class to what was known before."""
    if not item.retention:
        return
    where = RETENTION.c.hospital_id == item.hospital_id, RETENTION.c.study_uid == item.study_uid
    before = connection.execute(sa.select(RETENTION.c.evidence).where(*where)).scalar()
    words = sorted({*(before or "").split("|"), item.retention} - {""})
    key = {"hospital_id": item.hospital_id, "study_uid": item.study_uid}
    put_row(connection, RETENTION, key, {"evidence": "|".join(words)})


class RetentionRows:
    """The tables `retention`, `hold` and `tombstone`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def kept(self, hospital_id: str | None = None) -> Iterator[KeptStudy]:
        """Stored studies, those of a hospital or all, in order."""
        held = sa.exists().where(
            HOLD.c.hospital_id == STUDY.c.hospital_id,
            HOLD.c.lake_study_uid == STUDY.c.lake_study_uid,
            _IN_FORCE,
        )
        same = sa.and_(RETENTION.c.hospital_id == STUDY.c.hospital_id, RETENTION.c.study_uid == STUDY.c.study_uid)
        query = (
            sa.select(
                STUDY.c.hospital_id,
                STUDY.c.study_uid,
                STUDY.c.lake_study_uid,
                STUDY.c.lake_month,
                STUDY.c.study_date,
                RETENTION.c.evidence,
                held.label("is_held"),
            )
            .join_from(STUDY, RETENTION, same, isouter=True)
            .where(_IS_STORED)
            .order_by(STUDY.c.hospital_id, STUDY.c.study_uid)
            .execution_options(yield_per=_AT_ONCE)
        )
        if hospital_id:
            query = query.where(STUDY.c.hospital_id == hospital_id)
        with self._ledger.reading() as connection:
            for row in connection.execute(query).mappings():
                yield KeptStudy(**{**row, "evidence": tuple(filter(None, (row["evidence"] or "").split("|")))})

    def hold(self, hospital_id: str, lake_study_uid: str, *, by: str, why: str, now: datetime) -> None:
        """Place a legal hold; several may lie on a study."""
        row = {"hospital_id": hospital_id, "lake_study_uid": lake_study_uid, "placed_at": now, "placed_by": by}
        with self._ledger.writing() as connection:
            connection.execute(HOLD.insert().values(**row, why=why))

    def release(self, hospital_id: str, lake_study_uid: str, *, now: datetime) -> int:
        """Release every hold of a study; returns how many there were."""
        with self._ledger.writing() as connection:
            where = *_of_study(HOLD, hospital_id, lake_study_uid), _IN_FORCE
            return connection.execute(HOLD.update().where(*where).values(released_at=now)).rowcount

    def held_in(self, lake_study_uid: str) -> list[str]:
        """Hospitals in which a hold of this study is in force."""
        return self._hospitals(HOLD, lake_study_uid, _IN_FORCE)

    def stored_in(self, lake_study_uid: str) -> list[str]:
        """Hospitals of which this study is stored."""
        return self._hospitals(STUDY, lake_study_uid, _IS_STORED)

    def buried_in(self, lake_study_uid: str) -> list[str]:
        """Hospitals of which this study has a tombstone."""
        return self._hospitals(TOMBSTONE, lake_study_uid, sa.true())

    def _hospitals(self, table: sa.Table, lake_study_uid: str, where: sa.ColumnElement[bool]) -> list[str]:
        query = sa.select(table.c.hospital_id).where(table.c.lake_study_uid == lake_study_uid, where)
        with self._ledger.reading() as connection:
            return list(connection.scalars(query.distinct().order_by(table.c.hospital_id)))

    def bury(self, tombstone: Tombstone) -> bool:
        """Enter a tombstone, unless the study is held: from here on it is removed whatever happens.

        Returns
        -------
        bool
            False when it is held.
        """
        with self._ledger.writing() as connection:
            study = tombstone.hospital_id, tombstone.lake_study_uid
            if connection.execute(sa.select(HOLD.c.hold_id).where(*_of_study(HOLD, *study), _IN_FORCE)).first():
                return False
            same = _of_study(TOMBSTONE, *study)
            if connection.execute(sa.select(TOMBSTONE.c.rule).where(*same)).first() is None:
                connection.execute(TOMBSTONE.insert().values(**asdict(tombstone)))
            return True

    def tombstones(self, hospital_id: str | None = None, *, only_open: bool = False) -> list[Tombstone]:
        query = sa.select(TOMBSTONE).order_by(TOMBSTONE.c.hospital_id, TOMBSTONE.c.lake_study_uid)
        if hospital_id:
            query = query.where(TOMBSTONE.c.hospital_id == hospital_id)
        if only_open:
            query = query.where(TOMBSTONE.c.finished_at.is_(None))
        with self._ledger.reading() as connection:
            return [Tombstone(**row) for row in connection.execute(query).mappings()]

    def finish(self, done: Sequence[Tombstone], *, now: datetime) -> None:
        """Nothing of these studies is left: the sealed records that led back to persons go too."""
        with self._ledger.writing() as connection:
            for item in done:
                study = item.hospital_id, item.lake_study_uid
                connection.execute(VAULT.delete().where(*_of_study(VAULT, *study)))
                connection.execute(TOMBSTONE.update().where(*_of_study(TOMBSTONE, *study)).values(finished_at=now))


def _of_study(table: sa.Table, hospital_id: str, lake_study_uid: str) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.hospital_id == hospital_id, table.c.lake_study_uid == lake_study_uid
