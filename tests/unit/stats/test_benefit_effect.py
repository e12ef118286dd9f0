"""Effects of a staggered roll-out: known truth, coverage, and where two fixed effects go wrong."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan

import numpy as np
import pytest

from radlake.stats.benefit.effect import Adoption, Panel, roll_out_effect

PERIODS = [f"2025-{month:02d}" for month in range(1, 9)]


def panel(
    effect: Callable[[int, int], float], *, groups: dict[int | None, int], seed: int = 1, noise: float = 1.0
) -> Panel:
    """Hospitals with a level and a common trend of their own; `effect(group, periods since the beginning)` is added."""
    rng = np.random.default_rng(seed)
    trend = np.cumsum(rng.normal(0, 1, len(PERIODS)))
    made = []
    for group, n in groups.items():
        for i in range(n):
            outcomes = 10 + rng.normal(0, 3) + trend + rng.normal(0, noise, len(PERIODS))
            if group is not None:
                outcomes += [effect(group, t - group) if t >= group else 0.0 for t in range(len(PERIODS))]
            made.append(Adoption(f"h{group}-{i}", group, outcomes.tolist()))
    return Panel(PERIODS, made)


def two_way_fixed_effects(data: Panel) -> float:
    """Coefficient of having begun, in a regression with a constant of each hospital and each period."""
    y = np.array([one.outcomes for one in data.hospitals])
    d = np.array(
        [[one.began is not None and t >= one.began for t in range(len(PERIODS))] for one in data.hospitals], float
    )
    for values in (y, d):
        values -= values.mean(axis=1, keepdims=True)
        values -= values.mean(axis=0, keepdims=True)
    return float((d * y).sum() / (d * d).sum())


def test_by_hand() -> None:
    """Treated: 5 to 2 and 7 to 4, controls: 4 to 5 and 6 to 7: (-3) - (+1) = -4, without any spread."""
    hospitals = [
        Adoption("a", 1, [5, 2]), Adoption("b", 1, [7, 4]), Adoption("c", None, [4, 5]), Adoption("d", None, [6, 7])
    ]  # fmt: skip
    found = roll_out_effect(Panel(PERIODS[:2], hospitals))
    assert found.overall is not None
    assert found.overall.estimate == -4
    assert list(found.by_event_time) == [0]


def test_effects_that_grow_are_found_at_each_time_since_the_beginning() -> None:
    data = panel(lambda _, since: -1.0 - since, groups={2: 40, 4: 40, None: 40}, noise=0.2)
    found = roll_out_effect(data)
    assert {time: round(effect.estimate) for time, effect in found.by_event_time.items() if time >= 0} == {
        time: -1 - time for time in range(6)
    }
    before = [effect.estimate for time, effect in found.by_event_time.items() if time < 0]
    assert before == pytest.approx([0] * len(before), abs=0.2)


def test_two_fixed_effects_are_wrong_where_effects_grow_and_these_are_not() -> None:
    """Everybody begins: the regression takes early hospitals as controls of late ones, and finds the wrong sign."""
    data = panel(lambda _, since: -(float(since) ** 2), groups={1: 30, 6: 30}, noise=0.1)
    truth = -np.mean([since**2 for since in range(5)])  # group 1 in periods 1 to 5, while group 6 has not begun
    found = roll_out_effect(data)
    assert found.overall is not None
    assert found.overall.estimate == pytest.approx(truth, abs=0.3)
    assert abs(two_way_fixed_effects(data) - truth) > 5


def test_limits_hold_the_truth_as_often_as_they_say() -> None:
    """400 roll-outs of 40 hospitals: 95 % of limits hold the truth; 3 standard errors of that are 3.3 points."""
    n_runs, n_held = 400, 0
    for seed in range(n_runs):
        data = panel(lambda *_: -2.0, groups={2: 10, 4: 10, 6: 10, None: 10}, seed=seed)
        overall = roll_out_effect(data).overall
        assert overall is not None
        n_held += overall.low <= -2.0 <= overall.high
    assert 0.917 <= n_held / n_runs <= 0.983


def test_of_few_hospitals_without_an_effect_parallel_trends_are_seldom_objected_to() -> None:
    """400 roll-outs of 24 hospitals, of which chi-squared objects to one in five; 3 standard errors are 3.3 points."""
    ps = [
        roll_out_effect(panel(lambda *_: 0.0, groups={2: 6, 4: 6, 6: 6, None: 6}, seed=seed)).parallel_p
        for seed in range(400)
    ]
    assert 0.02 < np.mean([p < 0.05 for p in ps]) < 0.10


def test_parallel_trends_of_two_groups_are_judged_as_a_manova_does() -> None:
    """R 4.2.2: summary(manova(cbind(a, b) ~ g), test = "Hotelling-Lawley"), of the changes from the third period."""
    began = [[21, 6, 8, 9], [8, 21, 22, 16], [5, 6, 11, 13], [17, 14, 10, 8], [18, 19, 5, 7], [14, 12, 22, 15]]
    never = [[13, 13, 18, 16], [8, 19, 20, 24], [20, 10, 11, 17], [18, 18, 22, 10], [23, 5, 6, 24], [23, 10, 7, 11]]
    hospitals = [
        Adoption(f"h{i}", 3 if i < len(began) else None, outcomes) for i, outcomes in enumerate([*began, *never])
    ]
    assert roll_out_effect(Panel(PERIODS[:4], hospitals)).parallel_p == pytest.approx(0.72214298388, abs=1e-11)


def test_more_periods_before_than_hospitals_can_tell_apart_are_not_judged() -> None:
    data = panel(lambda *_: 0.0, groups={5: 3, None: 3})  # four periods, four hospitals more than groups
    assert 0 < roll_out_effect(data).parallel_p < 1
    assert isnan(roll_out_effect(Panel(PERIODS, [*data.hospitals[:2], *data.hospitals[3:]])).parallel_p)


def test_a_trend_of_its_own_is_objected_to() -> None:
    data = panel(lambda *_: 0.0, groups={4: 30, None: 30}, noise=0.5)
    drifting = [
        Adoption(one.hospital_id, one.began, [y + t * (one.began is not None) for t, y in enumerate(one.outcomes)])
        for one in data.hospitals
    ]
    assert roll_out_effect(Panel(PERIODS, drifting)).parallel_p < 1e-6


def test_what_cannot_be_compared_is_told() -> None:
    data = panel(lambda *_: -1.0, groups={0: 5, 3: 1, None: 5})
    found = roll_out_effect(data)
    assert found.overall is None
    assert (found.n_cells, found.n_left_out) == (0, 7)
    assert isnan(found.parallel_p)


def test_a_hospital_without_all_periods_is_refused() -> None:
    with pytest.raises(ValueError, match="without an outcome in every period: h1"):
        Panel(PERIODS, [Adoption("h1", None, [1.0])])
