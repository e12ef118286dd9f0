"""Small areas: rates drawn towards the mean of all areas, as far as their few events say little (empirical Bayes)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radlake.stats.intervals import Interval
from radlake.stats.quantiles import gamma_isf, gamma_ppf

__all__ = ["SmoothedRate", "smoothed_rates"]


@dataclass(frozen=True)
class SmoothedRate:
    """Rate of an area after smoothing.

    Attributes
    ----------
    value : float
        Mean of the posterior, per `per` expected events or residents.
    interval : Interval
        Equal tails of the posterior; it does not know that the prior was estimated.
    weight : float
        0 when the area has the mean of all, 1 when it keeps its own rate.
    """

    value: float
    interval: Interval
    weight: float


def smoothed_rates(
    events: Sequence[float], residents: Sequence[float], *, per: float = 1.0, confidence: float = 0.95
) -> list[SmoothedRate] | None:
    """Gamma-Poisson smoothing of area rates towards their common mean.

    The true rates are gamma distributed with mean m and variance A, estimated by moments (Marshall, Appl Stat
    1991;40:283): m = sum(O) / sum(n), s2 = sum(n (O/n - m)^2) / sum(n), A = s2 - m / mean(n), at least 0. The posterior
    of an area is gamma with shape m^2/A + O and rate m/A + n; its mean is Marshall's estimate. With A = 0 the areas do
    not differ by more than chance and all get m. Give expected events instead of residents to smooth ratios.

    Parameters
    ----------
    residents : sequence of float
        Person-years, or expected events. An area without any gets the mean of all.

    Returns
    -------
    list or None
        In the order of the areas; None when nobody lives in any of them.

    Raises
    ------
    ValueError
        If an area has events and no residents, or a number is negative or not finite.
    """
    o, n = np.asarray(events, dtype=float), np.asarray(residents, dtype=float)
    if o.shape != n.shape or not (np.isfinite(o).all() and np.isfinite(n).all() and (o >= 0).all() and (n >= 0).all()):
        raise ValueError("events and residents are numbers of zero or more, one of each for every area")
    if not 0 < confidence < 1:
        raise ValueError("confidence is between 0 and 1")
    if ((n == 0) & (o > 0)).any():
        raise ValueError("an area has events and no residents")
    lived = n > 0
    if not lived.any():
        return None
    mean = o.sum() / n.sum()
    spread = float(n[lived] @ (o[lived] / n[lived] - mean) ** 2) / n.sum()
    between = spread - mean / n[lived].mean()
    if between <= 0 or mean == 0:
        return [SmoothedRate(float(mean * per), Interval(float(mean * per), float(mean * per)), 0.0) for _ in o]
    shape, rate = mean**2 / between + o, mean / between + n
    tail = (1 - confidence) / 2
    lows, highs = gamma_ppf(tail, shape, scale=1 / rate), gamma_isf(tail, shape, scale=1 / rate)
    return [
        SmoothedRate(float(value * per), Interval(float(low * per), float(high * per)), float(weight))
        for value, low, high, weight in zip(shape / rate, lows, highs, n / rate, strict=True)
    ]
