"""What the tasks of the DAGs call: settings from the environment, one call of the library, counts back.

XCom is readable by every user of Airflow: keys and counts only.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

from radlake.config import Settings
from radlake.errors import SourceMissing
from radlake.machine import utc_now
from radlake.net import Window, load_hospitals

__all__ = ["build", "harvest", "hospital_ids", "tidy", "window_from_run"]

SHANGHAI: Final = ZoneInfo("Asia/Shanghai")


class Run(Protocol):
    """The part of Airflow's DAG run that says what it is about; instants are in UTC."""

    @property
    def data_interval_end(self) -> datetime | None: ...

    @property
    def run_after(self) -> datetime: ...


def hospital_ids() -> list[str]:
    """Hospitals that have a node to harvest; one that only pushes has none."""
    hospitals = load_hospitals(Settings().hospitals)
    return sorted(name for name, hospital in hospitals.items() if hospital.node.kind != "push")


def harvest(hospital_id: str, *, run: Run, look_back_days: int) -> dict[str, Any]:
    """Harvest one hospital for the days of a run; the counts of what came."""
    from radlake.ingest import harvest_hospital

    settings = _settings()
    hospital = load_hospitals(settings.hospitals)[hospital_id]
    window = window_from_run(run, look_back_days=look_back_days)
    done = harvest_hospital(settings, hospital, window=window)
    if done.unreadable:  # their names may tell a patient
        raise SourceMissing(path=f"All the rest is harvested, but of the files of {hospital_id} {len(done.unreadable)}")
    summary = done.to_json()
    return {"hospital_id": hospital_id, "from": str(window.start), "to": str(window.end), **_counts(summary)}


def build() -> dict[str, int]:
    """Build the core and stats tables; the rows of each."""
    from radlake.ingest.build import build_lake

    return {table.name: table.n_rows for table in build_lake(Settings(), now=utc_now())}


def tidy() -> dict[str, int]:
    """Lay small files out anew and delete what nobody needs; months and files in all."""
    from contextlib import closing

    from radlake.lake import Lake
    from radlake.lake.ledger import Ledger
    from radlake.lake.upkeep import tidy as tidy_lake

    settings = Settings()
    with closing(Ledger(settings.ledger)) as ledger:
        done = tidy_lake(Lake.from_settings(settings), ledger=ledger)
    return {"n_months": sum(item.n_months for item in done), "n_files": sum(item.n_files for item in done)}


def window_from_run(run: Run, *, look_back_days: int) -> Window:
    """Study dates that a run harvests: the day that its interval ends, and some days before.

    Airflow's instants are in UTC, study dates are Shanghai's: the interval that ends at 18:00 UTC of the 2nd
    ends at 02:00 of the 3rd, and its day is the 2nd. A run without an interval was started by hand: its last
    day is today.
    """
    if run.data_interval_end is None:
        last = run.run_after.astimezone(SHANGHAI).date()
    else:
        last = run.data_interval_end.astimezone(SHANGHAI).date() - timedelta(days=1)
    return Window(last - timedelta(days=look_back_days), last)


def _settings() -> Settings:
    """Settings of a task: it does its work itself, or on the Dask cluster of RADLAKE_DASK.

    A worker process would import the program of its parent again, which is Airflow's, and a task's Airflow may not
    see the database. Several hospitals at once are several tasks.
    """
    return Settings(workers=0)


def _counts(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if isinstance(value, (int, dict))}
