"""How many bytes come in the next years, from the months that are known: growth and season, by least squares. Pure.

Months are never alike (winters are busy, the month of the Spring Festival is not), so neither the last month times
twelve nor the difference of two months says how fast an archive grows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from radlake.errors import PermanentError
from radlake.retention.classes import RetentionClass
from radlake.retention.plan import Cohort

__all__ = ["Growth", "HistoryTooShort", "future_cohorts", "growth_of", "with_future"]

_LEAST = 12  # months: with fewer, a season is taken for growth
_SEASONAL = 24
_TAIL = 0.025


class HistoryTooShort(PermanentError):
    sentence = "{n} whole months are known, and a forecast needs {least}: with fewer, a season is taken for growth."


@dataclass(frozen=True)
class Growth:
    """What the known months tell.

    Attributes
    ----------
    yearly, yearly_low, yearly_high : float
        Growth in a year, 0.1 is ten percent, with its 95 % limits.
    bytes_per_year : dict of int to float
        Bytes that come in each forecast calendar year; a year that is partly known has its known months.
    low, high : dict of int to float
        The same by the limits of the growth.
    is_seasonal : bool
        Months of the year were told apart: two years are known.
    """

    yearly: float
    yearly_low: float
    yearly_high: float
    bytes_per_year: Mapping[int, float]
    low: Mapping[int, float]
    high: Mapping[int, float]
    is_seasonal: bool


def growth_of(months: Mapping[tuple[int, int], int], *, n_years: int) -> Growth:
    """Growth by ln(bytes) = a + g t + season(month), and the next `n_years` calendar years from that of the last month.

    Parameters
    ----------
    months : mapping of (year, month) to int
        Bytes of whole months only: a month that has begun looks like a collapse. A month in between that is not there
        is left out.

    Raises
    ------
    HistoryTooShort
    """
    from scipy import special  # of a forecast only: harvests import this package

    known = {month: n for month, n in months.items() if n > 0}
    if len(known) < _LEAST:
        raise HistoryTooShort(n=len(known), least=_LEAST)
    order = sorted(known)
    is_seasonal = len(known) >= _SEASONAL and len({month for _, month in order}) == 12
    at = np.array([_number(month) for month in order], float)
    middle = at.mean()
    design = _design(at - middle, order, is_seasonal=is_seasonal)
    told = np.log([known[month] for month in order])
    fit, *_ = np.linalg.lstsq(design, told, rcond=None)
    rest = told - design @ fit
    freedom = len(order) - design.shape[1]
    variance = float(rest @ rest) / freedom
    error = float(np.sqrt(variance * np.linalg.inv(design.T @ design)[1, 1]))
    year, month = order[-1]
    first = year if month < 12 else year + 1
    years = range(first, first + n_years)

    def totals(slope: float) -> dict[int, float]:
        tilted = fit.copy()
        tilted[1] = slope
        found = {}
        for year in years:
            wanted = [(year, month) for month in range(1, 13)]
            numbers = np.array([_number(month) for month in wanted], float) - middle
            guess = np.exp(_design(numbers, wanted, is_seasonal=is_seasonal) @ tilted + variance / 2)
            found[year] = sum(
                float(known[month]) if month in known else float(one)
                for month, one in zip(wanted, guess.tolist(), strict=True)
            )
        return found

    slope = float(fit[1])
    reach = -float(special.stdtrit(freedom, _TAIL)) * error  # Student's t: months are few
    low, high = slope - reach, slope + reach
    return Growth(
        yearly=_in_a_year(slope),
        yearly_low=_in_a_year(low),
        yearly_high=_in_a_year(high),
        bytes_per_year=totals(slope),
        low=totals(low),
        high=totals(high),
        is_seasonal=is_seasonal,
    )


def _in_a_year(slope: float) -> float:
    return float(np.expm1(12 * slope))


def future_cohorts(bytes_per_year: Mapping[int, float], *, share: Mapping[RetentionClass, float]) -> list[Cohort]:
    """Cohorts of the years to come, their classes as they are among the bytes of now."""
    total = sum(share.values())
    return [
        Cohort(year, kind, round(n_bytes * part / total))
        for year, n_bytes in sorted(bytes_per_year.items())
        for kind, part in share.items()
        if part
    ]


def with_future(
    stored: Sequence[Cohort], bytes_per_year: Mapping[int, float], *, usual_share: Mapping[RetentionClass, float]
) -> list[Cohort]:
    """What is stored and what comes, of the classes that are stored; of the usual ones where nothing is stored.

    A forecast year has its known months in it, so what is stored of such years is not counted again.
    """
    share: Counter[RetentionClass] = Counter()
    for cohort in stored:
        share[cohort.retention_class] += cohort.n_bytes
    first = min(bytes_per_year)
    return [one for one in stored if one.year < first] + future_cohorts(bytes_per_year, share=share or usual_share)


def _number(month: tuple[int, int]) -> int:
    return month[0] * 12 + month[1]


def _design(at: np.ndarray, months: list[tuple[int, int]], *, is_seasonal: bool) -> np.ndarray:
    """Level, growth, and eleven months of the year beside December."""
    columns = [np.ones(len(at)), at]
    if is_seasonal:
        columns += [np.array([float(month == number) for _, month in months]) for number in range(1, 12)]
    return np.column_stack(columns)
