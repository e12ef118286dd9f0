"""When each study was made, and when it was known and complete: what the board of lag is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa

from radlake.lake.evidence import StudyState
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import STUDY, STUDY_TIME
from radlake.lake.statements import in_parts

__all__ = ["STUDIES_WITH_TIMES", "StudyTimes", "Waiting", "enter_study_times", "study_times", "waiting_studies"]

STUDIES_WITH_TIMES = STUDY.outerjoin(
    STUDY_TIME,
    sa.and_(STUDY_TIME.c.hospital_id == STUDY.c.hospital_id, STUDY_TIME.c.study_uid == STUDY.c.study_uid),
)
_WAITED_FOR = StudyState.DISCOVERED, StudyState.RETRIEVING, StudyState.PARTIAL, StudyState.OFFLINE


@dataclass(frozen=True, slots=True)
class StudyTimes:
    """One study; instants are in UTC.

    Attributes
    ----------
    studied_at : datetime, optional
        By the clock of the hospital; None when the node told no time.
    """

    study_date: date | None
    studied_at: datetime | None
    discovered_at: datetime
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The studies of a hospital that it has to send still.

    Attributes
    ----------
    oldest_at : datetime
        When the oldest was made, or became known where the node told no time; in UTC.
    """

    n: int
    oldest_at: datetime


def enter_study_times(ledger: Ledger, hospital_id: str, times: Mapping[str, datetime]) -> None:
    """Enter when studies were made, by study UID; what is known already stays, of a withdrawn study nothing."""
    uids = sorted(set(times) - ledger.erased(hospital_id, times))
    with ledger.writing() as connection:
        for part in in_parts(uids):
            where = STUDY_TIME.c.hospital_id == hospital_id, STUDY_TIME.c.study_uid.in_(part)
            known = set(connection.execute(sa.select(STUDY_TIME.c.study_uid).where(*where)).scalars())
            if rows := [
                {"hospital_id": hospital_id, "study_uid": uid, "studied_at": times[uid]}
                for uid in part
                if uid not in known
            ]:
                connection.execute(STUDY_TIME.insert(), rows)


def waiting_studies(ledger: Ledger, *, since: datetime) -> dict[str, Waiting]:
    """What is waited for, by hospital, of studies made since then."""
    made_at = sa.func.coalesce(STUDY_TIME.c.studied_at, STUDY.c.discovered_at, type_=sa.DateTime)
    query = (
        sa.select(STUDY.c.hospital_id, sa.func.count(), sa.func.min(made_at, type_=sa.DateTime))
        .select_from(STUDIES_WITH_TIMES)
        .where(STUDY.c.state.in_(_WAITED_FOR), made_at > since)
        .group_by(STUDY.c.hospital_id)
    )
    with ledger.reading() as connection:
        return {hospital_id: Waiting(n, oldest_at) for hospital_id, n, oldest_at in connection.execute(query)}


def study_times(ledger: Ledger, *, since: datetime) -> dict[str, list[StudyTimes]]:
    """Studies by hospital that became known since then or are still waited for; those that were withdrawn are not."""
    query = (
        sa.select(
            STUDY.c.hospital_id,
            STUDY.c.study_date,
            STUDY_TIME.c.studied_at,
            STUDY.c.discovered_at,
            STUDY.c.completed_at,
        )
        .select_from(STUDIES_WITH_TIMES)
        .where(STUDY.c.state != StudyState.WITHDRAWN)
        .where(sa.or_(STUDY.c.discovered_at >= since, STUDY.c.completed_at.is_(None)))
        .order_by(STUDY.c.hospital_id, STUDY.c.discovered_at)
    )
    found: dict[str, list[StudyTimes]] = {}
    with ledger.reading() as connection:
        for hospital_id, *row in connection.execute(query):
            found.setdefault(hospital_id, []).append(StudyTimes(*row))
    return found
