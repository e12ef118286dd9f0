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

__all__ = ["StudyTimes", "enter_study_times", "study_times"]


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


def enter_study_times(ledger: Ledger, hospital_id: str, times: Mapping[str, datetime]) -> None:
    """Enter when studies were made, by study UID; what is known already stays."""
    uids = sorted(times)
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


def study_times(ledger: Ledger, *, since: datetime) -> dict[str, list[StudyTimes]]:
    """Studies by hospital that became known since then or are still waited for; those that were withdrawn are not."""
    is_same = sa.and_(STUDY_TIME.c.hospital_id == STUDY.c.hospital_id, STUDY_TIME.c.study_uid == STUDY.c.study_uid)
    query = (
        sa.select(
            STUDY.c.hospital_id,
            STUDY.c.study_date,
            STUDY_TIME.c.studied_at,
            STUDY.c.discovered_at,
            STUDY.c.completed_at,
        )
        .select_from(STUDY.outerjoin(STUDY_TIME, is_same))
        .where(STUDY.c.state != StudyState.WITHDRAWN)
        .where(sa.or_(STUDY.c.discovered_at >= since, STUDY.c.completed_at.is_(None)))
        .order_by(STUDY.c.hospital_id, STUDY.c.discovered_at)
    )
    found: dict[str, list[StudyTimes]] = {}
    with ledger.reading() as connection:
        for hospital_id, *row in connection.execute(query):
            found.setdefault(hospital_id, []).append(StudyTimes(*row))
    return found
