"""The plan in the ledger's database: days, windows, pauses, what was done in which hour, and how far the ledger is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from radlake.backfill.windows import PlannedDay, PlannedWindow, plan_windows, remainders
from radlake.lake.evidence import StudyState
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import BACKFILL_DAY, BACKFILL_HOSPITAL, BACKFILL_HOUR, BACKFILL_WINDOW, STUDY
from radlake.net import Window

__all__ = ["DayStates", "KeptWindow", "KnownStudy", "PlanRows", "is_open"]

_AT_ONCE = 500  # parameters of one statement
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
class KeptWindow:
    """A planned window and how far it is."""

    plan: PlannedWindow
    attempts: int = 0
    begun_at: datetime | None = None
    done_at: datetime | None = None
    trouble: str = ""


@dataclass(frozen=True)
class DayStates:
    """Studies of one date (None: without a date) in the ledger, by state, and how many of them are open."""

    day: date | None
    states: dict[str, int]
    n_open: int


class PlanRows:
    """Reads and writes of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    # what the ledger knows

    def known(self, hospital_id: str, study_uids: Sequence[str]) -> dict[str, KnownStudy]:
        columns = (STUDY.c.study_uid, STUDY.c.state, STUDY.c.n_expected, STUDY.c.n_stored + STUDY.c.n_set_aside)
        found: dict[str, KnownStudy] = {}
        with self._ledger.reading() as connection:
            for begin in range(0, len(study_uids), _AT_ONCE):
                uids = study_uids[begin : begin + _AT_ONCE]
                query = sa.select(*columns).where(STUDY.c.hospital_id == hospital_id, STUDY.c.study_uid.in_(uids))
                found |= {uid: KnownStudy(state, n, int(kept)) for uid, state, n, kept in connection.execute(query)}
        return found

    def days(self, hospital_id: str) -> list[DayStates]:
        """Of every date, the one of studies without a date last."""
        n_open = sa.func.sum(sa.case((_IS_OPEN, 1), else_=0))
        query = sa.select(STUDY.c.study_date, STUDY.c.state, sa.func.count(), n_open)
        query = query.where(STUDY.c.hospital_id == hospital_id).group_by(STUDY.c.study_date, STUDY.c.state)
        by_day: dict[date | None, DayStates] = {}
        with self._ledger.reading() as connection:
            for day, state, n, opened in connection.execute(query):
                before = by_day.get(day, DayStates(day, {}, 0))
                by_day[day] = DayStates(day, {**before.states, state: int(n)}, before.n_open + int(opened))
        return sorted(by_day.values(), key=lambda one: (one.day is None, one.day or date.min))

    def n_open(self, hospital_id: str, window: Window | None) -> int:
        """Studies of a window (None: without a date) of which something is still to be fetched."""
        with self._ledger.reading() as connection:
            return _n_open(connection, hospital_id, window)

    def n_offline(self, hospital_id: str, window: Window) -> int:
        """Studies of a window that the node has to bring from tape first."""
        days = (one for one in self.days(hospital_id) if one.day and window.start <= one.day <= window.end)
        return sum(one.states.get(StudyState.OFFLINE, 0) for one in days)

    def undated(self, hospital_id: str) -> list[tuple[str, int | None]]:
        """UID and expected instances of the studies without a date."""
        query = sa.select(STUDY.c.study_uid, STUDY.c.n_expected).where(STUDY.c.hospital_id == hospital_id, _dated(None))
        with self._ledger.reading() as connection:
            return [(uid, n) for uid, n in connection.execute(query.order_by(STUDY.c.study_uid))]

    def reasons(self, hospital_id: str) -> list[tuple[str, str, int]]:
        """(state, reason, studies) of what did not become complete."""
        where = (STUDY.c.hospital_id == hospital_id, STUDY.c.reason != "")
        query = sa.select(STUDY.c.state, STUDY.c.reason, sa.func.count()).where(*where)
        with self._ledger.reading() as connection:
            rows = connection.execute(query.group_by(STUDY.c.state, STUDY.c.reason))
            return [(state, reason, int(n)) for state, reason, n in rows]

    # the plan

    def keep(
        self,
        hospital_id: str,
        days: Iterable[PlannedDay],
        *,
        window: Window,
        undated: PlannedWindow | None,
        undated_trouble: str,
        list_limit: int | None,
        now: datetime,
    ) -> None:
        """Replace the plan of a range of dates; what is planned outside of it stays, all in one transaction."""
        listed = [day for day in days if day.n_studies]
        planned = plan_windows(listed, window=window)
        table, here = BACKFILL_WINDOW, BACKFILL_WINDOW.c.hospital_id == hospital_id
        overlaps = sa.and_(here, table.c.first_day <= window.end, table.c.last_day >= window.start)
        with self._ledger.writing() as connection:
            old = connection.execute(sa.select(table.c.first_day, table.c.last_day).where(overlaps))
            for part in remainders([Window(first, last) for first, last in old], without=window):
                planned += plan_windows(_days(connection, hospital_id, part), window=part)
            connection.execute(table.delete().where(overlaps))
            in_range = BACKFILL_DAY.c.study_day.between(window.start, window.end)
            connection.execute(BACKFILL_DAY.delete().where(BACKFILL_DAY.c.hospital_id == hospital_id, in_range))
            if listed:
                rows = [{"hospital_id": hospital_id, **_day_row(day)} for day in listed]
                connection.execute(BACKFILL_DAY.insert(), rows)
            if undated is not None:
                connection.execute(table.delete().where(here, table.c.name == undated.name))
                planned += [undated] if undated.n_studies else []
            for one in planned:
                done_at = None if _n_open(connection, hospital_id, one.window) else now
                connection.execute(table.insert().values(hospital_id=hospital_id, done_at=done_at, **_window_row(one)))
            values = {"listed_at": now, "list_limit": list_limit, "undated_trouble": undated_trouble}
            if undated is not None:
                values["n_undated"] = undated.n_studies
            _put(connection, BACKFILL_HOSPITAL, {"hospital_id": hospital_id}, values)

    def windows(self, hospital_id: str) -> list[KeptWindow]:
        """Oldest first; the one of studies without a date last."""
        table = BACKFILL_WINDOW
        query = sa.select(table).where(table.c.hospital_id == hospital_id)
        with self._ledger.reading() as connection:
            rows = [_kept(row) for row in connection.execute(query).mappings()]
        return sorted(rows, key=lambda one: (one.plan.window is None, one.plan.name))

    def listed_days(self, hospital_id: str) -> dict[date, PlannedDay]:
        with self._ledger.reading() as connection:
            return {day.day: day for day in _days(connection, hospital_id, Window(date.min, date.max))}

    def hospital(self, hospital_id: str) -> dict[str, Any]:
        """The row of a hospital; empty when nothing was planned or paused."""
        query = sa.select(BACKFILL_HOSPITAL).where(BACKFILL_HOSPITAL.c.hospital_id == hospital_id)
        with self._ledger.reading() as connection:
            row = connection.execute(query).mappings().first()
        return dict(row) if row else {}

    def planned_hospitals(self) -> list[str]:
        with self._ledger.reading() as connection:
            query = sa.select(BACKFILL_WINDOW.c.hospital_id).distinct().order_by(BACKFILL_WINDOW.c.hospital_id)
            return list(connection.execute(query).scalars())

    # running and pausing

    def begin(self, hospital_id: str, name: str, *, now: datetime) -> None:
        self._update_window(hospital_id, name, attempts=BACKFILL_WINDOW.c.attempts + 1, begun_at=now)

    def end(self, hospital_id: str, name: str, *, done_at: datetime | None, trouble: str) -> None:
        """Enter how an attempt ended; `done_at` is None when something is still to be fetched."""
        self._update_window(hospital_id, name, done_at=done_at, trouble=trouble)

    def _update_window(self, hospital_id: str, name: str, **values: Any) -> None:
        table = BACKFILL_WINDOW
        with self._ledger.writing() as connection:
            where = (table.c.hospital_id == hospital_id, table.c.name == name)
            connection.execute(table.update().where(*where).values(**values))

    def pause(self, hospital_id: str, *, now: datetime) -> None:
        with self._ledger.writing() as connection:
            _put(connection, BACKFILL_HOSPITAL, {"hospital_id": hospital_id}, {"paused_at": now})

    def resume(self, hospital_id: str) -> None:
        with self._ledger.writing() as connection:
            _put(connection, BACKFILL_HOSPITAL, {"hospital_id": hospital_id}, {"paused_at": None})

    def is_paused(self, hospital_id: str) -> bool:
        return self.hospital(hospital_id).get("paused_at") is not None

    def count(self, hospital_id: str, *, n_studies: int, stored_bytes: int, seconds: float, now: datetime) -> None:
        """Add to what was done in this hour."""
        done = {"n_studies": n_studies, "stored_bytes": stored_bytes, "seconds": seconds}
        key = {"hospital_id": hospital_id, "hour": now.replace(minute=0, second=0, microsecond=0)}
        with self._ledger.writing() as connection:
            values = {name: BACKFILL_HOUR.c[name] + value for name, value in done.items()}
            _put(connection, BACKFILL_HOUR, key, values, first=done)

    def done_since(self, hospital_id: str, since: datetime) -> tuple[int, int, float]:
        """Studies, bytes and seconds of work since an instant."""
        table = BACKFILL_HOUR
        sums = [sa.func.coalesce(sa.func.sum(table.c[name]), 0) for name in ("n_studies", "stored_bytes", "seconds")]
        query = sa.select(*sums).where(table.c.hospital_id == hospital_id, table.c.hour >= since)
        with self._ledger.reading() as connection:
            done = tuple(connection.execute(query).one())
        return int(done[0]), int(done[1]), float(done[2])


