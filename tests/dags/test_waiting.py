"""When a task asks a node again that rests or brings studies from tape."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from radlake_airflow.waiting import plan_wait

NIGHT = datetime(2026, 3, 1, 18, tzinfo=UTC)
FIRST = timedelta(minutes=10)


@pytest.mark.parametrize(
    ("waited", "until", "expected"),
    [
        pytest.param(0, None, 10, id="first"),
        pytest.param(10, None, 20, id="twice as long"),
        pytest.param(20, None, 40, id="and again"),
        pytest.param(80, None, 140, id="an hour at most"),
        pytest.param(1140, None, 1200, id="the last time"),
        pytest.param(1141, None, None, id="no patience left"),
        pytest.param(0, 5, 5, id="the node says when"),
        pytest.param(30, 1200, 1200, id="the node says when, just in time"),
        pytest.param(30, 1201, None, id="the node rests for too long"),
    ],
)
def test_minutes_after_the_waiting_began(waited: int, until: int | None, expected: int | None) -> None:
    def at(minutes: int | None) -> datetime | None:
        return None if minutes is None else NIGHT + timedelta(minutes=minutes)

    now = at(waited)
    assert now
    assert plan_wait(since=NIGHT, now=now, first=FIRST, until=at(until)) == at(expected)
