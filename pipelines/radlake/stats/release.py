"""One release: the statistics that are published together.

How rows are masked is in `disclosure`, which of them in `linked`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from radlake.contracts import Table, load_table
from radlake.contracts.check import compute
from radlake.stats.coarse import coarsened, is_coarse
from radlake.stats.disclosure import TOTALS, withhold
from radlake.stats.linked import withheld_rows
from radlake.stats.policy import Policy

__all__ = ["as_shown", "mask"]


def mask(exact: Mapping[str, pa.Table], *, policy: Policy | None = None) -> dict[str, pa.Table]:
    """Withhold small counts in all statistics of a release, and what would give one away.

    Parameters
    ----------
    exact : mapping of str to pa.Table
        Exact statistics by name.

    Returns
    -------
    dict of str to pa.Table
        The same rows, sorted by their dimensions; see docs/reference/definitions.md for what is guaranteed.
    """
    policy = policy or Policy()
    contracts = {name: load_table(name) for name in sorted(exact)}
    tables = {name: table for name, table in contracts.items() if not is_coarse(table)}
    coarse = {name: coarsened(contracts[name], exact[name], policy=policy) for name in contracts if name not in tables}
    data: dict[str, pa.Table] = {}
    for name, table in tables.items():
        assert table.disclosure is not None, f"{name} has no disclosure in its contract"
        data[name] = exact[name].sort_by([(dimension, "ascending") for dimension in table.disclosure.dimensions])
    withheld = withheld_rows(data, policy=policy)
    return coarse | {name: as_shown(table, data[name], withheld[name], policy=policy) for name, table in tables.items()}


def as_shown(table: Table, exact: pa.Table, withheld: np.ndarray, *, policy: Policy) -> pa.Table:
    """Exact rows as a policy shows them, those that are marked withheld; a coarse table needs no marks."""
    if is_coarse(table):
        return coarsened(table, exact, policy=policy)
    masked = withhold(table, exact, withheld)
    return masked if policy.rounding == 1 else _rounded(table, masked, policy)


def _rounded(table: Table, masked: pa.Table, policy: Policy) -> pa.Table:
    """Counts rounded and what is calculated from exact counts left out, except in rows that are total in everything."""
    assert table.disclosure is not None
    labels = [masked.column(name).to_pylist() for name in table.disclosure.dimensions]
    is_total = pa.array([all(str(label) in TOTALS for label in row) for row in zip(*labels, strict=True)], pa.bool_())
    for name in (*table.disclosure.counts, *table.disclosure.dependent):
        values = masked.column(name)
        is_count = name in table.disclosure.counts
        shown = [policy.shown_count(n) if is_count and n is not None else None for n in values.to_pylist()]
        coarse = compute.if_else(is_total, values, pa.array(shown, values.type))
        masked = masked.set_column(masked.schema.get_field_index(name), masked.schema.field(name), coarse)
    return masked
