"""Coarse release: numbers of a service, such as uploads in time, which are judged by shares and not by single exams.

How many exams of a hospital came too late says nothing of a person, and is small where a hospital does well: to
withhold small counts would withhold what the statistic is for. How many exams there are is another matter: the same
exams are counted elsewhere, where a cell may be withheld. So a row of few exams is withheld, every count is rounded to
twice the threshold, and shares and hours are told where there are enough exams, in few digits: no difference to another
table then tells a small count.

Repeats say something of persons, and the exams of a cell may follow exactly from other tables. Where a contract hides
columns, these stay in the restricted zone, rows of fewer exams than the step of rounding are left out, so that nobody
knows how many there are, a share has as many digits as leave a small count at zero, and a sum is rounded to as many
exams as a count is.
"""

from __future__ import annotations

from collections.abc import Callable
from math import floor, log10
from typing import Any

import pyarrow as pa

from radlake.contracts import Table
from radlake.contracts.check import compute
from radlake.stats.policy import Policy

__all__ = ["LARGEST", "coarsened", "is_coarse"]

LARGEST = "largest_share"  # hidden column: the greatest share that one exam has in any of the sums of its row

_DIGITS = 2  # of a share after the point, of hours in all
_ENOUGH = 4  # times the threshold: from so many exams on shares are told


def is_coarse(table: Table) -> bool:
    return table.disclosure is not None and table.disclosure.is_coarse


def coarsened(table: Table, exact: pa.Table, *, policy: Policy) -> pa.Table:
    """The rows as they are released, sorted by their dimensions."""
    assert table.disclosure is not None
    exact = exact.sort_by([(name, "ascending") for name in table.disclosure.dimensions])
    first = table.disclosure.counts[0]
    step = max(policy.rounding, 2 * policy.threshold)
    if table.disclosure.hidden:
        exact = exact.filter(compute.greater_equal(exact.column(first), step))
    base = exact.column(first).to_pylist()
    is_masked = [policy.is_small(n) for n in base]
    columns = {}
    for column in table.columns:
        values = exact.column(column.name)
        if column.name == "is_masked":
            values = pa.array(is_masked)
        elif column.name in table.disclosure.hidden:
            values = pa.nulls(len(base), values.type)
        elif column.name in table.disclosure.dependent and LARGEST in table.disclosure.hidden:
            largest = exact.column(LARGEST).to_pylist()
            sums = [_sum_of(one, step * most) for one, most in zip(values.to_pylist(), largest, strict=True)]
            values = pa.array(sums, values.type)
        elif column.name in table.disclosure.dependent and table.disclosure.hidden:
            whole = f"n_{column.name.removesuffix('_share')}"  # a share of another count than the first
            whole = exact.column(whole).to_pylist() if whole in table.disclosure.hidden else base
            values = pa.array([_share_of(share, n, step) for share, n in zip(values.to_pylist(), whole, strict=True)])
        elif column.name in table.disclosure.counts:
            values = _each(values, is_masked, lambda n: (n + step // 2) // step * step)
        elif column.name in table.disclosure.dependent:
            too_few = [n < _ENOUGH * policy.threshold for n in base]
            values = _each(values, too_few, _rounded_share if column.name.endswith("_share") else _rounded)
        columns[column.name] = values
    return pa.table(columns, schema=table.arrow_schema())


def _each(values: pa.ChunkedArray, is_left_out: list[bool], rounded: Callable[[Any], Any]) -> pa.Array:
    shown = [
        None if left_out or value is None else rounded(value)
        for value, left_out in zip(values.to_pylist(), is_left_out, strict=True)
    ]
    return pa.array(shown, values.type)


def _share_of(share: float | None, n_exams: int, step: int) -> float | None:
    """A share with so many digits that one unit of the last is no fewer exams than a step of rounded counts.

    >>> [_share_of(0.02468, n, 10) for n in (999, 1_000, 10_000, 1_000_000)]
    [None, 0.02, 0.025, 0.02468]
    """
    digits = floor(log10(n_exams / step)) if n_exams else 0
    return None if share is None or digits < _DIGITS else round(share, digits)


def _sum_of(value: float | None, n_largest: float) -> float | None:
    """A sum in steps of 1, 2 or 5 times a power of ten that are no less than so much of it; None when these are few.

    >>> [_sum_of(140.3, share) for share in (10 / 23, 0.1, 0.01)]
    [None, 140.0, 140.0]
    """
    if not value:
        return value
    least = n_largest * value
    power = floor(log10(least))
    step = next(factor * 10.0**power for factor in (1, 2, 5, 10) if factor * 10.0**power >= least)
    return round(round(value / step) * step, max(0, 1 - power)) if value >= _ENOUGH * step else None


def _rounded_share(value: float) -> float:
    return round(value, _DIGITS)


def _rounded(value: float) -> float:
    """Two significant digits."""
    return round(value, _DIGITS - 1 - floor(log10(abs(value)))) if value else 0.0