def _dated(window: Window | None) -> sa.ColumnElement[bool]:
    if window is None:
        return STUDY.c.study_date.is_(None)
    return STUDY.c.study_date.between(window.start, window.end)


def _days(connection: sa.Connection, hospital_id: str, window: Window) -> list[PlannedDay]:
    table = BACKFILL_DAY
    query = sa.select(table).where(table.c.hospital_id == hospital_id)
    query = query.where(table.c.study_day.between(window.start, window.end)).order_by(table.c.study_day)
    names = ("n_studies", "n_instances", "n_open", "open_bytes", "is_doubtful")
    rows = connection.execute(query).mappings()
    return [PlannedDay(day=row["study_day"], **{name: row[name] for name in names}) for row in rows]


def _day_row(day: PlannedDay) -> dict[str, Any]:
    return {
        "study_day": day.day,
        "n_studies": day.n_studies,
        "n_instances": day.n_instances,
        "n_open": day.n_open,
        "open_bytes": day.open_bytes,
        "is_doubtful": day.is_doubtful,
    }


def _n_open(connection: sa.Connection, hospital_id: str, window: Window | None) -> int:
    query = sa.select(sa.func.count()).where(STUDY.c.hospital_id == hospital_id, _IS_OPEN, _dated(window))
    return int(connection.execute(query).scalar_one())


