"""What `radlake status` tells: read from the ledger and from the published ops tables, nothing is changed.

Counts of studies come by the index of their state, all else from tables with a row a hospital or a run, so that the
time it takes grows with hospitals and not with studies.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from statistics import median
from typing import Any

import sqlalchemy as sa

from radlake.config import Settings
from radlake.harvest.courtesy import NodeState, load_states
from radlake.harvest.courtesy.breaker import Phase
from radlake.lake import Lake, duck
from radlake.lake.evidence import StudyState
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import BACKFILL_HOSPITAL, BACKFILL_HOUR, BACKFILL_WINDOW, STUDY

__all__ = ["RUN_STATES", "Backfill", "LastHour", "Status", "read_status"]

RUN_STATES = ("working", "resting", "failed", "well", "never harvested")
_WORKING = timedelta(hours=1)  # a study that was begun before is one that a dead run left


@dataclass(frozen=True)
class LastHour:
    """Runs that ended in the last hour, and what they brought."""

    n_runs: int = 0
    n_failed: int = 0
    n_studies: int = 0
    n_instances: int = 0
    stored_bytes: int = 0


@dataclass(frozen=True)
class Backfill:
    """All planned windows. `n_studies` and `n_studies_done` are those that nodes listed, in all and in done windows."""

    n_hospitals: int = 0
    n_paused: int = 0
    n_windows: int = 0
    n_windows_done: int = 0
    n_windows_troubled: int = 0
    n_studies: int = 0
    n_studies_done: int = 0
    studies_last_hour: int = 0
    bytes_last_hour: int = 0


@dataclass(frozen=True)
class Lag:
    """Of ops.lag, which `radlake board --publish` fills; None and empty when nobody did."""

    published_at: datetime | None = None
    n_late: int = 0
    median_p95_hours: float | None = None
    worst_p95_hours: float | None = None
    worst_hospital: str = ""
    dark: tuple[str, ...] = ()


@dataclass(frozen=True)
class Status:
    """How the lake and its hospitals are; instants are in UTC.

    Attributes
    ----------
    hospitals : mapping of str to int
        By `RUN_STATES`.
    under_way : mapping of str to int
        Studies that were begun in the last hour and are not settled, by hospital.
    n_left_behind : int
        Studies that were begun before that: their run died, the next one takes them up.
    failed : mapping of str to str
        Class of the error that ended a hospital's last run.
    breakers : mapping of str to str
        Nodes whose circuit breaker is not closed.
    n_certified : int
        Hospitals with a certificate of `certified_day`, the last day that there is one of.
    free_bytes, disk_bytes : int
        Of the disk of the restricted zone.
    """

    at: datetime
    hospitals: Mapping[str, int]
    studies: Mapping[str, int]
    under_way: Mapping[str, int]
    n_left_behind: int
    last_hour: LastHour
    quarantine: Mapping[str, int]
    failed: Mapping[str, str]
    breakers: Mapping[str, str]
    backfill: Backfill
    lag: Lag
    certified_day: date | None
    n_certified: int
    n_disagreeing: int
    free_bytes: int
    disk_bytes: int

    @property
    def backlog(self) -> int:
        """Studies that are known and of which nothing is decided yet."""
        return sum(self.studies.get(name, 0) for name in ("discovered", "retrieving", "offline"))

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"backlog": self.backlog}


def read_status(
    settings: Settings, lake: Lake, ledger: Ledger, *, registered: Collection[str], now: datetime
) -> Status:
    """Read it all; `now` is in UTC."""
    ops = _ops(lake, now=now)
    begun = _begun(ledger)
    under_way = Counter(name for name, at in begun if at >= now - _WORKING)
    states = load_states(ledger)
    breakers = _breakers(states)
    failed = {name: error for name, error in ops.last_runs.items() if error}
    names = {*registered, *states, *ops.last_runs, *under_way}
    resting = {name for name, phase in breakers.items() if phase == Phase.OPEN}
    hospitals = Counter(_run_state(name, under_way, resting, ops.last_runs) for name in names)
    held: Counter[str] = Counter()
    for _, reason, n in ledger.held_by_reason():
        held[reason] += n
    disk = shutil.disk_usage(settings.restricted)
    certified_day, n_certified, n_disagreeing = ops.certificates
    return Status(
        at=now,
        hospitals={name: hospitals[name] for name in RUN_STATES},
        studies=_studies(ledger),
        under_way=dict(sorted(under_way.items())),
        n_left_behind=len(begun) - under_way.total(),
        last_hour=ops.last_hour,
        quarantine=dict(held.most_common()),
        failed=dict(sorted(failed.items())),
        breakers=breakers,
        backfill=_backfill(ledger, now=now),
        lag=ops.lag,
        certified_day=certified_day,
        n_certified=n_certified,
        n_disagreeing=n_disagreeing,
        free_bytes=disk.free,
        disk_bytes=disk.total,
    )


def _run_state(name: str, working: Collection[str], resting: Collection[str], last_runs: Mapping[str, str]) -> str:
    if name in working:
        return "working"
    if name in resting:
        return "resting"
    if name not in last_runs:
        return "never harvested"
    return "failed" if last_runs[name] else "well"


def _studies(ledger: Ledger) -> dict[str, int]:
    query = sa.select(STUDY.c.state, sa.func.count()).group_by(STUDY.c.state)
    with ledger.reading() as connection:
        found = {state: int(n) for state, n in connection.execute(query)}
    return {state.value: found.get(state.value, 0) for state in StudyState}


def _begun(ledger: Ledger) -> list[tuple[str, datetime]]:
    """Hospital and last change of each study that is being retrieved."""
    query = sa.select(STUDY.c.hospital_id, STUDY.c.updated_at).where(STUDY.c.state == StudyState.RETRIEVING)
    with ledger.reading() as connection:
        return [(name, at) for name, at in connection.execute(query)]


def _breakers(states: Mapping[str, NodeState]) -> dict[str, str]:
    phases = {name: state.breaker.phase(time.time()) for name, state in sorted(states.items())}
    return {name: phase.value for name, phase in phases.items() if phase is not Phase.CLOSED}


def _backfill(ledger: Ledger, *, now: datetime) -> Backfill:
    window, hour, hospital = BACKFILL_WINDOW.c, BACKFILL_HOUR.c, BACKFILL_HOSPITAL.c
    is_done = window.done_at.is_not(None)

    def total(column: Any) -> sa.ColumnElement[int]:
        return sa.func.coalesce(sa.func.sum(column), 0)

    planned = sa.select(
        sa.func.count(window.hospital_id.distinct()),
        sa.func.count(),
        total(sa.case((is_done, 1), else_=0)),
        total(sa.case((sa.and_(window.trouble != "", ~is_done), 1), else_=0)),
        total(window.n_studies),
        total(sa.case((is_done, window.n_studies), else_=0)),
    )
    since = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    recent = sa.select(total(hour.n_studies), total(hour.stored_bytes)).where(hour.hour >= since)
    paused = sa.select(sa.func.count()).where(hospital.paused_at.is_not(None))
    with ledger.reading() as connection:
        n_hospitals, n_windows, n_done, n_troubled, n_studies, n_studies_done = connection.execute(planned).one()
        n_recent, n_bytes = connection.execute(recent).one()
        n_paused = connection.execute(paused).scalar_one()
    return Backfill(
        n_hospitals=int(n_hospitals),
        n_paused=int(n_paused),
        n_windows=int(n_windows),
        n_windows_done=int(n_done),
        n_windows_troubled=int(n_troubled),
        n_studies=int(n_studies),
        n_studies_done=int(n_studies_done),
        studies_last_hour=int(n_recent),
        bytes_last_hour=int(n_bytes),
    )


@dataclass(frozen=True)
class _Ops:
    """What the published tables tell; `last_runs` has the error class of each hospital's last run, empty if none."""

    last_runs: dict[str, str]
    last_hour: LastHour
    lag: Lag
    certificates: tuple[date | None, int, int]


