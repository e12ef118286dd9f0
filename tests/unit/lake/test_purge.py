"""Purge: neither old versions nor the log tell a row that went, and what they tell of others stays."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from radlake.contracts import load_table
from radlake.lake import Lake, duck
from radlake.lake.purge import log_files, purge
from radlake.lake.tables import TableStore
from support.rows import rows

TABLE = load_table("core.exam")


def log_of(store: TableStore) -> str:
    return "".join(
        store.store.read(name, offset=0, length=store.store.size(name) or 0).decode(errors="replace")
        for name in log_files(store, TABLE)
    )


@pytest.mark.parametrize("is_vacuumed", [False, True], ids=["old files are there", "old files are gone"])
def test_no_limit_that_a_row_set_is_left_in_the_log(tmp_path: Path, is_vacuumed: bool) -> None:
    """Of columns that nobody named to the purge too: an exam is told by its own number."""
    lake = Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")
    for name, keys in {"first": (1, 2), "second": (3, 4)}.items():
        told = [{"exam_pseudo_id": f"exam-{key}", "patient_key": key} for key in keys]
        lake.tables.commit_batch(TABLE, rows("core.exam", *told), batch_id=name)
    if is_vacuumed:
        lake.tables.compact(TABLE)
        lake.tables.vacuum(TABLE, retention=timedelta(0))
    assert "exam-1" in log_of(lake.tables)
    purge(lake.tables, TABLE, {"patient_key": [1]}, name="withdrawal", day="2026-11-23")
    log = log_of(lake.tables)
    assert "exam-1" not in log
    assert is_vacuumed or "exam-3" in log
    with duck.connect(lake) as connection:
        told = connection.sql("SELECT exam_pseudo_id FROM core.exam ORDER BY 1").fetchall()
    assert told == [("exam-2",), ("exam-3",), ("exam-4",)]
