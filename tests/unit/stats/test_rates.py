"""Crude, directly and indirectly standardised rates, trends and smoothing."""

from __future__ import annotations

from math import exp, log, sqrt

import numpy as np
import pytest
from scipy import optimize, stats

from radlake.stats.intervals import byar, exact_poisson
from radlake.stats.rates import (
    Stratum,
    crude_rate,
    directly_standardised_rate,
    indirectly_standardised_ratio,
)
from radlake.stats.smoothing import smoothed_rates
from radlake.stats.trends import events_trend, rates_trend

# Down's syndrome in Michigan, mothers with five or more children by age: Fay & Feuer 1997, table II.
DOWN = [
    Stratum(events=events, residents=births, weight=standard)
    for events, births, standard in zip(
        (0, 8, 63, 112, 262, 295),
        (327, 30666, 123419, 149919, 104088, 34392),
        (319933, 931318, 786511, 488235, 237863, 61313),
        strict=True,
    )
]


@pytest.mark.parametrize(
    ("value", "low", "high", "events"),
    [
        (1043.0247991469, 971.7709067986, 1117.8940915479, 895),
        (110.3212025300, 87.7455767537, 136.7088222725, 91),
        (10430.24799, 9532.9498, 11373.0748, 895),  # events that repeat within persons
    ],
    ids=["895 events", "91 events", "not independent"],
)
def test_published_rates_have_limits_of_this_form(value: float, low: float, high: float, events: int) -> None:
    """Results of PHEindicatormethods: the two limits must give one variance, and that one must give back the limits.

    Its input is not at hand: strata are made that have this rate, number of events and variance.
    """
    count = byar(events)
    scale = (high - value) / (count.high - events)
    assert (low - value) / (count.low - events) == pytest.approx(scale, rel=2e-8 if value > 1e4 else 2e-11)
    # Half of the events each in two strata of rates 1 +- d apart: value and variance decide both.
    per, square = 1e4, scale**2 * events
    mean = value / events
    apart = sqrt(square / events - mean**2)
    strata = [Stratum(events=events / 2, residents=per / (2 * (mean + sign * apart)), weight=1.0) for sign in (1, -1)]
    rate = directly_standardised_rate(strata, per=per)
    assert (rate.value, rate.low, rate.high) == pytest.approx((value, low, high), rel=1e-8 if value > 1e4 else 1e-11)


def test_fay_and_feuer_on_the_down_syndrome_table() -> None:
    rate = directly_standardised_rate(DOWN, per=1e5, method="fay_feuer")
    weights = [one.weight / one.residents / 2825173 for one in DOWN]
    y = sum(w * one.events for w, one in zip(weights, DOWN, strict=True))
    v = sum(w * w * one.events for w, one in zip(weights, DOWN, strict=True))
    wm = max(weights)
    low = v / (2 * y) * stats.chi2.ppf(0.025, 2 * y * y / v)
    high = (v + wm**2) / (2 * (y + wm)) * stats.chi2.ppf(0.975, 2 * (y + wm) ** 2 / (v + wm**2))
    assert (rate.value, rate.low, rate.high) == pytest.approx((y * 1e5, low * 1e5, high * 1e5), rel=1e-12)
    assert (rate.value, rate.low, rate.high) == pytest.approx((75.529007445, 67.702120418, 188.300172728), rel=1e-9)


def test_one_stratum_is_the_crude_rate() -> None:
    """Both methods become those of the count: Byar, and the exact limits of Poisson."""
    dobson = directly_standardised_rate([Stratum(events=12, residents=3400, weight=7)], per=1000)
    gamma = directly_standardised_rate([Stratum(events=12, residents=3400, weight=7)], per=1000, method="fay_feuer")
    crude = crude_rate(12, 3400, per=1000)
    assert (dobson.value, dobson.low, dobson.high) == pytest.approx((crude.value, crude.low, crude.high), rel=1e-13)
    exact = exact_poisson(12)
    assert (gamma.low, gamma.high) == pytest.approx((exact.low / 3.4, exact.high / 3.4), rel=1e-12)


def test_strata_of_equal_rates_have_that_rate_whatever_the_standard() -> None:
    strata = [Stratum(events=n / 50, residents=n, weight=w) for n, w in ((100, 3), (5000, 1), (750, 0.5))]
    assert directly_standardised_rate(strata, per=100).value == pytest.approx(2)


