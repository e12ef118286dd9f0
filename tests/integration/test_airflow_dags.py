"""The DAGs of a night, run by Airflow itself over hospitals that are folders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from radlake.config import Settings
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from support import airflow

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Four hospitals: two with a study each, one whose folder is gone, one that someone else is harvesting."""
    folder = tmp_path_factory.mktemp("dags")
    settings = airflow.province(folder)
    airflow.register(settings, {name: folder / name for name in ("h1", "h2", "gone", "busy")})
    (folder / "busy").mkdir()
    return settings


@pytest.fixture(scope="module")
def home(settings: Settings) -> Path:
    return Path(settings.lake).parent / "airflow"


@pytest.fixture(scope="module")
def runs(settings: Settings, home: Path) -> Iterator[dict[str, Any]]:
    with closing(Ledger(settings.ledger)) as ledger, ledger.lock("busy"):
        yield airflow.probe("run", settings=settings, home=home)["runs"]


def test_each_hospital_is_harvested_by_a_task_of_its_name(runs: dict[str, Any]) -> None:
    tasks = {task["label"]: task["state"] for task in runs["harvest_studies"]["tasks"].values() if task["label"]}
    assert tasks == {"h1": "success", "h2": "success", "gone": "failed", "busy": "failed"}


def test_a_failed_hospital_fails_the_run(runs: dict[str, Any]) -> None:
    assert runs["harvest_studies"]["state"] == "failed"


def test_only_what_may_work_later_is_tried_again(runs: dict[str, Any]) -> None:
    tries = {task["label"]: task["tries"] for task in runs["harvest_studies"]["tasks"].values()}
    assert (tries["gone"], tries["busy"]) == (1, 2)


def test_tasks_hand_on_counts_only(runs: dict[str, Any]) -> None:
    returned = {
        value["hospital_id"]: value for key, value in runs["harvest_studies"]["xcoms"].items() if "harvest" in key
    }
    assert returned["h1"] == {
        "hospital_id": "h1",
        "from": "2026-02-26",
        "to": "2026-03-01",
        "studies_found": 1,
        "studies_complete": 1,
        "studies_partial": 0,
        "studies_quarantined": 0,
        "studies_left": 0,
        "instances_stored": 3,
        "instances_quarantined": 0,
        "instances_duplicate": 0,
        "files_not_dicom": 0,
        "stored_bytes": returned["h1"]["stored_bytes"],
        "quarantine_by_reason": {},
        "deidentified_by": {"by template": 2, "read in full": 1},
        "studies_offline": 0,
    }
    assert set(returned) == {"h1", "h2"}


def test_the_build_counts_the_exams(runs: dict[str, Any], settings: Settings) -> None:
    assert runs["build_lake"]["state"] == "success"
    assert runs["build_lake"]["xcoms"]["build[-1]"]["core.exam"] == 2
    with duck.connect(Lake.from_settings(settings)) as connection:
        assert connection.execute("SELECT count(*) FROM core.exam").fetchall() == [(2,)]


def test_what_a_check_warns_of_is_red(runs: dict[str, Any], home: Path) -> None:
    assert runs["check_quality"]["state"] == "failed"
    told = (home / "probe.log").read_text(encoding="utf-8").partition("QualityLow: ")[2]
    assert told.startswith("Somebody must look at 1 problems:\n  - stats.exam_rate_v1 warned: a region and year")


def test_the_night_is_certified_and_nothing_has_expired(runs: dict[str, Any]) -> None:
    assert runs["certify_lake"]["state"] == "success"
    certified = runs["certify_lake"]["xcoms"]["certify[-1]"]
    assert certified == {
        "n_hospitals": 2,
        "n_studies": 2,
        "n_complete": 2,
        "n_instances_expected": 4,
        "n_instances_stored": 4,
        "n_instances_catalogued": 4,
    }
    assert runs["retain_studies"]["xcoms"]["retain[-1]"] == {"n_due": 0, "n_held": 0, "n_removed": 0}


def test_the_lag_is_published(runs: dict[str, Any]) -> None:
    assert runs["publish_lag"]["state"] == "success"
    assert set(runs["publish_lag"]["xcoms"]["publish[-1]"]) == {"n_hospitals", "n_waiting", "n_late", "n_dark"}


def test_the_night_ends_with_a_tidy_lake(runs: dict[str, Any]) -> None:
    assert runs["tidy_lake"]["state"] == "success"
    assert set(runs["tidy_lake"]["xcoms"]["tidy[-1]"]) == {"n_months", "n_files"}


def test_airflow_keeps_nothing_that_identifies_a_patient(runs: dict[str, Any], home: Path) -> None:
    assert (home / "probe.log").is_file()
    assert airflow.leaks(home) == []
