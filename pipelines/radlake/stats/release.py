"""One release: the statistics that are published together, and how the totals of each come about.

How a table is masked is in `disclosure`, what tables tell together in `linked`. A new statistic needs an entry here
only where its totals are not plain sums.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from radlake.contracts import Table, load_table
from radlake.contracts.check import compute
from radlake.stats.disclosure import TOTALS, Sums, small_rows, withheld_rows, withhold
from radlake.stats.linked import EXAMS, VOLUME, withhold_linked
from radlake.stats.policy import Policy

__all__ = ["SUMS", "mask"]


SUMS: Mapping[str, Sums] = {
    "stats.exam_volume": Sums(distinct=["n_patients"]),
    "stats.duplicate_exam": Sums(
        repeated={"n_exams": ["scope"]},
        zeros=["n_duplicates"],
        at_most={"n_duplicates": "n_exams"},
    ),
    "stats.exam_rate": Sums(distinct=["n_patients"], left_out={"region_code": "n_residents"}),
}


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
    tables = {name: load_table(name) for name in exact}
    data: dict[str, pa.Table] = {}
    for name, table in tables.items():
        assert table.disclosure is not None, f"{name} has no disclosure in its contract"
        data[name] = exact[name].sort_by([(dimension, "ascending") for dimension in table.disclosure.dimensions])
    rows = {name: table.to_pylist() for name, table in data.items()}
    if policy.complementary:
        withheld = {
            name: withheld_rows(tables[name], rows[name], policy=policy, sums=SUMS.get(name)) for name in sorted(rows)
        }
        if VOLUME in rows:
            withhold_linked({name: rows[name] for name in EXAMS if name in rows}, withheld, policy=policy)
    else:
        withheld = {name: small_rows(tables[name], rows[name], policy=policy) for name in rows}
    masked = {name: withhold(table, data[name], withheld[name]) for name, table in tables.items()}
    return masked if policy.rounding == 1 else {name: _rounded(tables[name], masked[name], policy) for name in masked}


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
