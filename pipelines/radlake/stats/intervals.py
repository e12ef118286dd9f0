"""Confidence intervals that every statistic shares: of a share, of a number of events, of a comparison.

Pure functions of numbers. Rates are in `rates`; whether a small count may be shown is for `disclosure` to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Literal

import numpy as np

from radlake.stats.quantiles import gamma_isf, gamma_ppf, normal_isf, t_isf

__all__ = ["Comparison", "Interval", "Limits", "byar", "compare_shares", "events_limits", "exact_poisson", "wilson"]

Limits = Literal["byar", "exact", "byar_from_10"]


@dataclass(frozen=True)
class Interval:
    """Lower and upper confidence limit, both ends included."""

    low: float
    high: float


def wilson(events: float, n: float, *, confidence: float = 0.95) -> Interval | None:
    """Score interval of a share (Wilson, J Am Stat Assoc 1927;22:209), None of nothing.

    Its ends stay within 0 and 1, and are exactly 0 or 1 when no thing or every thing is counted.

    >>> limits = wilson(65, 100)
    >>> round(limits.low, 6), round(limits.high, 6)
    (0.552544, 0.736358)

    Raises
    ------
    ValueError
        If a number is negative or not finite, or there are more events than things.
    """
    _check(events, n)
    if events > n:
        raise ValueError(f"{events} events of {n}: a share cannot be more than 1")
    z = _z(confidence)
    if n == 0:
        return None
    share = events / n
    middle = share + z * z / (2 * n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    whole = 1 + z * z / n
    low = 0.0 if events == 0 else (middle - half) / whole
    high = 1.0 if events == n else (middle + half) / whole
    return Interval(low, high)


def byar(events: float, *, confidence: float = 0.95) -> Interval:
    """Byar's approximation to the Poisson limits of a number of events (Breslow & Day 1987, vol. II, p. 69).

    Where the approximation of the lower limit would be negative (few events, high confidence) it is 0.

    >>> limits = byar(65)
    >>> round(limits.low, 4), round(limits.high, 4)
    (50.1632, 82.8491)
    """
    _check(events)
    z = _z(confidence)
    more = events + 1
    low = 0.0 if events == 0 else events * max(0.0, 1 - 1 / (9 * events) - z / (3 * sqrt(events))) ** 3
    return Interval(low, more * (1 - 1 / (9 * more) + z / (3 * sqrt(more))) ** 3)


def exact_poisson(events: float, *, confidence: float = 0.95) -> Interval:
    """Exact Poisson limits of a number of events (Garwood, Biometrika 1936;28:437), by the gamma distribution.

    >>> limits = exact_poisson(0)
    >>> limits.low, round(limits.high, 6)
    (0.0, 3.688879)
    """
    _check(events)
    tail = _tail(confidence)
    low = 0.0 if events == 0 else float(gamma_ppf(tail, events, scale=1.0))
    return Interval(low, float(gamma_isf(tail, events + 1, scale=1.0)))


def events_limits(events: float, *, method: Limits = "byar", confidence: float = 0.95) -> Interval:
    """Limits of a number of events; `byar_from_10` is exact for fewer than ten, as English public health does it."""
    if method not in ("byar", "exact", "byar_from_10"):
        raise ValueError(f"{method!r} is not byar, exact or byar_from_10")
    is_exact = method == "exact" or (method == "byar_from_10" and events < 10)
    return (exact_poisson if is_exact else byar)(events, confidence=confidence)


@dataclass(frozen=True)
class Comparison:
    """Shares of two groups and their difference (second less first), with limits that know of clusters.

    Attributes
    ----------
    standard_error : float
        Of the difference.
    is_conservative : bool
        Both clusterings together gave less than one of them, so that the larger one-way variance was taken.
    """

    shares: tuple[float, float]
    difference: float
    standard_error: float
    interval: Interval
    is_conservative: bool = False


def compare_shares(
    outcomes: Sequence[bool] | np.ndarray,
    is_second: Sequence[bool] | np.ndarray,
    *clusters: Sequence[object] | np.ndarray,
    n_exams: Sequence[int] | np.ndarray | None = None,
    confidence: float = 0.95,
) -> Comparison | None:
    """Difference of the shares of two groups of exams, robust against clusters along one or two ways.

    Exams of one person, and of one facility, are not independent. The sandwich variance adds up influence within
    clusters; with two clusterings it is V(first) + V(second) - V(both) (Cameron, Gelbach & Miller, J Bus Econ Stat
    2011;29:238), each with its factor G / (G - 1). With few clusters that can be smaller than one of them, or negative:
    then the larger of the two is taken.
    Limits use Student's t with as many degrees of freedom as the smaller number of clusters less one.

    Parameters
    ----------
    outcomes, is_second : sequence of bool
        Of every exam: whether it counts, and whether it belongs to the second group.
    clusters : one or two sequences
        Of every exam: its person, its facility.
    n_exams : sequence of int, optional
        Where a row stands for several exams of the same group and clusters; outcomes are how many of them count.

    Returns
    -------
    Comparison or None
        None when a group is empty, or a clustering has a single cluster.
    """
    y, second = np.asarray(outcomes, dtype=float), np.asarray(is_second, dtype=bool)
    if not 1 <= len(clusters) <= 2:
        raise ValueError("give one or two clusterings")
    if any(len(other) != len(y) for other in (second, *clusters)):
        raise ValueError("outcomes, groups and clusters must be of the same exams")
    tail = _tail(confidence)
    weights = np.ones(len(y)) if n_exams is None else np.asarray(n_exams, dtype=float)
    group = second.astype(int)
    n = np.bincount(group, weights=weights, minlength=2)
    if not n.all():
        return None
    shares = np.bincount(group, weights=y, minlength=2) / n
    influence = np.where(second, 1.0, -1.0) * (y - weights * shares[group]) / n[group]
    labels = [np.unique(np.asarray(one), return_inverse=True)[1] for one in clusters]
    fewest = min(int(one.max()) + 1 for one in labels)
    if fewest < 2:
        return None
    ways = [_clustered(influence, one) for one in labels]
    variance = ways[0]
    if len(labels) == 2:
        both = labels[0].astype(np.int64) * (int(labels[1].max()) + 1) + labels[1]
        variance = ways[0] + ways[1] - _clustered(influence, np.unique(both, return_inverse=True)[1])
    is_conservative = variance < max(ways)
    error = sqrt(max(ways) if is_conservative else variance)
    difference = float(shares[1] - shares[0])
    half = t_isf(tail, fewest - 1) * error
    interval = Interval(max(-1.0, difference - half), min(1.0, difference + half))
    return Comparison((float(shares[0]), float(shares[1])), difference, error, interval, is_conservative)


def _clustered(influence: np.ndarray, labels: np.ndarray) -> float:
    sums = np.bincount(labels, weights=influence)
    return float(np.sum(sums**2)) * len(sums) / max(len(sums) - 1, 1)


def _check(*numbers: float) -> None:
    for number in numbers:
        if not isfinite(number) or number < 0:
            raise ValueError(f"{number} is not a number of zero or more")


def _tail(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not between 0 and 1: write 0.95 for 95 %")
    return (1 - confidence) / 2


def _z(confidence: float) -> float:
    return normal_isf(_tail(confidence))
