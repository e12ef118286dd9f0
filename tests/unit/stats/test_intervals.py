"""Limits of shares, of numbers of events, and of comparisons, against published numbers and the distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from radlake.stats.intervals import Interval, byar, compare_shares, events_limits, exact_poisson, wilson


def test_byar_has_the_published_limits() -> None:
    """65 events: 50.1632 to 82.8491 (Byar, as PHEindicatormethods tests it)."""
    assert byar(65).low == pytest.approx(50.1632, abs=5e-5)
    assert byar(65).high == pytest.approx(82.8491, abs=5e-5)


@pytest.mark.parametrize(
    ("events", "confidence", "low", "high"),
    [(0, 0.95, 0.0, 3.6680118321737507), (1, 0.998, 0.0, None), (0.5, 0.95, 0.0, None)],
    ids=["none", "one at 99.8 %", "half"],
)
def test_byar_of_few_events_is_never_negative(events: float, confidence: float, low: float, high: float | None) -> None:
    limits = byar(events, confidence=confidence)
    assert limits.low == low
    assert high is None or limits.high == pytest.approx(high, rel=1e-12)


@pytest.mark.parametrize("events", [0, 1, 9, 10, 1000])
def test_exact_limits_are_where_the_tails_are_two_and_a_half_percent(events: int) -> None:
    limits = exact_poisson(events)
    assert stats.poisson.cdf(events, limits.high) == pytest.approx(0.025, rel=1e-9)
    assert limits.low == 0 if events == 0 else stats.poisson.sf(events - 1, limits.low) == pytest.approx(0.025)


def test_byar_is_near_the_exact_limits_and_exact_below_ten_when_asked() -> None:
    assert events_limits(9, method="byar_from_10") == exact_poisson(9)
    assert events_limits(10, method="byar_from_10") == byar(10)
    assert byar(10).low == pytest.approx(exact_poisson(10).low, rel=2e-3)


@pytest.mark.parametrize(
    ("events", "n", "expected"),
    [
        (81, 263, (0.2552727, 0.3662013)),  # Newcombe, Stat Med 1998;17:857, table I, method 3
        (15, 148, (0.0623855, 0.1605249)),
        (0, 20, (0.0, 0.1611252)),
        (1, 29, (0.0061137, 0.1717553)),
    ],
)
def test_wilson_has_the_published_limits(events: int, n: int, expected: tuple[float, float]) -> None:
    limits = wilson(events, n)
    assert limits is not None
    assert (limits.low, limits.high) == pytest.approx(expected, abs=6e-5)


def test_wilson_solves_its_equation_and_knows_its_ends() -> None:
    limits = wilson(7, 31, confidence=0.9)
    assert limits is not None
    z = stats.norm.isf(0.05)
    for p in (limits.low, limits.high):
        assert (7 / 31 - p) ** 2 == pytest.approx(z**2 * p * (1 - p) / 31, rel=1e-10)
    assert wilson(0, 0) is None
    assert wilson(5, 5).high == 1.0  # pyright: ignore[reportOptionalMemberAccess]
    assert wilson(0, 5).low == 0.0  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("call", [lambda: wilson(6, 5), lambda: byar(-1), lambda: byar(float("nan")),
                                  lambda: byar(1, confidence=95), lambda: wilson(1, 2, confidence=1)])  # fmt: skip
def test_what_is_no_number_of_events_is_refused(call) -> None:
    with pytest.raises(ValueError):
        call()


def test_clusters_of_one_exam_give_the_usual_comparison() -> None:
    y = [True] * 30 + [False] * 70 + [True] * 45 + [False] * 55
    second = [False] * 100 + [True] * 100
    found = compare_shares(y, second, range(200))
    assert found is not None
    assert found.difference == pytest.approx(0.15)
    plain = 0.3 * 0.7 / 100 + 0.45 * 0.55 / 100
    assert found.standard_error**2 == pytest.approx(plain * 200 / 199, rel=1e-12)


def test_exams_that_repeat_within_a_person_widen_the_limits() -> None:
    y, second = np.repeat([1, 0, 0, 1, 1, 0, 1, 1], 5), np.repeat([0, 0, 0, 0, 1, 1, 1, 1], 5)
    alone = compare_shares(y, second, range(40))
    persons = compare_shares(y, second, np.repeat(range(8), 5))
    assert alone is not None
    assert persons is not None
    # every exam of a person counted five times: the variance is that of persons, five times the naive one
    assert persons.standard_error**2 == pytest.approx(alone.standard_error**2 * 39 / 40 * 5 * 8 / 7, rel=1e-12)
    assert persons.interval.high > alone.interval.high


def test_two_ways_of_clustering_add_up_and_take_off_what_both_count() -> None:
    random = np.random.default_rng(7)
    person = random.integers(0, 40, 600)
    facility = person % 2 + 2 * random.integers(0, 6, 600)  # who goes to one of a group goes to no other group
    y, second = random.random(600) < 0.1 + 0.4 * (person % 3 == 0) + 0.4 * (facility % 3 == 0), facility % 2 == 1

    def variance(*clusters) -> float:
        found = compare_shares(y, second, *clusters)
        assert found is not None
        return found.standard_error**2

    both = variance([f"{p}|{f}" for p, f in zip(person, facility, strict=True)])
    assert variance(person, facility) == pytest.approx(variance(person) + variance(facility) - both, rel=1e-12)
    assert variance(person, facility) > max(variance(person), variance(facility))


def test_two_ways_of_clustering_never_tell_less_than_one_of_them() -> None:
    random = np.random.default_rng(7)
    y, second = random.random(600) < 0.3, random.random(600) < 0.5
    person, facility = random.integers(0, 150, 600), random.integers(0, 12, 600)
    found = [compare_shares(y, second, *clusters) for clusters in ((person, facility), (person,), (facility,))]
    both, *alone = (one.standard_error if one else 0.0 for one in found)
    assert both == max(alone) > 0
    assert found[0]
    assert found[0].is_conservative


def test_rows_that_stand_for_several_exams_compare_as_the_exams_do() -> None:
    random = np.random.default_rng(8)
    person, facility = random.integers(0, 40, 500), random.integers(0, 6, 500)
    y, second = random.random(500) < 0.3, facility % 2 == 1
    cells, at = np.unique(np.column_stack([person, facility]), axis=0, return_inverse=True)
    n, counted = np.bincount(at.ravel()), np.bincount(at.ravel(), weights=y)
    summed = compare_shares(counted, cells[:, 1] % 2 == 1, cells[:, 0], cells[:, 1], n_exams=n)
    exams = compare_shares(y, second, person, facility)
    assert summed is not None
    assert exams is not None
    assert summed.shares == exams.shares
    assert summed.standard_error == pytest.approx(exams.standard_error, rel=1e-12)


def test_a_comparison_with_nobody_or_with_one_cluster_is_none() -> None:
    assert compare_shares([True, False], [False, False], [1, 2]) is None
    assert compare_shares([True, False], [True, False], [1, 1]) is None
    found = compare_shares([True, True, False, False], [True, True, False, False], [1, 2, 3, 4])
    assert found is not None
    assert found.interval == Interval(1.0, 1.0)
