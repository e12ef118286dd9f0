"""Several processes write one table, some of them die: nothing is lost, doubled or torn."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from radlake.lake import Lake, duck
from support.rows import rows
from support.writers import MOMENTS, at_once, commit, killed_at

EXAM = "core.exam"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")


def batch(name: str, n: int = 50, **more: object) -> pa.Table:
    return rows(EXAM, *({"exam_pseudo_id": f"{name}-{i}", "study_month": 202601 + i % 3, **more} for i in range(n)))


def exams(lake: Lake) -> list[tuple[int, int]]:
    """Rows, and different exams among them."""
    with duck.connect(lake) as connection:
        return connection.execute("SELECT count(*), count(DISTINCT exam_pseudo_id) FROM core.exam").fetchall()


def test_different_batches_at_once_are_all_there(lake: Lake):
    calls = [(commit, (lake, EXAM, batch(f"b{i}"), f"b{i}")) for i in range(3)]
    assert at_once(calls) == [True] * 3
    assert exams(lake) == [(150, 150)]


def test_the_same_batch_at_once_is_there_once(lake: Lake):
    calls = [(commit, (lake, EXAM, batch("b"), "b")) for _ in range(3)]
    assert sorted(at_once(calls)) == [False, False, True]
    assert exams(lake) == [(50, 50)]
    assert len(list(Path(lake.tables.root).rglob("*.parquet"))) == 3, "the losers take their files away"


def test_replacements_of_the_same_rows_at_once_leave_one_of_each(lake: Lake):
    commit(lake, EXAM, batch("b"), "b")
    keys = batch("b").select(["exam_pseudo_id"])
    calls = [(commit, (lake, EXAM, batch("b", n_series=2 + i), f"r{i}", keys)) for i in range(3)]
    assert at_once(calls) == [True] * 3
    assert exams(lake) == [(50, 50)]
    with duck.connect(lake) as connection:
        versions = connection.execute("SELECT DISTINCT n_series FROM core.exam").fetchall()
    assert len(versions) == 1, "rows of one batch are never mixed with rows of another"


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_writer_that_is_killed_loses_nothing_and_the_same_batch_can_be_run_again(lake: Lake, moment: str):
    commit(lake, EXAM, batch("a"), "a")
    keys = batch("a", 10).select(["exam_pseudo_id"])
    with killed_at(MOMENTS[moment], commit, lake, EXAM, batch("b"), "b", keys):
        is_done = moment == "the commit is done"
        assert exams(lake) == ([(90, 90)] if is_done else [(50, 50)])
        assert commit(lake, EXAM, batch("b"), "b", keys) is not is_done
        assert exams(lake) == [(90, 90)]
