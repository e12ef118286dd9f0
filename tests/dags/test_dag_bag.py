"""What Airflow makes of the DAG files."""

from __future__ import annotations

from typing import Any

import pytest

from support import airflow


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bag")
    found = airflow.probe("parse", settings=airflow.province(folder), home=folder / "airflow")
    print(f"\nthe DAG files parsed in {found['seconds'] * 1000:.0f} ms of CPU")
    return found


def test_every_file_is_imported(bag: dict[str, Any]) -> None:
    assert bag["errors"] == {}
    assert sorted(bag["dags"]) == ["build_lake", "harvest_studies", "tidy_lake"]


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
    assert harvest["outlets"] == bag["dags"]["build_lake"]["schedule"] == ["radlake://lake/dicom"]
    assert bag["dags"]["build_lake"]["max_active_runs"] == 1


@pytest.mark.parametrize("dag_id", ["build_lake", "harvest_studies", "tidy_lake"])
def test_every_dag_is_documented_tagged_and_retried(dag_id: str, bag: dict[str, Any]) -> None:
    dag = bag["dags"][dag_id]
    assert "**Triage**" in dag["doc"]
    assert "radlake" in dag["tags"]
    assert {task["retries"] for task in dag["tasks"].values()} == {5}


def test_the_lake_is_tidied_after_the_harvest_of_the_night(bag: dict[str, Any]) -> None:
    dag = bag["dags"]["tidy_lake"]
    assert (dag["schedule"], dag["timezone"], dag["catchup"], dag["max_active_runs"]) == (
        "0 5 * * *",
        "Asia/Shanghai",
        False,
        1,
    )
