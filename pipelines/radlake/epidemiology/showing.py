"""What a row of a measure shows, and what it would tell: the numbers after policy, and the facts for the gate.

Smoothed rates and trends are computed from shown numbers only: they tell nothing that the rows do not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from radlake.epidemiology.definition import DIMENSIONS, Measure
from radlake.epidemiology.rows import Key, MeasureRow
from radlake.stats.gate import Fact, Row
from radlake.stats.policy import Policy
from radlake.stats.quantiles import normal_isf
from radlake.stats.smoothing import smoothed_rates
from radlake.stats.trends import Trend, events_trend, rates_trend

__all__ = ["gate_row", "shown_rows"]

_TOTAL_WORTH = 30.0


def gate_row(
    row: MeasureRow, sizes: Sequence[int], *, policy: Policy, is_out: bool = False, was_withheld: bool = False
) -> Row:
    """The row as the gate sees it: counts within their rounding, rates within their digits."""
    half = policy.rounding / 2 if policy.rounding > 1 else 0.0
    facts = [Fact(sums=row.exams, tolerance=half), Fact(sums=row.person_times, tolerance=half)]
    if not policy.is_small(row.n_unclassified):
        facts.append(Fact(sums=row.unclassified, tolerance=half))
    rate = row.rate
    if rate.value and rate.low is not None and rate.high is not None:
        value, high = policy.rate_tolerance(rate.value), policy.rate_tolerance(rate.high)
        coarse = half / max(row.n_persons, 1)  # a rounded release scales rates with their counts
        relative = {
            "value": value / rate.value + coarse,
            "expected": value / rate.value + coarse,
            "variance": 2 * (value + high) / max(rate.high - rate.value, value) + 2 * coarse,
        }
        for name, sums in row.linear.items():
            whole = sum(factor * sizes[group] for group, factor in sums.items())
            facts.append(Fact(sums=sums, tolerance=relative[name] * whole))
    return Row(
        persons=Fact(sums=row.persons),
        facts=facts,
        is_small=policy.is_small(row.n_distinct),
        is_out=is_out,
        was_withheld=was_withheld,
        worth=(1 + row.n_persons) * _TOTAL_WORTH ** sum(label == "all" for label in row.key),
    )


def shown_rows(
    measure: Measure, rows: Sequence[MeasureRow], withheld: Collection[int], *, policy: Policy
) -> list[dict[str, Any]]:
    """Rows of stats.measure as policy shows them, with those at the given positions withheld."""
    found = [
        _masked(measure, row) if i in withheld else _shown(measure, row, policy=policy) for i, row in enumerate(rows)
    ]
    if measure.is_smoothed:
        _smooth(measure, found)
    if measure.has_trend:
        _add_trends(measure, found)
    return found


def _masked(measure: Measure, row: MeasureRow) -> dict[str, Any]:
    return _labels(measure, row.key) | {"person_years": row.person_years, "problem": "", "is_masked": True}


def _shown(measure: Measure, row: MeasureRow, *, policy: Policy) -> dict[str, Any]:
    exact = row.n_persons if measure.count == "persons" else row.n_exams
    scale = policy.shown_count(exact) / exact if exact else 1.0
    rate = row.rate

    def number(value: float | None) -> float | None:
        return policy.shown_rate(None if value is None else value * scale)

    return _labels(measure, row.key) | {
        "n_exams": policy.shown_count(row.n_exams),
        "n_persons": policy.shown_count(row.n_persons),
        "n_unclassified": None if policy.is_small(row.n_unclassified) else policy.shown_count(row.n_unclassified),
        "person_years": row.person_years,
        "rate": number(rate.value),
        "rate_low": number(rate.low),
        "rate_high": number(rate.high),
        "problem": rate.problem or "",
        "is_masked": False,
    }


def _labels(measure: Measure, key: Key) -> dict[str, Any]:
    return {"measure_id": measure.measure_id, **dict(zip(DIMENSIONS.values(), key, strict=True))}


def _smooth(measure: Measure, rows: list[dict[str, Any]]) -> None:
    """Regions that differ in nothing else are drawn together; withheld ones and ones without residents are left out."""
    alike: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["region_code"] != "all" and row.get("rate") is not None and row["person_years"]:
            key = tuple(row[column] for name, column in DIMENSIONS.items() if name != "region")
            alike[key].append(row)
    for regions in alike.values():
        events = [_events(measure, row) for row in regions]
        at_risk = [
            n * measure.per / row["rate"] if measure.kind == "ratio" and row["rate"] else row["person_years"]
            for n, row in zip(events, regions, strict=True)
        ]
        smoothed = smoothed_rates(events, at_risk, per=measure.per) or []
        for row, one in zip(regions, smoothed, strict=False):
            row["smoothed_rate"] = one.value


def _add_trends(measure: Measure, rows: list[dict[str, Any]]) -> None:
    """The row of all years gets the annual change of the rows of its years, when all of them are shown."""
    of_years: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    totals: dict[Key, dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[column] for name, column in DIMENSIONS.items() if name != "year")
        if row["exam_year"] == "all":
            totals[key] = row
        else:
            of_years[key].append(row)
    for key, row in totals.items():
        years = of_years[key]
        if not row["is_masked"] and len(years) > 1 and all(year.get("rate") is not None for year in years):
            trend = _trend(measure, years)
            if trend is not None:
                row["apc_percent"] = trend.percent
                if trend.interval is not None:
                    row["apc_low"], row["apc_high"] = trend.interval.low, trend.interval.high


def _trend(measure: Measure, years: Sequence[dict[str, Any]]) -> Trend | None:
    at = [int(row["exam_year"]) for row in years]
    if measure.kind == "crude" and measure.count == "persons":
        events, at_risk = [_events(measure, row) for row in years], [row["person_years"] for row in years]
        return events_trend(at, events, at_risk, confidence=measure.confidence)
    width = 2 * normal_isf((1 - measure.confidence) / 2)
    variances = [((row["rate_high"] - row["rate_low"]) / width) ** 2 for row in years]
    return rates_trend(at, [row["rate"] for row in years], variances, confidence=measure.confidence)


def _events(measure: Measure, row: dict[str, Any]) -> int:
    return row["n_persons"] if measure.count == "persons" else row["n_exams"]
