"""The queries of sql/: found, ordered, type-checked; mistakes are told, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlake.errors import ConfigInvalid
from radlake.resources import sql_root
from radlake.sqlrun import load_queries, type_check

VOLUME = (sql_root() / "stats" / "exam_volume_v1" / "query.sql").read_text(encoding="utf-8")


def sql_folder(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_tables_come_after_those_that_they_read() -> None:
    names = [query.name for query in load_queries()]
    assert names[0] == "core.exam"
    assert set(names) == {
        "core.exam",
        "core.exam_dose",
        "stats.cumulative_dose",
        "stats.data_quality",
        "stats.dose",
        "stats.duplicate_exam",
        "stats.exam_rate",
        "stats.exam_volume",
        "stats.film_demand",
        "stats.film_saving",
        "stats.reminder",
        "stats.repeat_dose",
        "stats.report_turnaround",
        "stats.retrieval",
        "stats.upload_compliance",
    }
    for query in load_queries():
        earlier = names[: names.index(query.name)]
        assert query.reads & set(names) <= set(earlier)


def test_what_a_query_and_its_checks_read() -> None:
    reads = {query.name: query.reads for query in load_queries()}
    assert reads["core.exam"] == {"dicom.study", "ref.hospital"}
    assert reads["stats.exam_rate"] == {"core.exam", "ref.population", "ref.region", "restricted.date_offset"}
    assert "stats.exam_volume" in reads["stats.duplicate_exam"]  # a check compares the two


def test_every_query_fits_its_contract() -> None:
    assert type_check() == []


def test_every_table_of_core_and_stats_has_a_query_and_a_failing_check() -> None:
    for query in load_queries():
        assert any(check.severity == "fail" for check in query.checks), query.name


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        pytest.param(
            VOLUME.replace("core.exam.n_instances", "core.exam.n_images"), "n_images", id="a column that does not exist"
        ),
        pytest.param(
            VOLUME.replace("sum(n_exams)::BIGINT", "sum(n_exams)"),
            "column n_exams is HUGEINT, the contract says BIGINT",
            id="another type",
        ),
        pytest.param(
            VOLUME.replace("FALSE AS is_masked", "FALSE AS is_hidden"), "column is_masked is missing", id="another name"
        ),
        pytest.param(
            VOLUME.replace("FALSE AS is_masked", "FALSE AS is_hidden"),
            "column is_hidden is not in the contract",
            id="a column too many",
        ),
        pytest.param("SELECT 1 AS x", "column exam_month is missing", id="another query"),
    ],
)
def test_a_query_that_does_not_fit(tmp_path: Path, query: str, problem: str) -> None:
    problems = type_check(sql_folder(tmp_path, {"stats/exam_volume_v1/query.sql": query}))
    assert any(problem in line and line.startswith("stats.exam_volume_v1: query.sql") for line in problems), problems


def test_columns_in_another_order(tmp_path: Path) -> None:
    swapped = f"SELECT * EXCLUDE (exam_month), exam_month FROM ({VOLUME})"
    problems = type_check(sql_folder(tmp_path, {"stats/exam_volume_v1/query.sql": swapped}))
    assert problems == ["stats.exam_volume_v1: query.sql: the columns are not in the order of the contract"]


def test_a_check_that_does_not_bind(tmp_path: Path) -> None:
    files = {
        "stats/exam_volume_v1/query.sql": VOLUME,
        "stats/exam_volume_v1/checks.sql": "-- fail: no more\nSELECT nothing FROM stats.exam_volume;",
    }
    (problem,) = type_check(sql_folder(tmp_path, files))
    assert problem.startswith("stats.exam_volume_v1: checks.sql: no more:")


def test_all_problems_of_a_folder_at_once(tmp_path: Path) -> None:
    root = sql_folder(
        tmp_path,
        {
            "stats/nothing_v1/query.sql": "SELECT 1",
            "stats/exam_volume_v1/query.sql": "SELECT 1; SELECT 2",
            "stats/exam_rate_v1/query.sql": "SELECT 1 FROM exam",
            "stats/film_saving_v1/query.sql": "DELETE FROM core.exam",
            "stats/duplicate_exam_v1/query.sql": "SELECT 1 FROM core.exam",
            "stats/duplicate_exam_v1/checks.sql": "SELECT 1",
            "core/exam_v1/checks.sql": "",
        },
    )
    with pytest.raises(ConfigInvalid) as caught:
        load_queries(root)
    told = str(caught.value)
    for part in (
        "nothing_v1: there is no contract",
        "exam_volume_v1: holds 2 statements",
        "exam_rate_v1: tables without a schema: exam",
        "film_saving_v1: Only SELECT statements",
        "duplicate_exam_v1: checks.sql: every check begins",
        "core/exam_v1: [Errno 2]",
    ):
        assert part in told, told


def test_tables_that_need_each_other(tmp_path: Path) -> None:
    root = sql_folder(
        tmp_path,
        {
            "stats/exam_volume_v1/query.sql": "SELECT 1 FROM stats.exam_rate",
            "stats/exam_rate_v1/query.sql": "SELECT 1 FROM stats.exam_volume",
        },
    )
    with pytest.raises(ConfigInvalid, match="tables need each other"):
        load_queries(root)
