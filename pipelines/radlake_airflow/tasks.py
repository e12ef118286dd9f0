"""What the tasks of the DAGs call: settings from the environment, one call of the library, counts back.

XCom is readable by every user of Airflow: keys and counts only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import date, datetime, timedelta
from typing import Any, Protocol

from radlake import log
from radlake.config import Settings
from radlake.errors import ConfigInvalid, LedgerBusy, PermanentError, SourceMissing
from radlake.machine import SHANGHAI, shanghai_day, utc_now
from radlake.net import DimseNode, WebNode, Window, load_hospitals

__all__ = [
    "CertificateBroken",
    "ExpiryRefused",
    "askable_hospital_ids",
    "backfill",
    "build",
    "certify",
    "harvest",
    "hospital_ids",
    "publish_board",
    "quality",
    "retain",
    "tidy",
    "window_from_params",
    "window_from_run",
]

_TOLD = 50  # problems in a log


class CertificateBroken(PermanentError):
    sentence = (
        "Ledger, history, certificates and catalogue do not say the same, at {n} places:\n{problems}\n"
        "What each means and what to do: docs/how-to/certify-completeness.md."
    )


class ExpiryRefused(PermanentError):
    sentence = (
        "The store keeps {n} objects of expired studies; their tombstones stay open:\n{problems}\n"
        "Trigger this again when their locks are over."
    )


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


def askable_hospital_ids(chosen: Sequence[str] | None) -> list[str]:
    """Hospitals whose node can be asked by study date, or the chosen ones, which must be registered."""
    hospitals = load_hospitals(Settings().hospitals)
    if unknown := sorted(set(chosen or ()) - hospitals.keys()):
        raise ConfigInvalid(
            path="The parameter `hospitals`", problems=[f"{name} is not registered" for name in unknown]
        )
    askable = {name for name, one in hospitals.items() if isinstance(one.node, (DimseNode, WebNode))}
    return sorted(set(chosen) if chosen else askable)


def harvest(hospital_id: str, *, run: Run, look_back_days: int) -> dict[str, Any]:
    """Harvest one hospital for the days of a run; the counts of what came."""
    from radlake.backfill import count_offline
    from radlake.ingest import harvest_hospital

    settings = _settings()
    hospital = load_hospitals(settings.hospitals)[hospital_id]
    window = window_from_run(run, look_back_days=look_back_days)
    done = harvest_hospital(settings, hospital, window=window)
    if done.unreadable:  # their names may tell a patient
        raise SourceMissing(path=f"All the rest is harvested, but of the files of {hospital_id} {len(done.unreadable)}")
    n_offline = count_offline(settings, hospital_id, window)
    return _told(hospital_id, window) | _counts(done.to_json()) | {"studies_offline": n_offline}


def backfill(hospital_id: str, *, run: Run, params: Mapping[str, Any]) -> dict[str, Any]:
    """Plan the days of a run anew and fetch what is missing of them; the counts of what came."""
    from radlake.backfill import backfill_hospital

    window = window_from_params(params) or window_from_run(run, look_back_days=0)
    done = backfill_hospital(_settings(), hospital_id, window)
    return _told(hospital_id, window) | _counts(done) | {"studies_offline": done["n_offline"]}


def build() -> dict[str, int]:
    """Build the core and stats tables; the rows of each."""
    from radlake.ingest.build import build_lake

    return {table.name: table.n_rows for table in build_lake(Settings(), now=utc_now())}


def publish_board() -> dict[str, int]:
    """Publish how far behind hospitals are; how many studies wait or are late, and how many hospitals are dark."""
    from radlake.ingest.ops import boards_of, publish_lag
    from radlake.lake import Lake
    from radlake.lake.ledger import Ledger

    settings, now = Settings(), utc_now()
    with closing(Ledger(settings.ledger)) as ledger:
        boards = boards_of(ledger, load_hospitals(settings.hospitals), now=now)
    publish_lag(Lake.from_settings(settings), boards, now=now)
    return {
        "n_hospitals": len(boards),
        "n_waiting": sum(line.n_waiting for line in boards),
        "n_late": sum(line.n_late for line in boards),
        "n_dark": sum(line.is_dark for line in boards),
    }


def quality(params: Mapping[str, Any]) -> dict[str, int]:
    """Look at what the quality gate held back, at what the checks warned of and at how complete hospitals are.

    Raises
    ------
    QualityLow
    """
    from radlake.lake import Lake
    from radlake.quality.report import judge, report

    since = utc_now() - timedelta(hours=params["hours"])
    return judge(report(Lake.from_settings(Settings()), since=since), min_complete_share=params["min_complete_share"])


def certify() -> dict[str, int]:
    """Issue the certificates of today in Shanghai, then prove the whole chain.

    Raises
    ------
    CertificateBroken
    """
    from itertools import islice

    from radlake.ingest.certify import certify, verify

    settings, now = Settings(), utc_now()
    issued = [one.certificate for one in certify(settings, (), shanghai_day(now), now)]
    found = list(islice(verify(settings), _TOLD + 1))
    if found:
        problems = [f"{one.hospital_id}: {one.where} {one.name}: {one.told}" for one in found[:_TOLD]]
        n = len(found) if len(found) <= _TOLD else f"more than {_TOLD}"
        raise CertificateBroken(n=n, problems=problems)
    return {
        "n_hospitals": len(issued),
        "n_studies": sum(sum(one.studies.values()) for one in issued),
        "n_complete": sum(one.studies["complete"] for one in issued),
        "n_instances_expected": sum(one.expected for one in issued),
        "n_instances_stored": sum(one.stored for one in issued),
        "n_instances_catalogued": sum(one.catalogued for one in issued),
    }


def retain(params: Mapping[str, Any]) -> dict[str, int]:
    """Count the studies whose time is over; remove them when a person said so, and signed it.

    Raises
    ------
    ConfigInvalid
        If they are to be removed and nobody signed.
    ExpiryRefused
    LedgerBusy
        If a hospital is being harvested; the others are done.
    """
    from radlake.expiry import due_studies, expire
    from radlake.lake.retention import RetentionRows
    from radlake.retention import load_schedule
    from radlake.vault.lake_key import open_ledger
    from radlake.vault.trail import Reason

    if params["expire"] and not (params["by"] and params["why"]):
        raise ConfigInvalid(path="`expire`", problems=["it needs `by` and `why`: both are entered in the audit trail"])
    settings, schedule, today = Settings(), load_schedule(), datetime.now(SHANGHAI).date()
    with closing(open_ledger(settings)) as ledger:
        rows = RetentionRows(ledger)
        due = due_studies(rows.kept(), schedule=schedule, today=today)
        told = {"n_due": len(due), "n_held": sum(one.study.is_held for one in due), "n_removed": 0}
        if not params["expire"]:
            return told
        reason = Reason(params["by"], params["why"])
        done = expire(settings, ledger, schedule=schedule, today=today, reason=reason, now=utc_now())
    if done.refused:
        raise ExpiryRefused(n=len(done.refused), problems=[f"{path}: {why}" for path, why in done.refused.items()])
    if done.busy:
        raise LedgerBusy(hospital=", ".join(done.busy))
    return told | {"n_removed": len(done.removed)}


def tidy() -> dict[str, int]:
    """Lay small files out anew and delete what nobody needs; months and files in all."""
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


def window_from_params(params: Mapping[str, Any]) -> Window | None:
    """Study dates that a person gave, or None; one day alone is a range of one day."""
    days = [date.fromisoformat(day) for day in (params["first_day"], params["last_day"]) if day]
    return Window(min(days), max(days)) if days else None


def _told(hospital_id: str, window: Window) -> dict[str, str]:
    return {"hospital_id": hospital_id, "from": str(window.start), "to": str(window.end)}


def _settings() -> Settings:
    """Settings of a task: it does its work itself, or on the Dask cluster of RADLAKE_DASK.

    A worker process would import the program of its parent again, which is Airflow's, and a task's Airflow may not
    see the database. Several hospitals at once are several tasks. Its log is the task's: it tells what was done.
    """
    log.configure(level="info")
    return Settings(workers=0)


def _counts(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if isinstance(value, (int, dict))}
