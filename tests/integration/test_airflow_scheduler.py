"""The real scheduler: `radlake airflow`, a harvest triggered over REST, a build that its asset starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from radlake.config import Settings
from radlake.lake import Lake, duck
from support import airflow
from support.airflow import Page

pytestmark = pytest.mark.airflow

RUN = "dags/harvest_studies/dagRuns/by_test"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return airflow.province(tmp_path_factory.mktemp("scheduler"), workers=1)


@pytest.fixture(scope="module")
def page(settings: Settings) -> Iterator[Page]:
    with airflow.running(settings, home=Path(settings.lake).parent / "airflow") as page:
        yield page


def test_harvest_then_build(page: Page, settings: Settings) -> None:
    """One test, since each step needs the one before and starting Airflow costs half a minute."""
    names = {path.stem for path in airflow.DAGS.glob("*.py")}
    page.wait(lambda: page.get("dags")["total_entries"] == len(names))
    assert {dag["dag_id"]: dag["is_paused"] for dag in page.get("dags")["dags"]} == dict.fromkeys(names, True)
    for name, password in page.passwords.items():
        assert f"{name} " in page.said
        assert password in page.said

    trigger = {"dag_run_id": "by_test", "logical_date": "2026-03-02T02:00:00+08:00"}
    assert page.ask("POST", "dags/harvest_studies/dagRuns", user="analyst", json=trigger).status_code == 403
    page.ask("POST", "dags/harvest_studies/dagRuns", json=trigger).raise_for_status()
    page.ask("PATCH", "dags", params={"dag_id_pattern": "%"}, json={"is_paused": False}).raise_for_status()

    page.wait(lambda: page.get(RUN)["state"] == "success")
    tasks = page.get(f"{RUN}/taskInstances")["task_instances"]
    assert sorted(task["rendered_map_index"] for task in tasks if task["task_id"] == "harvest") == ["h1", "h2"]
    log = page.get(f"{RUN}/taskInstances/harvest/logs/1", params={"map_index": 0})
    assert "harvest_finished" in str(log)

    builds = page.wait(lambda: page.get("dags/build_lake/dagRuns", params={"state": "success"})["dag_runs"])
    assert {build["run_type"] for build in builds} == {"asset_triggered"}
    active = {"state": ["queued", "running"]}
    page.wait(lambda: page.get("dags/~/dagRuns", params=active)["total_entries"] == 0)
    with duck.connect(Lake.from_settings(settings)) as connection:
        assert connection.execute("SELECT count(*) FROM core.exam").fetchall() == [(2,)]
    assert airflow.leaks(Path(settings.lake).parent / "airflow") == []
