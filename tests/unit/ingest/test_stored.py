"""What a forecast begins with, and what a build publishes of storage."""

from __future__ import annotations

from contextlib import closing
from datetime import date, datetime
from pathlib import Path

from radlake.ingest.stored import PLAN_YEARS, monthly_bytes, publish_storage
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from support.rows import rows


def test_months_that_have_only_begun_are_left_out(tmp_path: Path) -> None:
    lake = Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")
    volume = [
        {"exam_month": month, "hospital_id": hospital, "modality_group": modality, "exam_bytes": n_bytes}
        for month, hospital, modality, n_bytes in (
            ("2026-01", "all", "all", 1),  # the first
            ("2026-02", "all", "all", 20),
            ("2026-02", "h1", "all", 5),
            ("2026-02", "all", "CT", 6),
            ("2026-03", "all", "all", 0),
            ("2026-04", "all", "all", 30),
            ("2026-05", "all", "all", 7),  # has begun
            ("all", "all", "all", 69),
            ("unknown", "all", "all", 8),
        )
    ]
    lake.restricted_tables.overwrite("stats.exam_volume", rows("stats.exam_volume", *volume), batch_id="volume")
    assert monthly_bytes(lake, before=date(2026, 5, 20)) == {(2026, 2): 20, (2026, 4): 30}


def published(tmp_path: Path, *, n_months: int) -> list[tuple]:
    """ops.storage of a lake to which the same came in each of its last whole months; no study is stored."""
    lake = Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")
    lake.restricted.mkdir()
    months = [f"{number // 12}-{number % 12 + 1:02d}" for number in range(2026 * 12 + 4 - n_months, 2026 * 12 + 5)]
    volume = [
        {"exam_month": month, "hospital_id": "all", "modality_group": "all", "exam_bytes": 10**9} for month in months
    ]
    lake.restricted_tables.overwrite("stats.exam_volume", rows("stats.exam_volume", *volume), batch_id="volume")
    with closing(Ledger(f"sqlite:///{lake.restricted / 'ledger.db'}")) as ledger:
        publish_storage(lake, ledger, now=datetime(2026, 6, 20))
    with duck.connect(lake, tables=["ops.storage"]) as connection:
        return connection.execute(
            "SELECT plan_year, n_bytes, cost_fen, coming_bytes, coming_low_bytes, coming_high_bytes FROM ops.storage "
            "WHERE tier = 'all' ORDER BY 1"
        ).fetchall()


def test_storage_of_the_next_years_is_published_with_limits(tmp_path: Path) -> None:
    found = published(tmp_path, n_months=14)
    assert [row[0] for row in found] == [str(2026 + n) for n in range(PLAN_YEARS)]
    assert all(low <= coming <= high for _, _, _, coming, low, high in found)
    assert abs(found[3][3] - 12 * 10**9) < 10**8
    assert [row[1] for row in found] == sorted(row[1] for row in found)  # nothing expires in the first years
    assert found[0][2] < found[-1][2]


def test_short_history_is_no_forecast(tmp_path: Path) -> None:
    assert published(tmp_path, n_months=4) == [(str(2026 + n), 0, 0, None, None, None) for n in range(PLAN_YEARS)]
