"""Disclosure control of rows: which of them hold a small count, what each is worth, and a table without some of them.

Which rows are withheld besides, so that no small count follows from what is shown, is in `linked`.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa

from radlake.contracts import Table
from radlake.contracts.check import compute
from radlake.stats.policy import Policy

__all__ = ["TOTALS", "small_rows", "withhold", "worth"]

TOTALS = ("all", "any")  # labels of rows that are totals over a dimension

_TOTAL_WORTH = 30.0


def small_rows(table: Table, exact: pa.Table, *, policy: Policy) -> np.ndarray:
    """Which rows hold a small count."""
    assert table.disclosure is not None
    found = np.zeros(exact.num_rows, dtype=bool)
    for name in table.disclosure.counts:
        counts = compute.fill_null(exact.column(name), 0).to_numpy()
        found |= (counts > 0) & (counts < policy.threshold)
    return found


def worth(table: Table, exact: pa.Table, *, wide: Collection[str] = ()) -> np.ndarray:
    """What each row is worth to readers: its first count, and much more for every dimension that it is a total over.

    Dimensions whose labels stand for many labels of other tables (a year, a region) are totals in every row.
    """
    assert table.disclosure is not None
    counts = compute.fill_null(exact.column(table.disclosure.counts[0]), 0).to_numpy()
    n_totals = np.full(exact.num_rows, len(wide))
    for name in set(table.disclosure.dimensions).difference(wide):
        labels = compute.cast(exact.column(name), pa.string())
        n_totals += compute.is_in(labels, value_set=pa.array(TOTALS)).to_numpy()
    return (1 + counts) * _TOTAL_WORTH**n_totals


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
