"""Courtesy decided: calendar, throttle, breaker, and what survives a restart. Time is an argument."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from radlake.harvest.courtesy import NodeState, allowed, week_of
from radlake.harvest.courtesy.breaker import Breaker, Phase
from radlake.harvest.courtesy.state import state_from_json
from radlake.harvest.courtesy.throttle import LEAST_SHARE, Throttle
from radlake.net.node import DimseNode
from radlake.net.signals import Signal, SignalKind

SHANGHAI = ZoneInfo("Asia/Shanghai")
MONDAY = datetime(2026, 3, 2, tzinfo=SHANGHAI).timestamp()
HOUR = 3600.0


def node(*calendar: dict[str, object], most: int = 4) -> DimseNode:
    return DimseNode.model_validate(
        {"ae_title": "A", "host": "h", "max_associations": most, "courtesy": {"calendar": calendar}}
    )


def find(seconds: float) -> Signal:
    return Signal(SignalKind.FIND, seconds)


def fed(throttle: Throttle, *seconds: float, begin: float = MONDAY, every: float = 1.0) -> Throttle:
    for n, wait in enumerate(seconds):
        throttle = throttle.after(find(wait), factor=2.0, now=begin + n * every)
    return throttle


def after(state: NodeState, signals: list[Signal], *, now: float) -> NodeState:
    for signal in signals:
        state = state.felt(signal, factor=2.0, now=now)
    return state


@pytest.mark.parametrize(
    ("when", "places"),
    [
        ("2026-03-02T07:59:59+08:00", 4),
        ("2026-03-02T08:00:00+08:00", 1),
        ("2026-03-06T19:59:59+08:00", 1),
        ("2026-03-06T20:00:00+08:00", 4),
        ("2026-03-07T09:00:00+08:00", 0),
        ("2026-03-08T23:59:00+08:00", 0),
        ("2026-03-09T00:00:00+08:00", 4),
        ("2026-03-02T00:30:00+00:00", 1),
    ],
)
def test_the_calendar_is_shanghais(when: str, places: int) -> None:
    week = week_of(
        node({"days": "mon-fri", "hours": "8-20", "associations": 1}, {"days": "sat,sun", "associations": 0})
    )
    assert allowed(NodeState(), week, now=datetime.fromisoformat(when).timestamp()).places == places


def test_a_rest_tells_when_it_ends() -> None:
    week = week_of(node({"days": "fri-mon", "associations": 0}))
    friday = datetime(2026, 3, 6, 10, 17, tzinfo=SHANGHAI).timestamp()
    may = allowed(NodeState(), week, now=friday)
    assert (may.places, datetime.fromtimestamp(may.from_, SHANGHAI)) == (0, datetime(2026, 3, 10, tzinfo=SHANGHAI))


def test_studies_of_an_hour_are_spread_evenly() -> None:
    week = week_of(node({"studies_per_hour": 60}))
    state, now, begun = NodeState(), MONDAY, []
    while now < MONDAY + HOUR:
        may = allowed(state, week, now=now)
        if may.from_ > now:
            now = may.from_
            continue
        begun.append(now)
        state = state.began(may, now=now)
    assert len(begun) == 60
    assert {round(b - a, 6) for a, b in pairwise(begun)} == {60.0}


def test_load_halves_our_share_and_calm_gives_it_back() -> None:
    learned = fed(Throttle(), *[0.1] * 20)
    assert learned.share == 1.0
    loaded = fed(learned, *[1.0] * 30, begin=MONDAY + 60)
    assert loaded.share == 1 / 8  # at once, and again each ten seconds of load
    calm = fed(loaded, *[0.1] * 60, begin=MONDAY + 90)
    assert loaded.share < calm.share < 1.0
    assert fed(calm, *[0.1] * 120, begin=MONDAY + 150).share == 1.0


def test_a_node_is_never_given_up() -> None:
    assert fed(fed(Throttle(), *[0.1] * 20), *[5.0] * 600, begin=MONDAY + 60).share == LEAST_SHARE


def test_one_study_on_tape_is_no_load() -> None:
    assert fed(Throttle(), *[0.1] * 20, 300.0, 0.1, 0.1, 300.0, 0.1).share == 1.0


def test_what_nobody_feels_is_no_load() -> None:
    assert fed(Throttle(), *[0.002] * 20, *[0.1] * 20).share == 1.0


def test_a_slow_node_is_measured_by_itself() -> None:
    assert fed(Throttle(), *[4.0] * 100).share == 1.0


def test_a_busy_morning_does_not_become_the_usual() -> None:
    learned = fed(Throttle(), *[0.2] * 50)
    morning = fed(learned, *[2.0] * 1000, begin=MONDAY + 100, every=10.0)
    assert morning.find.is_slow(factor=2.0)


def test_a_faster_node_is_believed() -> None:
    learned = fed(Throttle(), *[4.0] * 20, *[0.4] * 100)
    assert fed(learned, *[1.5] * 3, begin=MONDAY + 500).share == 0.5


def test_a_refusal_keeps_us_away_as_long_as_it_says() -> None:
    week = week_of(node())
    state = after(NodeState(), [Signal(SignalKind.REFUSED, 120.0)], now=MONDAY)
    assert allowed(state, week, now=MONDAY + 119).places == 0
    assert allowed(state, week, now=MONDAY + 121).load == 2.0


def test_half_a_place_is_a_place_half_of_the_time() -> None:
    state = NodeState(throttle=Throttle(share=0.125))
    may = allowed(state, week_of(node()), now=MONDAY)
    assert (may.places, may.load) == (1, 0.5)
    assert may.cooling(8.0) == 8.0


def test_failures_open_the_breaker_for_longer_and_longer() -> None:
    breaker, now, pauses = Breaker(), MONDAY, []
    for _ in range(12):
        while breaker.phase(now) is not Phase.OPEN:
            breaker = breaker.failed(now)
        pauses.append(breaker.until - now)
        now = breaker.until
    assert pauses[:4] == [30.0, 60.0, 120.0, 240.0]
    assert pauses[-1] == 3600.0


def test_half_open_is_one_study_to_see() -> None:
    state = NodeState()
    for _ in range(3):
        state = state.failed(now=MONDAY)
    week = week_of(node())
    assert allowed(state, week, now=MONDAY + 29).places == 0
    assert allowed(state, week, now=MONDAY + 31).places == 1
    assert allowed(state.failed(now=MONDAY + 31), week, now=MONDAY + 90).places == 0
    assert allowed(state.succeeded(seconds=1.0), week, now=MONDAY + 31).places == 4


def test_what_was_under_way_when_it_opened_says_nothing_new() -> None:
    breaker = Breaker()
    for _ in range(10):
        breaker = breaker.failed(MONDAY)
    assert breaker.until == MONDAY + 30


def test_a_crash_loop_leaves_the_node_alone() -> None:
    breaker = Breaker()
    for n in range(3):
        breaker = breaker.begun(MONDAY + n)
        assert breaker.phase(MONDAY + n) is Phase.CLOSED
    assert breaker.begun(MONDAY + 3).phase(MONDAY + 4) is Phase.OPEN


def test_runs_that_end_in_order_are_no_crash_loop() -> None:
    breaker = Breaker()
    for n in range(20):
        breaker = breaker.begun(MONDAY + n).ended()
    assert breaker.phase(MONDAY + 20) is Phase.CLOSED


def test_a_restart_forgets_nothing() -> None:
    state = after(NodeState(), [find(0.1 * n) for n in range(1, 20)], now=MONDAY)
    state = state.failed(now=MONDAY).succeeded(seconds=3.0).failed(now=MONDAY).run_began(now=MONDAY).looked(now=MONDAY)
    assert state_from_json(state.to_json()) == state


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"throttle": {}}', '{"throttle":{"find":1},"breaker":{}}'])
def test_what_another_version_wrote_begins_anew(text: str) -> None:
    assert state_from_json(text) == NodeState()
