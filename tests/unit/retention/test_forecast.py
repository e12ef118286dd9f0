"""Growth that is drawn is found again, and what comes to mind first is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from radlake.retention import Cohort, cost_curve, load_schedule
from radlake.retention.classes import RetentionClass
from radlake.retention.forecast import HistoryTooShort, future_cohorts, growth_of, with_future

SEASON = (1.25, 0.85, 1.1, 1.0, 0.95, 0.9, 0.95, 0.9, 0.95, 1.0, 1.05, 1.25)
YEARLY = 0.12


def true_bytes(year: int, month: int) -> float:
    return 1e12 * (1 + YEARLY) ** (year - 2024 + (month - 1) / 12) * SEASON[month - 1]


def history(last: tuple[int, int], *, noise: float = 0.01) -> dict[tuple[int, int], int]:
    rng = np.random.default_rng(3)
    months = [(year, month) for year in (2024, 2025, 2026) for month in range(1, 13) if (year, month) <= last]
    return {(y, m): round(true_bytes(y, m) * float(np.exp(noise * rng.standard_normal()))) for y, m in months}


def test_growth_and_the_years_to_come_are_the_true_ones() -> None:
    found = growth_of(history((2026, 10)), n_years=4)
    assert found.is_seasonal
    assert found.yearly_low < YEARLY < found.yearly_high
    assert found.yearly == pytest.approx(YEARLY, abs=0.01)
    assert list(found.bytes_per_year) == [2026, 2027, 2028, 2029]
    for year, n_bytes in found.bytes_per_year.items():
        truth = sum(true_bytes(year, month) for month in range(1, 13))
        assert n_bytes == pytest.approx(truth, rel=0.03)
        assert found.low[year] <= n_bytes <= found.high[year]


@pytest.mark.parametrize("n_months", [12, 24])
def test_limits_hold_the_true_growth_as_often_as_they_say(n_months: int) -> None:
    """600 histories without a season: 95 % hold it; 3 standard errors are 2.7 points. Limits by the normal lose 2.5."""
    rng = np.random.default_rng(8)
    n_held = 0
    for _ in range(600):
        noise = np.exp(0.02 * rng.standard_normal(n_months))
        known = {(2024 + m // 12, m % 12 + 1): round(1e12 * 1.12 ** (m / 12) * noise[m]) for m in range(n_months)}
        found = growth_of(known, n_years=1)
        n_held += found.yearly_low <= YEARLY <= found.yearly_high
    assert n_held / 600 == pytest.approx(0.95, abs=0.027)


def test_the_last_month_times_twelve_and_two_months_compared_are_wrong() -> None:
    known = history((2026, 1))
    truth = sum(true_bytes(2026, month) for month in range(1, 13))
    assert growth_of(known, n_years=1).bytes_per_year[2026] == pytest.approx(truth, rel=0.03)
    assert known[2026, 1] * 12 > 1.15 * truth
    assert known[2026, 1] / known[2025, 9] - 1 > 2 * YEARLY  # four months apart: a winter, no growth of a year


def test_a_month_that_has_begun_must_be_left_out() -> None:
    known = history((2026, 10))
    begun = known | {(2026, 11): known[2026, 10] // 10}
    assert growth_of(begun, n_years=1).yearly < YEARLY - 0.03 < growth_of(known, n_years=1).yearly


def test_a_short_history_is_refused_and_one_year_has_no_season() -> None:
    known = history((2026, 10))
    with pytest.raises(HistoryTooShort, match="11 whole months"):
        growth_of(dict(list(known.items())[:11]), n_years=1)
    assert not growth_of(dict(list(known.items())[:13]), n_years=1).is_seasonal


def test_what_comes_is_billed_by_the_schedule() -> None:
    schedule = load_schedule()
    share = {RetentionClass.OUTPATIENT: 3.0, RetentionClass.INPATIENT: 1.0}
    cohorts = future_cohorts({2027: 4e12, 2028: 8e12}, share=share)
    assert [(one.year, one.retention_class, one.n_bytes) for one in cohorts] == [
        (2027, RetentionClass.OUTPATIENT, 3_000_000_000_000),
        (2027, RetentionClass.INPATIENT, 1_000_000_000_000),
        (2028, RetentionClass.OUTPATIENT, 6_000_000_000_000),
        (2028, RetentionClass.INPATIENT, 2_000_000_000_000),
    ]
    rows = cost_curve(cohorts, schedule=schedule, first_year=2027, n_years=2)
    assert sum(row.n_bytes for row in rows if row.year == 2028) == 12_000_000_000_000


def test_a_forecast_year_is_not_counted_beside_what_is_stored_of_it() -> None:
    stored = [Cohort(2025, RetentionClass.OUTPATIENT, 30), Cohort(2026, RetentionClass.INPATIENT, 10)]
    assert with_future(stored, {2026: 40.0}, usual_share={}) == [
        Cohort(2025, RetentionClass.OUTPATIENT, 30),
        Cohort(2026, RetentionClass.OUTPATIENT, 30),
        Cohort(2026, RetentionClass.INPATIENT, 10),
    ]
    usual = {RetentionClass.INPATIENT: 1.0}
    assert with_future([], {2026: 40.0}, usual_share=usual) == [Cohort(2026, RetentionClass.INPATIENT, 40)]
