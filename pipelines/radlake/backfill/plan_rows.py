"""The plan in the ledger's database: days, windows, pauses, and what was done in which hour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from radlake.backfill.known import known_by_day, known_in
from radlake.backfill.windows import PlannedDay, PlannedWindow, plan_windows, remainders
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import BACKFILL_DAY, BACKFILL_HOSPITAL, BACKFILL_HOUR, BACKFILL_WINDOW
from radlake.lake.statements import put_row
from radlake.net import Window

__all__ = ["KeptWindow", "PlanRows"]


@dataclass(frozen=True)
class KeptWindow:
    """A planned window and how far it is."""

    plan: PlannedWindow
    attempts: int = 0
    begun_at: datetime | None = None
    done_at: datetime | None = None
    trouble: str = ""


class PlanRows:
    """Reads and writes of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def keep(
        self,
        hospital_id: str,
        days: Iterable[PlannedDay],
        *,
        window: Window,
        undated: PlannedWindow,
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
                rows = [{"hospital_id": hospital_id, "study_day": day.day, **_figures(vars(day))} for day in listed]
                connection.execute(BACKFILL_DAY.insert(), rows)
            connection.execute(table.delete().where(here, table.c.name == undated.name))
            planned += [undated] if undated.n_studies else []
            if planned:
                known = known_by_day(connection, hospital_id)
                done = {one.name: None if known_in(known, one.window).n_open else now for one in planned}
                rows = [{"hospital_id": hospital_id, "done_at": done[one.name], **_window_row(one)} for one in planned]
                connection.execute(table.insert(), rows)
            values = {"listed_at": now, "list_limit": list_limit, "n_undated": undated.n_studies}
            values["undated_trouble"] = undated_trouble
            put_row(connection, BACKFILL_HOSPITAL, {"hospital_id": hospital_id}, values)

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
            put_row(connection, BACKFILL_HOSPITAL, {"hospital_id": hospital_id}, {"paused_at": now})

    def resume(self, hospital_id: str) -> None:
        with self._ledger.writing() as connection:
            put_row(connection, BACKFILL_HOSPITAL, {"hospital_id": hospital_id}, {"paused_at": None})

    def is_paused(self, hospital_id: str) -> bool:
        return self.hospital(hospital_id).get("paused_at") is not None

    def count(self, hospital_id: str, *, n_studies: int, stored_bytes: int, seconds: float, now: datetime) -> None:
        """Add to what was done in this hour."""
        done = {"n_studies": n_studies, "stored_bytes": stored_bytes, "seconds": seconds}
        key = {"hospital_id": hospital_id, "hour": now.replace(minute=0, second=0, microsecond=0)}
        with self._ledger.writing() as connection:
            values = {name: BACKFILL_HOUR.c[name] + value for name, value in done.items()}
            put_row(connection, BACKFILL_HOUR, key, values, first=done)

    def done_since(self, hospital_id: str, since: datetime) -> tuple[int, int, float]:
        """Studies, bytes and seconds of work since an instant."""
        table = BACKFILL_HOUR
        sums = [sa.func.coalesce(sa.func.sum(table.c[name]), 0) for name in ("n_studies", "stored_bytes", "seconds")]
        query = sa.select(*sums).where(table.c.hospital_id == hospital_id, table.c.hour >= since)
        with self._ledger.reading() as connection:
            done = tuple(connection.execute(query).one())
        return int(done[0]), int(done[1]), float(done[2])


def _days(connection: sa.Connection, hospital_id: str, window: Window) -> list[PlannedDay]:
    table = BACKFILL_DAY
    query = sa.select(table).where(table.c.hospital_id == hospital_id)
    query = query.where(table.c.study_day.between(window.start, window.end)).order_by(table.c.study_day)
    rows = connection.execute(query).mappings()
    return [PlannedDay(day=row["study_day"], **_figures(row)) for row in rows]


def _figures(of: Mapping[str, Any] | sa.RowMapping) -> dict[str, Any]:
    """What days and windows have in common."""
    return {name: of[name] for name in ("n_studies", "n_instances", "n_open", "open_bytes", "is_doubtful")}


def _window_row(plan: PlannedWindow) -> dict[str, Any]:
    return {
        "name": plan.name,
        "first_day": plan.window and plan.window.start,
        "last_day": plan.window and plan.window.end,
        **_figures(vars(plan)),
    }


def _kept(row: sa.RowMapping) -> KeptWindow:
    window = None if row["first_day"] is None else Window(row["first_day"], row["last_day"])
    plan = PlannedWindow(name=row["name"], window=window, **_figures(row))
    return KeptWindow(plan, row["attempts"], row["begun_at"], row["done_at"], row["trouble"])
