"""The quality page by day: a day is China's, and choosing one narrows everything to it."""

from __future__ import annotations

from datetime import datetime

from radlake.web.figures import quality
from radlake.web.snapshot import take_snapshot
from radlake.web.view import View
from support.weblake import copy_of


def check(batch: str, at: datetime, *, is_success: bool = True) -> dict:
    return {
        "batch_id": batch, "checked_table": "dicom.study", "expectation": "expect_x", "checked_column": "n_instances",
        "is_success": is_success, "n_rows": 10, "n_failed": 0 if is_success else 2, "detail": "", "checked_at": at,
    }  # fmt: skip


def test_a_day_is_chinas_and_the_newest_comes_first() -> None:
    lake = copy_of(
        ops_quality=[
            check("a", datetime(2026, 3, 1, 15, 59)),
            check("b", datetime(2026, 3, 1, 16, 0), is_success=False),
            check("c", datetime(2026, 3, 2, 1, 0)),
        ]
    )
    snapshot = take_snapshot(lake)
    assert snapshot.days == ("2026-03-02", "2026-03-01")
    assert quality.days(snapshot, View()).rows == [
        ("2026-03-02", 2, 2, 1, 0.5, 20, 2),
        ("2026-03-01", 1, 1, 0, 1.0, 10, 0),
    ]
    view = View.from_query({"day": "2026-03-01"}, snapshot=snapshot)
    assert quality.failures(snapshot, view).rows == []
    assert quality.total(snapshot, view) == {"n_batches": 1, "n_checks": 1, "n_failed_checks": 0, "passed_share": 1.0}
    assert [row[3] for row in quality.checks(snapshot, View()).rows] == [3]
