"""Whose turn it is: least slack first, nobody starves, live before backfill; a province in small on a virtual clock."""

from __future__ import annotations

import pytest
from bench.load import simulate

from radlake.harvest.courtesy import NodeState, week_of
from radlake.harvest.courtesy.throttle import Throttle
from radlake.harvest.schedule import DUE_SECONDS, Turn, harvest_seconds, jain_index, ordered, slack
from radlake.net.node import DimseNode

NOW = 1_772_380_800.0  # Monday 2026-03-02 00:00 in Shanghai
HOUR = 3600.0


def turn(name: str, *, hours_ago: float, hours: float = 0.0, opens_in: float = 0.0, is_backfill: bool = False) -> Turn:
    return Turn(name, NOW - hours_ago * HOUR, hours * HOUR, NOW + opens_in * HOUR, is_backfill)


def names(*turns: Turn) -> list[str]:
    return [item.hospital_id for item in ordered(turns, now=NOW)]


def test_the_oldest_study_goes_first() -> None:
    assert names(turn("new", hours_ago=1), turn("old", hours_ago=11)) == ["old", "new"]


def test_much_work_counts_as_much_as_age() -> None:
    assert names(turn("old", hours_ago=6), turn("much", hours_ago=3, hours=5)) == ["much", "old"]


def test_who_rests_has_no_turn_and_less_slack() -> None:
    asleep = turn("asleep", hours_ago=2, opens_in=6)
    assert names(turn("a", hours_ago=1), asleep) == ["a"]
    assert slack(asleep, now=NOW) == DUE_SECONDS - 8 * HOUR


def test_the_late_do_not_make_all_others_late() -> None:
    late = [turn(f"late{n}", hours_ago=20 + n) for n in range(3)]
    in_time = [turn(f"ok{n}", hours_ago=10 - n) for n in range(3)]
    assert names(*late, *in_time) == ["late2", "ok0", "late1", "ok1", "late0", "ok2"]


def test_live_goes_before_backfill() -> None:
    assert names(turn("years", hours_ago=20_000, is_backfill=True), turn("live", hours_ago=0.1)) == ["live", "years"]


@pytest.mark.parametrize(
    ("share", "per_hour", "expected"), [(1.0, None, 500.0), (0.25, None, 2000.0), (1.0, 60, 6000.0), (0.5, 60, 12000.0)]
)
def test_how_long_a_harvest_takes(share: float, per_hour: int | None, expected: float) -> None:
    calendar = [{"studies_per_hour": per_hour}] if per_hour else []
    node = DimseNode.model_validate(
        {"ae_title": "A", "host": "h", "max_associations": 2, "courtesy": {"calendar": calendar}}
    )
    state = NodeState(throttle=Throttle(share=share), study_seconds=10.0)
    assert harvest_seconds(state, week_of(node), n_waiting=100, now=NOW) == expected


def test_a_node_at_rest_is_expected_to_be_as_fast_as_when_it_opens() -> None:
    node = DimseNode.model_validate(
        {"ae_title": "A", "host": "h", "courtesy": {"calendar": [{"hours": "0-8", "associations": 0}]}}
    )
    assert harvest_seconds(NodeState(study_seconds=10.0), week_of(node), n_waiting=10, now=NOW) == 50.0


def test_fairness() -> None:
    assert jain_index([2.0, 2.0, 2.0]) == pytest.approx(1.0)
    assert jain_index([3.0, 0.0, 0.0]) == pytest.approx(1 / 3)
    assert jain_index([0.0, 0.0]) == 1.0


def test_a_province_in_small_is_in_time_and_a_night_window_is_not() -> None:
    ours = simulate(n_hospitals=20, seed=3, policy="slack", days=2)
    night = simulate(n_hospitals=20, seed=3, policy="night", days=2)
    assert len(ours.lags) > 1000
    assert ours.percentile(1.0) <= 12.0
    assert ours.served > 0.99
    assert night.percentile(1.0) > 12.0
