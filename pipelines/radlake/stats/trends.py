"""Trends: the annual percent change of events in residents, or of rates with known variances, with its limits.

One straight line on the logarithm, without joinpoints: whether the line fits is told by the dispersion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, sqrt

import numpy as np

from radlake.stats.intervals import Interval
from radlake.stats.quantiles import normal_isf, t_isf

__all__ = ["Trend", "events_trend", "rates_trend"]

_ITERATIONS = 100


@dataclass(frozen=True, kw_only=True)
class Trend:
    """Annual percent change (APC).

    Attributes
    ----------
    percent : float
        Change in a year, in percent of the year before.
    interval : Interval or None
        None where two periods leave nothing to estimate the dispersion from.
    slope, standard_error : float
        Of the logarithm of the rate, in a year; the standard error is None where the interval is.
    dispersion : float or None
        Pearson's chi-squared over degrees of freedom; about 1 when the line explains all but Poisson noise.
    """

    percent: float
    interval: Interval | None
    slope: float
    standard_error: float | None
    dispersion: float | None


def events_trend(
    years: Sequence[float],
    events: Sequence[float],
    residents: Sequence[float],
    *,
    confidence: float = 0.95,
) -> Trend | None:
    """Poisson regression of events on the year, with residents as offset (maximum likelihood).

    The standard error is scaled by the dispersion where that is above 1 (quasi-Poisson, McCullagh & Nelder 1989,
    6.2.3), and the limits then use Student's t; else they are those of Poisson.

    Returns
    -------
    Trend or None
        None without two years that have residents, or where the events fit no finite slope: none at all, or all of
        them in the first or last year.
    """
    t, o, n = _arrays(years, events, residents)
    t, o, n = t[n > 0], o[n > 0], n[n > 0]
    if _is_flat(t) or o.sum() == 0 or o[t > t.min()].sum() == 0 or o[t < t.max()].sum() == 0:
        return None
    # With the level profiled out, one equation is left: the mean year of the events is that of the fitted ones.
    centre = float(np.average(t, weights=n))
    x, target = t - centre, float(np.average(t - centre, weights=o))
    slope = 0.0
    low, high = -np.inf, np.inf
    for _ in range(_ITERATIONS):
        share = _shares(n, slope * x)
        mean = float(share @ x)
        spread = float(share @ (x - mean) ** 2)
        low, high = (slope, high) if mean < target else (low, slope)
        step = slope + (target - mean) / spread if spread > 0 else np.inf
        if not low < step < high:
            step = (low + high) / 2 if np.isfinite(low + high) else slope + np.sign(target - mean)
        if abs(step - slope) <= 1e-14 * max(1.0, abs(step)):
            break
        slope = float(step)
    share = _shares(n, slope * x)
    fitted = o.sum() * share
    mean = float(share @ x)
    error = 1 / sqrt(o.sum() * float(share @ (x - mean) ** 2))
    freedom = len(t) - 2
    dispersion = float(np.sum((o - fitted) ** 2 / fitted)) / freedom if freedom > 0 else None
    if dispersion is not None and dispersion > 1:
        error *= sqrt(dispersion)
        return _trend(slope, error, dispersion, t_isf((1 - confidence) / 2, freedom))
    return _trend(slope, error, dispersion, normal_isf((1 - confidence) / 2))


def rates_trend(
    years: Sequence[float], rates: Sequence[float], variances: Sequence[float], *, confidence: float = 0.95
) -> Trend | None:
    """Weighted regression of the logarithm of (standardised) rates on the year, weights rate^2 / variance.

    Limits use Student's t with two degrees less than years; with two years there are none.

    Returns
    -------
    Trend or None
        None without two years, or with a rate or variance of zero: it has no logarithm or no weight.
    """
    t, r, v = _arrays(years, rates, variances)
    if _is_flat(t) or (r <= 0).any() or (v <= 0).any():
        return None
    weights = r**2 / v
    x = t - np.average(t, weights=weights)
    y = np.log(r) - np.average(np.log(r), weights=weights)
    square = float(weights @ x**2)
    slope = float(weights @ (x * y)) / square
    freedom = len(t) - 2
    if freedom == 0:
        return Trend(percent=100 * (exp(slope) - 1), interval=None, slope=slope, standard_error=None, dispersion=None)
    dispersion = float(weights @ (y - slope * x) ** 2) / freedom
    return _trend(slope, sqrt(dispersion / square), dispersion, t_isf((1 - confidence) / 2, freedom))


def _trend(slope: float, error: float, dispersion: float | None, quantile: float) -> Trend:
    low, high = (100 * (exp(slope + side * quantile * error) - 1) for side in (-1, 1))
    return Trend(
        percent=100 * (exp(slope) - 1),
        interval=Interval(low, high),
        slope=slope,
        standard_error=error,
        dispersion=dispersion,
    )


def _shares(n: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    raised = n * np.exp(exponent - exponent.max())
    return raised / raised.sum()


def _is_flat(t: np.ndarray) -> bool:
    return len(t) < 2 or t.min() == t.max()


def _arrays(*columns: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    arrays = [np.asarray(column, dtype=float) for column in columns]
    if len({len(array) for array in arrays}) > 1:
        raise ValueError("years and values must be of the same length")
    if not all(np.isfinite(array).all() for array in arrays) or any((array < 0).any() for array in arrays[1:]):
        raise ValueError("values are numbers of zero or more")
    return arrays[0], arrays[1], arrays[2]
