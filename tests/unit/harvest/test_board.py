"""The board of lag: percentiles, who is late, who fell silent, whose clock is wrong."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta

import pytest

from radlake.harvest.board import board_of, poisson_tail
from radlake.lake.study_times import StudyTimes

NOW = datetime(2026, 3, 10, 4)  # Tuesday noon in Shanghai; UTC
HOUR = timedelta(hours=1)


def made(hours_ago: float, *, lag: float | None, seen_after: float = 0.5) -> StudyTimes:
    at = NOW - hours_ago * HOUR
    done = None if lag is None else at + lag * HOUR
    return StudyTimes((at + 8 * HOUR).date(), at, at + seen_after * HOUR, done)


def of_day(day: date, n: int) -> list[StudyTimes]:
    at = datetime(day.year, day.month, day.day, 2)
    return [StudyTimes(day, at, at + HOUR, at + HOUR) for _ in range(n)]


def test_lags_by_nearest_rank() -> None:
    line = board_of("h1", [made(48, lag=hours) for hours in range(1, 11)], now=NOW, days=7)
    assert (line.p50_hours, line.p95_hours, line.p100_hours, line.n_late) == (5, 10, 10, 0)
    assert line.in_time_share == 1.0


def test_a_waiting_study_counts_with_its_age() -> None:
    line = board_of("h1", [made(40, lag=2), made(30, lag=None), made(3, lag=None)], now=NOW, days=7)
    assert (line.n_waiting, line.n_late, line.oldest_waiting_hours, line.p100_hours) == (2, 1, 30.0, 30.0)
    assert line.in_time_share == 0.5  # the one of three hours ago is not due


def test_a_backfill_is_no_lag() -> None:
    line = board_of("h1", [made(24 * 400, lag=24 * 399), made(5, lag=1)], now=NOW, days=7)
    assert (line.n_studies, line.p100_hours) == (1, 1.0)


@pytest.mark.parametrize(("yesterday", "is_dark"), [(0, True), (9, False), (2, False), (1, True)])
def test_a_hospital_falls_silent_against_its_own_weekday(yesterday: int, is_dark: bool) -> None:
    monday = date(2026, 3, 9)
    history = [study for n in range(1, 9) for study in of_day(monday - timedelta(weeks=n), 10)]
    sunday = of_day(date(2026, 3, 8), 0)
    line = board_of("h1", [*history, *sunday, *of_day(monday, yesterday)], now=NOW, days=7)
    assert (line.expected_studies, line.seen_studies, line.is_dark) == (10.0, yesterday, is_dark)
    assert line.dark_probability == pytest.approx(
        sum(math.exp(-10) * 10**k / math.factorial(k) for k in range(yesterday + 1))
    )


def test_a_hospital_without_history_is_not_called_dark() -> None:
    line = board_of("new", [], now=NOW, days=7)
    assert (line.expected_studies, line.is_dark, line.p50_hours) == (None, False, None)


def test_a_clock_that_is_ahead_is_told_and_makes_no_negative_lag() -> None:
    line = board_of("h1", [made(5, lag=1, seen_after=-3)], now=NOW, days=7)
    assert (line.n_future, line.skew_minutes) == (1, 180.0)
    assert (line.p100_hours or 0) >= 0


def test_a_large_mean_does_not_overflow() -> None:
    assert poisson_tail(0, mean=5000.0) == 0.0
    assert poisson_tail(5000, mean=5000.0) == pytest.approx(0.5, abs=0.01)