def _window_row(plan: PlannedWindow) -> dict[str, Any]:
    return {
        "name": plan.name,
        "first_day": plan.window and plan.window.start,
        "last_day": plan.window and plan.window.end,
        "n_studies": plan.n_studies,
        "n_instances": plan.n_instances,
        "n_open": plan.n_open,
        "open_bytes": plan.open_bytes,
        "is_doubtful": plan.is_doubtful,
    }


def _kept(row: sa.RowMapping) -> KeptWindow:
    first, last = row["first_day"], row["last_day"]
    plan = PlannedWindow(
        name=row["name"],
        window=None if first is None else Window(first, last),
        n_studies=row["n_studies"],
        n_instances=row["n_instances"],
        n_open=row["n_open"],
        open_bytes=row["open_bytes"],
        is_doubtful=row["is_doubtful"],
    )
    return KeptWindow(plan, row["attempts"], row["begun_at"], row["done_at"], row["trouble"])


def _put(
    connection: sa.Connection,
    table: sa.Table,
    key: dict[str, Any],
    values: dict[str, Any],
    *,
    first: dict[str, Any] | None = None,
) -> None:
    """Change the row of a key, or make it (`first`: with these values)."""
    where = [table.c[name] == value for name, value in key.items()]
    if connection.execute(table.update().where(*where).values(**values)).rowcount == 0:
        connection.execute(table.insert().values(**key, **(first or values)))
