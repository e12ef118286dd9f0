"""The study dates that a run harvests: days of Shanghai, although Airflow thinks in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

import pytest

from radlake.net import Window
from radlake_airflow.tasks import window_from_run


@dataclass(frozen=True)
class Run:
    run_after: datetime
    data_interval_end: datetime | None = None


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("run", "look_back_days", "first", "last"),
    [
        # 02:00 of the 3rd in Shanghai is 18:00 of the 2nd in UTC: the day that just ended is the 2nd.
        pytest.param(Run(at("2026-11-02T18:00"), at("2026-11-02T18:00")), 0, "2026-11-02", "2026-11-02", id="by night"),
        pytest.param(
            Run(at("2026-11-02T18:05"), at("2026-11-02T18:00")), 3, "2026-10-30", "2026-11-02", id="look back"
        ),
        pytest.param(Run(at("2026-12-31T18:00"), at("2026-12-31T18:00")), 0, "2026-12-31", "2026-12-31", id="new year"),
        # Triggered by hand, at 07:30 of the 3rd in Shanghai.
        pytest.param(Run(at("2026-11-02T23:30")), 0, "2026-11-03", "2026-11-03", id="by hand"),
        pytest.param(Run(at("2026-11-03T15:59")), 30, "2026-10-04", "2026-11-03", id="by hand, a month"),
    ],
)
def test_window(run: Run, look_back_days: int, first: str, last: str) -> None:
    expected = Window(date.fromisoformat(first), date.fromisoformat(last))
    assert window_from_run(run, look_back_days=look_back_days) == expected
