"""Rates of events in residents: crude, directly standardised, indirectly standardised.

Denominators are residents (person-years), never exams. A rate that cannot be calculated has no value and says why;
whether a small number may be shown, or a rate of few events is worth showing, is the caller's policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, sqrt
from typing import Literal

from radlake.stats.intervals import Interval, Limits, byar, events_limits
from radlake.stats.quantiles import gamma_isf, gamma_ppf

__all__ = ["Method", "Rate", "Stratum", "crude_rate", "directly_standardised_rate", "indirectly_standardised_ratio"]

Method = Literal["dobson", "fay_feuer"]


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Events and residents of one age (and sex) group.

    Attributes
    ----------
    residents : float
        Person-years at risk.
    weight : float
        Of the stratum in the standard population, in any unit.
    persons_with : mapping of int to int
        Where events repeat within persons: number of events -> persons with so many. Their sum replaces `events`.
    """

    residents: float
    weight: float = 1.0
    events: float = 0.0
    persons_with: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.persons_with:
            counted = sum(times * persons for times, persons in self.persons_with.items())
            if self.events not in (0, counted):
                raise ValueError(f"{self.events} events, but those of persons add up to {counted}")
            object.__setattr__(self, "events", counted)
        numbers = (self.residents, self.weight, self.events, *self.persons_with, *self.persons_with.values())
        if not all(isfinite(number) and number >= 0 for number in numbers):
            raise ValueError("events, residents and weights are numbers of zero or more")

    @property
    def event_variance(self) -> float:
        """Variance of the number of events: itself (Poisson), or of persons who bring several at a time."""
        if not self.persons_with:
            return self.events
        return sum(times**2 * persons for times, persons in self.persons_with.items())


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A rate or ratio with its limits.

    Attributes
    ----------
    value, low, high : float or None
        Per `per` residents; None when it cannot be calculated.
    variance : float or None
        Of the value, in its unit squared.
    expected : float or None
        Events that the reference rates would give (indirect standardisation).
    problem : str or None
        Why there is no value: no_residents, events_without_residents, stratum_without_residents, no_weight or
        nothing_expected.
    """

    events: float
    residents: float
    value: float | None = None
    low: float | None = None
    high: float | None = None
    variance: float | None = None
    expected: float | None = None
    problem: str | None = None


def crude_rate(
    events: float, residents: float, *, per: float = 1.0, method: Limits = "byar", confidence: float = 0.95
) -> Rate:
    """Events per residents with Poisson limits.

    >>> rate = crude_rate(65, 100, per=100)
    >>> rate.value, round(rate.low, 4), round(rate.high, 4)
    (65.0, 50.1632, 82.8491)
    """
    stratum = Stratum(events=events, residents=residents)
    limits = events_limits(events, method=method, confidence=confidence)
    if stratum.residents == 0:
        return Rate(events=events, residents=0, problem="events_without_residents" if events else "no_residents")
    return _rate(events, residents, value=events, limits=limits, variance=events, scale=per / residents)


def directly_standardised_rate(
    strata: Sequence[Stratum], *, per: float = 1.0, method: Method = "dobson", confidence: float = 0.95
) -> Rate:
    """Rate that the standard population would have with the rates of these strata.

    value = sum(w O / n) / sum(w), variance = sum(w^2 Var(O) / n^2) / sum(w)^2, where Var(O) = O, or the variance of
    events that repeat within persons when they are given by `persons_with`.

    Parameters
    ----------
    method : {"dobson", "fay_feuer"}
        Limits. Dobson: value + sqrt(variance / O) (Byar's limit of O - O) (Stat Med 1991;10:457). Fay-Feuer: gamma
        distribution with the largest weight added for the upper limit (Stat Med 1997;16:791).
        Without events Dobson's factor is not defined: its largest possible value, that of the stratum with the
        largest w/n, is taken, as Fay and Feuer do.

    Returns
    -------
    Rate
        Without value when a stratum that has a weight has no residents: its rate is not known, and leaving it out
        would be another standard. A stratum without weight does not matter.
    """
    if method not in ("dobson", "fay_feuer"):
        raise ValueError(f"{method!r} is not dobson or fay_feuer")
    events, residents = sum(one.events for one in strata), sum(one.residents for one in strata)
    whole = sum(one.weight for one in strata)
    if problem := _problem(strata, residents=residents, whole=whole):
        return Rate(events=events, residents=residents, problem=problem)
    weighted = [(one.weight / (one.residents * whole), one) for one in strata if one.weight > 0]
    value = sum(share * one.events for share, one in weighted)
    variance = sum(share**2 * one.event_variance for share, one in weighted)
    largest = max(share for share, _ in weighted)
    # Events of strata without weight are in no rate: they say nothing about its limits either.
    counted = sum(one.events for _, one in weighted)
    limits = _dobson if method == "dobson" else _fay_feuer
    found = limits(value, variance, counted, largest, confidence)
    found = Interval(max(0.0, found.low), found.high)
    return _rate(events, residents, value=value, limits=found, variance=variance, scale=per)


def indirectly_standardised_ratio(
    strata: Sequence[Stratum],
    reference: Sequence[Stratum],
    *,
    per: float = 1.0,
    method: Limits = "byar",
    confidence: float = 0.95,
) -> Rate:
    """Observed events over those that the rates of a reference population would give (ISR; of deaths, SMR).

    Parameters
    ----------
    strata, reference : sequence of Stratum
        The same strata in the same order; weights are not used.
    per : float
        1 gives the ratio, 100 the usual SMR, the crude rate of the reference an indirectly standardised rate.
    """
    if len(strata) != len(reference):
        raise ValueError(f"{len(strata)} strata, but {len(reference)} of the reference")
    events, residents = sum(one.events for one in strata), sum(one.residents for one in strata)
    limits = events_limits(events, method=method, confidence=confidence)
    variance = sum(one.event_variance for one in strata)
    if variance != events:  # events that repeat within persons
        spread = sqrt(variance / events)
        limits = Interval(*(max(0.0, events + spread * (end - events)) for end in (limits.low, limits.high)))
    pairs = [(one, base) for one, base in zip(strata, reference, strict=True) if one.residents or one.events]
    if any(one.residents == 0 for one, _ in pairs):
        return Rate(events=events, residents=residents, problem="events_without_residents")
    if any(base.residents == 0 for _, base in pairs):
        return Rate(events=events, residents=residents, problem="stratum_without_residents")
    expected = sum(one.residents * base.events / base.residents for one, base in pairs)
    if expected == 0:
        problem = "nothing_expected" if residents else "no_residents"
        return Rate(events=events, residents=residents, expected=0.0, problem=problem)
    found = _rate(events, residents, value=events, limits=limits, variance=variance, scale=per / expected)
    return replace(found, expected=expected)


def _rate(events: float, residents: float, *, value: float, limits: Interval, variance: float, scale: float) -> Rate:
    return Rate(
        events=events,
        residents=residents,
        value=value * scale,
        low=limits.low * scale,
        high=limits.high * scale,
        variance=variance * scale**2,
    )


def _problem(strata: Sequence[Stratum], *, residents: float, whole: float) -> str | None:
    if any(one.events and not one.residents for one in strata):
        return "events_without_residents"
    if residents == 0:
        return "no_residents"
    if whole == 0:
        return "no_weight"
    return "stratum_without_residents" if any(one.weight and not one.residents for one in strata) else None


def _dobson(value: float, variance: float, events: float, largest: float, confidence: float) -> Interval:
    count = byar(events, confidence=confidence)
    scale = sqrt(variance / events) if events else largest
    return Interval(value + scale * (count.low - events), value + scale * (count.high - events))


def _fay_feuer(value: float, variance: float, events: float, largest: float, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low = 0.0 if events == 0 else float(gamma_ppf(tail, value**2 / variance, scale=variance / value))
    above, spread = value + largest, variance + largest**2
    return Interval(low, float(gamma_isf(tail, above**2 / spread, scale=spread / above)))