def _ops(lake: Lake, *, now: datetime) -> _Ops:
    with duck.connect(lake, tables={"ops"}) as connection:

        def rows(sql: str, *values: Any) -> list[tuple[Any, ...]]:
            return connection.execute(sql, values).fetchall()

        [hour] = rows(
            """
            SELECT
                count(*), count(error_class), coalesce(sum(n_studies_complete), 0),
                coalesce(sum(n_instances_stored), 0), coalesce(sum(stored_bytes), 0)
            FROM ops.harvest_run WHERE finished_at >= ?
            """,
            now - timedelta(hours=1),
        )
        [certificates] = rows(
            """
            SELECT max(certificate_day), count(DISTINCT hospital_id), coalesce(count_if(n_studies_disagreeing > 0), 0)
            FROM ops.certificate WHERE certificate_day = (SELECT max(certificate_day) FROM ops.certificate)
            """
        )
        return _Ops(
            last_runs=dict(
                rows(
                    """
                    SELECT hospital_id, arg_max(coalesce(error_class, ''), finished_at)
                    FROM ops.harvest_run GROUP BY hospital_id
                    """
                )
            ),
            last_hour=LastHour(*map(int, hour)),
            lag=_lag(rows("SELECT hospital_id, n_late, p95_hours, is_dark, updated_at FROM ops.lag")),
            certificates=certificates,  # pyright: ignore[reportArgumentType]
        )


def _lag(rows: list[tuple[Any, ...]]) -> Lag:
    if not rows:
        return Lag()
    known = sorted((p95, name) for name, _, p95, _, _ in rows if p95 is not None)
    worst_hours, worst = known[-1] if known else (None, "")
    return Lag(
        published_at=max(at for *_, at in rows),
        n_late=sum(n_late for _, n_late, *_ in rows),
        median_p95_hours=median(p95 for p95, _ in known) if known else None,
        worst_p95_hours=worst_hours,
        worst_hospital=worst,
        dark=tuple(sorted(name for name, _, _, is_dark, _ in rows if is_dark)),
    )