@pytest.mark.parametrize("method", ["dobson", "fay_feuer"])
def test_no_events_is_a_rate_of_zero_with_an_upper_limit(method) -> None:
    strata = [Stratum(residents=1000, weight=1), Stratum(residents=200, weight=1)]
    rate = directly_standardised_rate(strata, per=1000, method=method)
    upper = {"dobson": byar(0).high, "fay_feuer": exact_poisson(0).high}[method]
    assert (rate.value, rate.low) == (0, 0)
    assert rate.high == pytest.approx(upper / 2 / 200 * 1000)
    assert rate.problem is None


@pytest.mark.parametrize(
    ("strata", "problem"),
    [
        ([Stratum(events=1, residents=0), Stratum(events=1, residents=9)], "events_without_residents"),
        ([Stratum(events=0, residents=0), Stratum(events=1, residents=9)], "stratum_without_residents"),
        ([Stratum(events=0, residents=0)], "no_residents"),
        ([], "no_residents"),
        ([Stratum(events=1, residents=9, weight=0)], "no_weight"),
    ],
)
def test_a_rate_that_is_not_known_says_why(strata: list[Stratum], problem: str) -> None:
    rate = directly_standardised_rate(strata)
    assert (rate.problem, rate.value, rate.low, rate.high) == (problem, None, None, None)


def test_a_stratum_without_weight_changes_nothing() -> None:
    one = [Stratum(events=5, residents=100, weight=1)]
    for other in (Stratum(events=9, residents=10, weight=0), Stratum(residents=0, weight=0)):
        with_it, without = directly_standardised_rate([*one, other]), directly_standardised_rate(one)
        assert (with_it.value, with_it.low, with_it.high) == (without.value, without.low, without.high)


def test_events_that_repeat_within_persons_have_a_larger_variance() -> None:
    """Three persons with one event and two with four: 11 events, variance 3 x 1 + 2 x 16 = 35."""
    strata = [Stratum(residents=100, weight=1, persons_with={1: 3, 4: 2})]
    rate = directly_standardised_rate(strata)
    assert rate.events == 11
    assert rate.variance == pytest.approx(35 / 100**2)
    assert rate.high == pytest.approx(0.11 + sqrt(35 / 11) * (byar(11).high - 11) / 100)
    single = directly_standardised_rate([Stratum(residents=100, weight=1, persons_with={1: 11})])
    assert single == directly_standardised_rate([Stratum(events=11, residents=100, weight=1)])


def test_crude_rates_without_residents_have_no_value() -> None:
    assert crude_rate(0, 0).problem == "no_residents"
    assert crude_rate(3, 0).problem == "events_without_residents"
    assert crude_rate(0, 10).low == 0


def test_indirect_standardisation() -> None:
    """Two strata with reference rates 0.01 and 0.1: 300 x 0.01 + 100 x 0.1 = 13 expected, 26 observed."""
    area = [Stratum(events=6, residents=300), Stratum(events=20, residents=100)]
    reference = [Stratum(events=100, residents=10000), Stratum(events=50, residents=500)]
    ratio = indirectly_standardised_ratio(area, reference, per=100)
    limits = byar(26)
    assert (ratio.value, ratio.expected) == pytest.approx((200, 13))
    assert (ratio.low, ratio.high) == pytest.approx((limits.low / 0.13, limits.high / 0.13))
    assert indirectly_standardised_ratio(reference, reference).value == pytest.approx(1)


@pytest.mark.parametrize(
    ("area", "reference", "problem"),
    [
        ([Stratum(events=1, residents=0)], [Stratum(events=1, residents=5)], "events_without_residents"),
        ([Stratum(events=1, residents=5)], [Stratum(events=0, residents=5)], "nothing_expected"),
        ([Stratum(events=1, residents=5)], [Stratum(events=0, residents=0)], "stratum_without_residents"),
        ([Stratum(events=0, residents=0)], [Stratum(events=0, residents=0)], "no_residents"),
    ],
)
def test_a_ratio_that_is_not_known_says_why(area, reference, problem: str) -> None:
    ratio = indirectly_standardised_ratio(area, reference)
    assert (ratio.problem, ratio.value) == (problem, None)


def test_an_exact_growth_is_found_with_no_dispersion() -> None:
    years = range(2019, 2025)
    trend = events_trend(years, [1000 * 1.07**i for i in range(6)], [50_000] * 6)
    assert trend is not None
    assert trend.percent == pytest.approx(7, rel=1e-10)
    assert trend.dispersion == pytest.approx(0, abs=1e-12)


