"""Disclosure control of rows: which of them hold a small count, what each is worth, and a table without some of them.

Which rows are withheld besides, so that no small count follows from what is shown, is in `linked`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from radlake.contracts import Table
from radlake.contracts.check import compute
from radlake.stats.policy import Policy

__all__ = ["TOTALS", "small_rows", "withhold", "worth"]

TOTALS = ("all", "any")  # labels of rows that are totals over a dimension

_DETAIL = 30.0  # by how much a label of a dimension lessens the worth of a row
_WHO_AND_WHEN = {"hospital_id": 5.0, "exam_year": 3.0, "region_code": 3.0}  # those that readers ask for first
_GRAND = 1000.0  # times: the total over everything


def small_rows(table: Table, exact: pa.Table, *, policy: Policy) -> np.ndarray:
    """Which rows hold a small count."""
    assert table.disclosure is not None
    found = np.zeros(exact.num_rows, dtype=bool)
    for name in table.disclosure.counts:
        counts = compute.fill_null(exact.column(name), 0).to_numpy()
        found |= (counts > 0) & (counts < policy.threshold)
    return found


def worth(table: Table, exact: pa.Table) -> np.ndarray:
    """What each row is worth to readers: its first count, and much more for every dimension that it is a total over.

    A hospital, a year and a region are worth nearly as much as a total; the total over everything more than all else.
    """
    assert table.disclosure is not None
    found = 1.0 + compute.fill_null(exact.column(table.disclosure.counts[0]), 0).to_numpy()
    is_grand = np.ones(exact.num_rows, dtype=bool)
    for name in table.disclosure.dimensions:
        labels = compute.cast(exact.column(name), pa.string())
        is_total = compute.is_in(labels, value_set=pa.array(TOTALS)).to_numpy()
        if is_total.any() or name in _WHO_AND_WHEN:
            found *= np.where(is_total, _DETAIL, _DETAIL / _WHO_AND_WHEN.get(name, _DETAIL))
            is_grand &= is_total | ~is_total.any()
    return np.where(is_grand, _GRAND, 1.0) * found


def withhold(table: Table, exact: pa.Table, rows: np.ndarray) -> pa.Table:
    """The table with counts and what depends on them NULL in the rows that are marked; is_masked says so."""
    assert table.disclosure is not None
    is_masked = pa.array(rows, type=pa.bool_())
    columns = {}
    for name in exact.column_names:
        values = exact.column(name)
        if name in (*table.disclosure.counts, *table.disclosure.dependent):
            values = compute.if_else(is_masked, pa.scalar(None, type=values.type), values)
        columns[name] = is_masked if name == "is_masked" else values
    return pa.table(columns, schema=table.arrow_schema())
