"""The real scheduler, `radlake airflow`: a night through its assets, a node with tape, days that are backfilled.

The tests share one Airflow, since starting it costs half a minute, and follow one another.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from radlake.config import Settings
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from support import airflow
from support.airflow import Page
from support.counting_pacs import CountingPacs, counting_pacs
from support.dicom import image_study, write_all
from support.lakes import states

pytestmark = pytest.mark.airflow

NIGHT = "2026-03-02T02:00:00+08:00"
RUN = "dags/harvest_studies/dagRuns/by_test"
DAYS = [date(2026, 3, 2) + timedelta(days=n) for n in range(4)]
# Two on the first day, none on the second, one on each of the others, and one on the day after them.
STUDIES = [DAYS[0], DAYS[0], DAYS[2], DAYS[3], DAYS[3] + timedelta(days=1)]


def archive(folder: Path, days: list[date]) -> Path:
    """A study of two instances on each of these days."""
    for number, day in enumerate(days):
        study = image_study("CR", n=2, study=number, patient_id=f"P{number}", study_date=day, rows=8, columns=8)
        write_all(study, folder / str(number))
    return folder


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountingPacs]:
    """A PACS with studies of some days, one association and a second for each study."""
    with counting_pacs(archive(tmp_path_factory.mktemp("week"), STUDIES)) as pacs:
        pacs.delay = 1.0
        yield pacs


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountingPacs]:
    """A PACS that has to bring its study from tape: it fails when it is asked first, and comes later."""
    folder = archive(tmp_path_factory.mktemp("tape"), [date(2026, 3, 1)])
    with counting_pacs(folder, offline_one_in=1, offline_asks=1) as pacs:
        yield pacs


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, week: CountingPacs, tape: CountingPacs) -> Settings:
    folder = tmp_path_factory.mktemp("scheduler")
    settings = airflow.province(folder, workers=1)
    nodes = {
        name: {"kind": "dimse", "ae_title": "HIS", "host": "127.0.0.1", "port": pacs.port, "max_associations": 1}
        for name, pacs in (("week", week), ("tape", tape))
    }
    airflow.register(settings, {name: folder / name for name in ("h1", "h2")}, nodes=nodes)
    return settings


@pytest.fixture(scope="module")
def page(settings: Settings) -> Iterator[Page]:
    with airflow.running(settings, home=Path(settings.lake).parent / "airflow") as page:
        yield page


def switch_on(page: Page, *dag_ids: str) -> None:
    for dag_id in dag_ids:
        page.ask("PATCH", f"dags/{dag_id}", json={"is_paused": False}).raise_for_status()


def wait_until_idle(page: Page) -> None:
    """Airflow refuses a backfill (503) while others write to its SQLite."""
    active = {"state": ["queued", "running"]}
    page.wait(lambda: page.get("dags/~/dagRuns", params=active)["total_entries"] == 0)


def tasks_of(page: Page, path: str, **params: Any) -> list[dict[str, Any]]:
    return page.get(f"{path}/taskInstances", params={"limit": 100, **params})["task_instances"]


def states_of(page: Page) -> dict[str, str]:
    return {task["rendered_map_index"]: task["state"] for task in tasks_of(page, RUN) if task["task_id"] == "harvest"}


def test_all_dags_are_there_and_paused(page: Page) -> None:
    names = {path.stem for path in airflow.DAGS.glob("*.py")}
    page.wait(lambda: page.get("dags")["total_entries"] == len(names))
    assert {dag["dag_id"]: dag["is_paused"] for dag in page.get("dags")["dags"]} == dict.fromkeys(names, True)
    assert page.get("importErrors")["import_errors"] == []
    for name, password in page.passwords.items():
        assert f"{name} " in page.said
        assert password in page.said


def test_who_waits_for_tape_holds_no_slot(page: Page, settings: Settings, tape: CountingPacs) -> None:
    trigger = {"dag_run_id": "by_test", "logical_date": NIGHT, "conf": {"ask_again_minutes": 0.4}}
    assert page.ask("POST", "dags/harvest_studies/dagRuns", user="analyst", json=trigger).status_code == 403
    page.ask("POST", "dags/harvest_studies/dagRuns", json=trigger).raise_for_status()
    # A DAG that is paused misses the events of its assets.
    switch_on(page, "build_lake", "certify_lake", "check_quality", "harvest_studies")

    page.wait(lambda: states_of(page).get("tape") == "deferred")
    pool = page.wait(lambda: _pool_while_waiting(page))
    assert (pool["deferred_slots"], pool["occupied_slots"]) == (1, pool["running_slots"] + pool["queued_slots"])
    assert pool["open_slots"] == pool["slots"] - pool["occupied_slots"]
    assert [state for state, _ in states(settings).values()].count("offline") == 1

    page.wait(lambda: page.get(RUN)["state"] == "success")
    assert states_of(page) == dict.fromkeys(("h1", "h2", "tape", "week"), "success")
    assert [task["try_number"] for task in tasks_of(page, RUN) if task["rendered_map_index"] == "tape"] == [1]
    assert len(tape.retrieved) == 2
    assert set(states(settings).values()) == {("complete", "")}
    log = str(page.get(f"{RUN}/taskInstances/harvest/logs/1", params={"map_index": 0}))
    assert "harvest_finished" in log


def _pool_while_waiting(page: Page) -> dict[str, Any]:
    """The pool at an instant at which one task is deferred."""
    pool = page.get("pools/default_pool")
    return pool if pool["deferred_slots"] else {}


def test_a_harvest_is_built_checked_and_certified_through_assets(page: Page, settings: Settings) -> None:
    # No population is loaded here: the build warns of it, and that is red.
    for dag_id, state in {"build_lake": "success", "check_quality": "failed", "certify_lake": "success"}.items():
        path, params = f"dags/{dag_id}/dagRuns", {"state": state}
        runs = page.wait(lambda path=path, params=params: page.get(path, params=params)["dag_runs"])
        assert "asset_triggered" in {run["run_type"] for run in runs}, dag_id

    def answer(query: str) -> list[tuple[Any, ...]]:
        with duck.connect(Lake.from_settings(settings)) as connection:
            return connection.execute(query).fetchall()

    page.wait(lambda: answer("SELECT count(*) FROM core.exam") == [(3,)])
    query = "SELECT hospital_id, n_complete, n_studies_disagreeing FROM ops.certificate"
    page.wait(lambda: {("h1", 1, 0), ("h2", 1, 0), ("tape", 1, 0)} <= set(answer(query)))


def test_days_of_shanghai_survive_a_killed_task(page: Page, settings: Settings, week: CountingPacs) -> None:
    assert week.retrieved == []
    order = {
        "dag_id": "backfill_studies",
        "from_date": "2026-03-02T00:00:00+08:00",
        "to_date": "2026-03-05T23:59:00+08:00",
        "max_active_runs": 1,
        "dag_run_conf": {"hospitals": ["week"]},
    }
    wait_until_idle(page)
    # 503, and 500 where it writes its log, say that Airflow's SQLite is locked by a task that starts.
    answer = page.wait(lambda: None if (said := page.ask("POST", "backfills", json=order)).status_code >= 500 else said)
    backfill = answer.raise_for_status().json()
    switch_on(page, "backfill_studies")
    killed = page.wait(lambda: _kill_one(page, settings))
    page.wait(lambda: page.get(f"backfills/{backfill['id']}")["completed_at"], seconds=500)

    runs = page.get("dags/backfill_studies/dagRuns", params={"limit": 100, "run_type": "backfill"})["dag_runs"]
    assert [run["state"] for run in runs] == ["success"] * len(DAYS)
    done = [task for run in runs for task in tasks_of(page, f"dags/backfill_studies/dagRuns/{run['dag_run_id']}")]
    fetched = [task for task in done if task["task_id"] == "backfill"]
    assert {task["dag_run_id"]: task["try_number"] for task in fetched} == {
        run["dag_run_id"]: 1 + (run["dag_run_id"] == killed) for run in runs
    }
    days = [_returned(page, task)["from"] for task in fetched]
    assert sorted(days) == [str(day) for day in DAYS]
    assert days == [_returned(page, task)["to"] for task in fetched]

    with closing(Ledger(settings.ledger)) as ledger:
        entries = ledger.entries("week")
    assert sorted(entry.study_date for entry in entries if entry.study_date) == sorted(STUDIES[:-1])
    assert {entry.state.value for entry in entries} == {"complete"}
    assert {len(entry.stored) for entry in entries} == {2}
    assert set(week.retrieved) == {entry.study_uid for entry in entries}
    assert len(week.retrieved) <= len(entries) + 1, "at most one study was asked for again"


def _kill_one(page: Page, settings: Settings) -> str:
    """Kill a task that has a study half here; the run that it belongs to."""
    if ("week", "retrieving") not in {(key.partition("/")[0], state) for key, (state, _) in states(settings).items()}:
        return ""
    for task in tasks_of(page, "dags/backfill_studies/dagRuns/~", state="running"):
        if task["task_id"] == "backfill" and task["pid"]:
            os.kill(task["pid"], signal.SIGKILL)
            return task["dag_run_id"]
    return ""


def _returned(page: Page, task: dict[str, Any]) -> dict[str, Any]:
    path = (
        f"dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}/xcomEntries/return_value"
    )
    return page.get(path, params={"map_index": task["map_index"], "deserialize": True})["value"]


def test_what_was_fetched_is_certified_and_airflow_knows_no_patient(page: Page, settings: Settings) -> None:
    def certified() -> bool:
        with duck.connect(Lake.from_settings(settings)) as connection:
            query = "SELECT max(n_complete) FROM ops.certificate WHERE hospital_id = 'week'"
            return connection.execute(query).fetchall() == [(len(STUDIES) - 1,)]

    page.wait(certified)
    wait_until_idle(page)
    failed = page.get("dags/~/dagRuns", params={"state": "failed"})["dag_runs"]
    assert {run["dag_id"] for run in failed} == {"check_quality"}
    assert airflow.leaks(Path(settings.lake).parent / "airflow") == []
