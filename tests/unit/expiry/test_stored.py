"""What a forecast begins with: whole months of all hospitals."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from radlake.expiry import monthly_bytes
from radlake.lake import Lake
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