def test_a_poisson_trend_is_the_maximum_of_the_likelihood() -> None:
    years, events, residents = np.arange(5.0), [12, 19, 14, 31, 24], np.array([900.0, 950, 1000, 1100, 1200])
    trend = events_trend(years, events, residents)
    assert trend is not None

    def minus_log_likelihood(p: np.ndarray) -> float:
        mean = residents * np.exp(p[0] + p[1] * years)
        return float(mean.sum() - np.array(events) @ np.log(mean))

    best = optimize.minimize(minus_log_likelihood, [log(0.02), 0.0], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12})  # fmt: skip  # noqa: E501
    assert trend.slope == pytest.approx(best.x[1], abs=1e-6)
    mean = residents * np.exp(best.x[0] + best.x[1] * years)
    design = np.column_stack([np.ones(5), years])
    covariance = np.linalg.inv(design.T @ (mean[:, None] * design))
    pearson = float(np.sum((np.array(events) - mean) ** 2 / mean)) / 3
    assert trend.dispersion == pytest.approx(pearson, rel=1e-5)
    assert trend.standard_error == pytest.approx(sqrt(covariance[1, 1] * max(1, pearson)), rel=1e-5)


def test_a_trend_of_two_years_is_the_ratio_of_their_rates() -> None:
    trend = events_trend([2020, 2022], [100, 144], [1000, 1000])
    assert trend is not None
    assert trend.slope == pytest.approx(log(1.2), rel=1e-12)
    assert trend.standard_error == pytest.approx(sqrt(1 / 100 + 1 / 144) / 2, rel=1e-9)


@pytest.mark.parametrize(
    ("events", "residents"),
    [([0, 0, 0], [9, 9, 9]), ([5, 0, 0], [9, 9, 9]), ([0, 0, 5], [9, 9, 9]), ([1, 2, 3], [0, 0, 9])],
    ids=["no events", "all in the first year", "all in the last year", "residents of one year"],
)
def test_no_finite_trend_is_none(events, residents) -> None:
    assert events_trend([2020, 2021, 2022], events, residents) is None


def test_steep_trends_converge() -> None:
    trend = events_trend([0, 1, 2], [1, 1000, 900_000], [1e6, 1e6, 1e6])
    assert trend is not None
    assert exp(trend.slope) == pytest.approx(900, rel=0.02)


def test_a_trend_of_standardised_rates() -> None:
    trend = rates_trend([2020, 2021, 2022, 2023], [5 * 0.9**i for i in range(4)], [0.1, 0.2, 0.1, 0.3])
    assert trend is not None
    assert trend.percent == pytest.approx(-10)
    assert rates_trend([2020, 2021], [1, 0], [1, 1]) is None
    two = rates_trend([2020, 2021], [1, 2], [1, 1])
    assert two is not None
    assert two.interval is None


def test_smoothing_draws_small_areas_further_than_large_ones() -> None:
    events, residents = [2, 400, 30, 0], [100, 100_000, 10_000, 50]
    found = smoothed_rates(events, residents, per=1000)
    assert found is not None
    mean = 1000 * sum(events) / sum(residents)
    by_size = [one.weight for _, one in sorted(zip(residents, found, strict=True), key=lambda pair: pair[0])]
    assert by_size == sorted(set(by_size))
    for one, o, n in zip(found, events, residents, strict=True):
        own = 1000 * o / n
        assert one.value == pytest.approx(one.weight * own + (1 - one.weight) * mean)
        assert one.interval.low <= one.value <= one.interval.high


def test_smoothing_is_marshalls_estimate() -> None:
    o, n = np.array([10.0, 60, 20]), np.array([1000.0, 2000, 1500])
    m = o.sum() / n.sum()
    a = (n @ (o / n - m) ** 2) / n.sum() - m / n.mean()
    assert a > 0
    found = smoothed_rates(o, n)
    assert found is not None
    assert [one.value for one in found] == pytest.approx(list(m + a / (a + m / n) * (o / n - m)))


def test_areas_that_do_not_differ_get_the_mean_and_an_empty_area_too() -> None:
    found = smoothed_rates([10, 10, 0], [100, 100, 0])
    assert found is not None
    assert [one.value for one in found] == pytest.approx([0.1] * 3)
    assert smoothed_rates([0, 0], [0, 0]) is None
    with pytest.raises(ValueError):
        smoothed_rates([1, 0], [0, 5])
