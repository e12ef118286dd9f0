"""stats.retrieval: who did not get pixels waited longest, and the month is that of Shanghai."""

from __future__ import annotations

from datetime import datetime

import pytest

from support.rows import rows
from support.statistics import tables


def asked(*given: tuple[str, str, float]) -> list[dict]:
    return [
        {"retrieval_id": n, "hospital_id": hospital, "outcome": outcome, "seconds": seconds,
         "asked_at": datetime(2026, 10, 31, 16, n)}
        for n, (hospital, outcome, seconds) in enumerate(given)
    ]  # fmt: skip


def test_failures_count_and_the_quick_ones_do_not_hide_them() -> None:
    given = asked(
        ("h1", "here", 0.01), ("h1", "fetched", 2.0), ("h1", "fetched", 9.0), ("h1", "failed", 0.5),
        ("h2", "gone", 0.1), ("h2", "incomplete", 1.0), ("h2", "fetched", 3.0),
    )  # fmt: skip
    with tables({"ops.retrieval": rows("ops.retrieval", *given)}) as db:
        db.build("stats.retrieval")
        found = {
            hospital: row
            for hospital, *row in db.rows(
                "SELECT hospital_id, n_retrievals, n_failed, n_from_cache, within_3_seconds_share, p50_seconds,"
                " p95_seconds FROM stats.retrieval WHERE retrieval_month = '2026-11'"  # four in the afternoon in UTC
            )
        }
        [(naive,)] = db.rows("SELECT quantile_disc(seconds, 0.5) FROM ops.retrieval WHERE hospital_id = 'h2'")
    assert found["h1"] == [4, 1, 1, 0.5, 2.0, None]
    assert found["h2"] == [3, 2, 0, pytest.approx(1 / 3), None, None]
    assert found["all"] == [7, 3, 1, pytest.approx(3 / 7), 9.0, None]
    assert naive == 1.0  # of a hospital that gives pixels one time in three
