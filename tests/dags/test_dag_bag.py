"""What Airflow makes of the DAG files."""

from __future__ import annotations

from typing import Any

import pytest

from support import airflow

DAGS = sorted(path.stem for path in airflow.DAGS.glob("*.py"))


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bag")
    found = airflow.probe("parse", settings=airflow.province(folder), home=folder / "airflow")
    print(f"\nthe DAG files parsed in {found['seconds'] * 1000:.0f} ms of CPU; each, by the clock:")
    for file, seconds in sorted(found["files"].items()):
        print(f"  {file:<20} {seconds * 1000:6.0f} ms")
    return found


def test_every_file_is_imported(bag: dict[str, Any]) -> None:
    assert bag["errors"] == {}
    assert sorted(bag["dags"]) == DAGS
    assert sorted(bag["files"]) == [f"{dag_id}.py" for dag_id in DAGS]


def test_parsing_imports_nothing_heavy(bag: dict[str, Any]) -> None:
    heavy = {"pydicom", "pandas", "great_expectations", "duckdb", "pyarrow", "deltalake", "numpy", "dask", "s3fs"}
    assert heavy.isdisjoint(bag["imported"])


def test_the_harvest_ends_a_day_of_shanghai_and_never_overlaps_itself(bag: dict[str, Any]) -> None:
    dag = bag["dags"]["harvest_studies"]
    assert (dag["schedule"], dag["timezone"], dag["catchup"], dag["max_active_runs"]) == (
        "0 2 * * *",
        "Asia/Shanghai",
        False,
        1,
    )


def test_a_harvest_starts_a_build(bag: dict[str, Any]) -> None:
    harvest = bag["dags"]["harvest_studies"]["tasks"]["harvest"]
    assert harvest["is_mapped"]
    assert harvest["max_at_once"] == 4
    assert harvest["outlets"] == bag["dags"]["build_lake"]["assets"] == ["radlake://lake/dicom"]
    assert bag["dags"]["build_lake"]["max_active_runs"] == 1


@pytest.mark.parametrize("dag_id", DAGS)
def test_every_dag_is_documented_tagged_and_retried(dag_id: str, bag: dict[str, Any]) -> None:
    dag = bag["dags"][dag_id]
    assert "**Triage**" in dag["doc"]
    assert "radlake" in dag["tags"]
    own = [tag for tag in dag["tags"] if tag != "radlake"]
    assert len(own) == 1
    assert own[0].split()[0].isascii()
    assert not own[0].split()[1].isascii()
    assert {task["retries"] for task in dag["tasks"].values()} == {5}


def test_the_lake_is_tidied_after_the_harvest_of_the_night(bag: dict[str, Any]) -> None:
    dag = bag["dags"]["tidy_lake"]
    assert (dag["schedule"], dag["timezone"], dag["catchup"], dag["max_active_runs"]) == (
        "0 5 * * *",
        "Asia/Shanghai",
        False,
        1,
    )


def test_the_lag_is_published_each_hour(bag: dict[str, Any]) -> None:
    dag = bag["dags"]["publish_lag"]
    assert (dag["schedule"], dag["timezone"], dag["catchup"], dag["max_active_runs"]) == (
        "10 * * * *",
        "Asia/Shanghai",
        False,
        1,
    )


def test_a_build_starts_the_quality_checks_and_the_certificate(bag: dict[str, Any]) -> None:
    assert bag["dags"]["build_lake"]["tasks"]["build"]["outlets"] == ["radlake://lake/stats"]
    assert bag["dags"]["check_quality"]["assets"] == ["radlake://lake/stats"]
    assert bag["dags"]["certify_lake"]["assets"] == ["radlake://lake/stats"]
    assert bag["dags"]["certify_lake"]["schedule"] == "30 23 * * *", "a day without a build has its certificate too"


def test_a_backfill_has_runs_of_whole_days_in_shanghai(bag: dict[str, Any]) -> None:
    dag = bag["dags"]["backfill_studies"]
    assert (dag["schedule"], dag["timezone"], dag["catchup"], dag["max_active_runs"]) == (
        "0 0 * * *",
        "Asia/Shanghai",
        False,
        1,
    )
    assert dag["tasks"]["backfill"]["outlets"] == ["radlake://lake/dicom"]


def test_only_a_person_removes_studies(bag: dict[str, Any]) -> None:
    assert bag["dags"]["retain_studies"]["params"] == {"expire": False, "by": "", "why": ""}
