"""What the ledger knows of a hospital's studies, by date: their states, and of how many something is to be fetched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from radlake.config import Settings
from radlake.lake.evidence import StudyState
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import STUDY
from radlake.lake.statements import in_parts
from radlake.net import Window

__all__ = [
    "NOTHING",
    "Known",
    "KnownStudy",
    "count_offline",
    "is_open",
    "known_by_day",
    "known_in",
    "known_studies",
    "known_within",
    "reasons_of",
    "undated",
]

_IN_WORK = (StudyState.DISCOVERED, StudyState.RETRIEVING)
_FETCHED = (StudyState.COMPLETE, StudyState.PARTIAL, StudyState.QUARANTINED, StudyState.OFFLINE)


@dataclass(frozen=True)
class KnownStudy:
    """What the ledger says of a study, without its lists."""

    state: str
    n_expected: int | None
    n_kept: int


def is_open(known: KnownStudy | None, *, n_listed: int | None) -> bool:
    """Whether something of a listed study is still to be fetched; what lies in quarantine is not."""
    if known is None or known.state in _IN_WORK:
        return True
    if known.state not in _FETCHED:  # withdrawn, expired: it may not come back
        return False
    return max(n_listed or 0, known.n_expected or 0) > known.n_kept


# The same decision for rows of the ledger, whose n_expected follows what the node listed.
_IS_OPEN = sa.or_(
    STUDY.c.state.in_(_IN_WORK),
    sa.and_(STUDY.c.state.in_(_FETCHED), STUDY.c.n_expected > STUDY.c.n_stored + STUDY.c.n_set_aside),
)


@dataclass(frozen=True)
class Known:
    """Studies in the ledger by state, and how many of them are open."""

    states: Mapping[str, int]
    n_open: int = 0

    @classmethod
    def sum(cls, parts: Iterable[Known]) -> Known:
        states: Counter[str] = Counter()
        n_open = 0
        for part in parts:
            states.update(part.states)
            n_open += part.n_open
        return cls(states, n_open)


NOTHING = Known({})


def known_studies(connection: sa.Connection, hospital_id: str, study_uids: Sequence[str]) -> dict[str, KnownStudy]:
    """Those of the given studies that the ledger knows."""
    columns = (STUDY.c.study_uid, STUDY.c.state, STUDY.c.n_expected, STUDY.c.n_stored + STUDY.c.n_set_aside)
    found: dict[str, KnownStudy] = {}
    for uids in in_parts(study_uids):
        query = sa.select(*columns).where(STUDY.c.hospital_id == hospital_id, STUDY.c.study_uid.in_(uids))
        found |= {uid: KnownStudy(state, n, int(kept)) for uid, state, n, kept in connection.execute(query)}
    return found


def known_by_day(connection: sa.Connection, hospital_id: str) -> dict[date | None, Known]:
    """Of every date that has studies; None: without a date."""
    return _known(connection, STUDY.c.hospital_id == hospital_id)


def known_within(connection: sa.Connection, hospital_id: str, window: Window | None) -> Known:
    """Of a window; None: of the studies without a date."""
    day = STUDY.c.study_date
    is_in_it = day.is_(None) if window is None else day.between(window.start, window.end)
    return Known.sum(_known(connection, STUDY.c.hospital_id == hospital_id, is_in_it).values())


def known_in(by_day: Mapping[date | None, Known], window: Window | None) -> Known:
    """`known_within`, of what was read before."""
    days = [None] if window is None else window.days()
    return Known.sum(by_day[day] for day in days if day in by_day)


def count_offline(settings: Settings, hospital_id: str, window: Window) -> int:
    """Studies of a window that the node has to bring from tape first."""
    with closing(Ledger(settings.ledger)) as ledger, ledger.reading() as connection:
        return known_within(connection, hospital_id, window).states.get(StudyState.OFFLINE, 0)


def undated(connection: sa.Connection, hospital_id: str) -> list[tuple[str, int | None]]:
    """UID and expected instances of the studies without a date."""
    query = sa.select(STUDY.c.study_uid, STUDY.c.n_expected).order_by(STUDY.c.study_uid)
    query = query.where(STUDY.c.hospital_id == hospital_id, STUDY.c.study_date.is_(None))
    return [(uid, n) for uid, n in connection.execute(query)]


def reasons_of(connection: sa.Connection, hospital_id: str) -> list[tuple[str, str, int]]:
    """(state, reason, studies) of what did not become complete."""
    query = sa.select(STUDY.c.state, STUDY.c.reason, sa.func.count()).group_by(STUDY.c.state, STUDY.c.reason)
    query = query.where(STUDY.c.hospital_id == hospital_id, STUDY.c.reason != "")
    return [(state, reason, int(n)) for state, reason, n in connection.execute(query)]


def _known(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> dict[date | None, Known]:
    n_open = sa.func.sum(sa.case((_IS_OPEN, 1), else_=0))
    query = sa.select(STUDY.c.study_date, STUDY.c.state, sa.func.count(), n_open).where(*where)
    parts: dict[date | None, list[Known]] = {}
    for day, state, n, opened in connection.execute(query.group_by(STUDY.c.study_date, STUDY.c.state)):
        parts.setdefault(day, []).append(Known({state: int(n)}, int(opened)))
    return {day: Known.sum(found) for day, found in parts.items()}
