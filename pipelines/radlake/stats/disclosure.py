"""Disclosure control of a release: withhold small counts, and a partner beside each that subtraction would bring back.

A table shows cells and every total over them. Along any line (one total and the rows that it is the sum of) a single
withheld row comes back by subtraction, so at least two are withheld, and together they are not small either. Tables
that count the same exams are masked together: what one withholds, no other shows. Totals are withheld last of all:
the province's own figures stay (as in NHS hospital statistics, where national counts are not suppressed).

That holds against every pair of published rows and every line of the tables. It is not a proof against whole systems
of equations over many lines; docs/adr/0005 says why this was chosen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from radlake.contracts import Table, load_table
from radlake.contracts.check import compute

__all__ = ["TOTALS", "Policy", "lines_of", "mask"]

TOTALS = ("all", "any")  # labels of rows that are totals over a dimension
VOLUME, DUPLICATES, FILM = "stats.exam_volume", "stats.duplicate_exam", "stats.film_saving"
DISTINCT = ("n_patients",)  # totals are less than sums: withheld with the exams of the row

Key = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is small.

    Attributes
    ----------
    threshold : int
        Counts from 1 to threshold - 1 are withheld; zero is shown. 5 inside the commission; 10 for the public.
    """

    threshold: int = 5


def mask(exact: Mapping[str, pa.Table], *, policy: Policy | None = None) -> dict[str, pa.Table]:
    """Withhold small counts in all statistics of a release, and what would give one away.

    Parameters
    ----------
    exact : mapping of str to pa.Table
        Exact statistics by name.

    Returns
    -------
    dict of str to pa.Table
        The same rows, sorted by their dimensions; where withheld, counts and what depends on them are NULL.
    """
    policy = policy or Policy()
    data = {name: _sorted(load_table(name), table) for name, table in exact.items()}
    rows = {name: _rows(load_table(name), table) for name, table in data.items()}
    withheld = {name: _small(load_table(name), items, policy=policy) for name, items in rows.items()}
    changed = True
    while changed:
        before = {name: len(keys) for name, keys in withheld.items()}
        for name, items in rows.items():
            for count in _counts(load_table(name)):
                counts = {key: row[count] or 0 for key, row in items.items()}
                _pair_up(counts, withheld[name], policy=policy)
        _link(rows, withheld)
        changed = before != {name: len(keys) for name, keys in withheld.items()}
    return {name: _withhold(load_table(name), table, list(rows[name]), withheld[name]) for name, table in data.items()}


def lines_of(keys: Collection[Key]) -> Iterator[tuple[Key, list[Key]]]:
    """Every total with the rows that it is the sum of, along one dimension."""
    found: dict[tuple[int, Key], list[Key]] = defaultdict(list)
    for key in keys:
        for d in range(len(key)):
            found[d, key[:d] + key[d + 1 :]].append(key)
    for (d, _), line in sorted(found.items()):
        total = next((key for key in line if key[d] in TOTALS), None)
        if total is not None:
            yield total, [key for key in line if key != total]


def _pair_up(counts: Mapping[Key, int], withheld: set[Key], *, policy: Policy) -> None:
    """Withhold more rows until no line gives one away."""
    lines = list(lines_of(counts))
    changed = True
    while changed:
        changed = False
        for total, parts in lines:
            hidden = [key for key in parts if key in withheld and counts[key]]
            if not hidden or total in withheld:
                continue
            # All hidden rows together are as easily told as one row is alone.
            while len(hidden) < 2 or sum(counts[key] for key in hidden) < policy.threshold:
                shown = [key for key in parts if key not in withheld and counts[key]]
                partner = min(shown, key=lambda key: (counts[key], key), default=total)
                withheld.add(partner)
                changed = True
                if partner == total:
                    break
                hidden.append(partner)


def _link(rows: Mapping[str, Mapping[Key, Any]], withheld: dict[str, set[Key]]) -> None:
    """Tables of the same exams: a row that one withholds is shown by none."""
    same = [name for name in (VOLUME, FILM) if name in rows]
    exams = {key for name in same for key in withheld[name]}
    for name in same:
        withheld[name] |= exams & rows[name].keys()
    if DUPLICATES in rows:
        # Every window and scope of a row shows the number of exams.
        withheld[DUPLICATES] |= {key for key in rows[DUPLICATES] if key[2:] in exams}
        few = {key[:1] + key[2:] for key in withheld[DUPLICATES] if key[1] == "any"}
        withheld[DUPLICATES] |= {key for key in rows[DUPLICATES] if key[:1] + key[2:] in few}


def _small(table: Table, rows: Mapping[Key, Mapping[str, Any]], *, policy: Policy) -> set[Key]:
    assert table.disclosure is not None
    counts = table.disclosure.counts
    return {key for key, row in rows.items() if any(0 < (row[name] or 0) < policy.threshold for name in counts)}


def _counts(table: Table) -> list[str]:
    """Counts whose totals are sums; the number of exams of a duplicate row is the same in every scope."""
    assert table.disclosure is not None
    left_out = (*DISTINCT, "n_exams") if table.view_name == DUPLICATES else DISTINCT
    return [name for name in table.disclosure.counts if name not in left_out]


def _sorted(table: Table, data: pa.Table) -> pa.Table:
    assert table.disclosure is not None, f"{table.view_name} has no disclosure in its contract"
    return data.sort_by([(name, "ascending") for name in table.disclosure.dimensions])


def _rows(table: Table, data: pa.Table) -> dict[Key, dict[str, Any]]:
    assert table.disclosure is not None
    dimensions = table.disclosure.dimensions
    return {tuple(str(row[name]) for name in dimensions): row for row in data.to_pylist()}


def _withhold(table: Table, data: pa.Table, keys: list[Key], withheld: Collection[Key]) -> pa.Table:
    assert table.disclosure is not None
    is_masked = pa.array([key in withheld for key in keys], type=pa.bool_())
    columns = {}
    for name in data.column_names:
        values = data.column(name)
        if name in (*table.disclosure.counts, *table.disclosure.dependent):
            values = compute.if_else(is_masked, pa.scalar(None, type=values.type), values)
        columns[name] = is_masked if name == "is_masked" else values
    return pa.table(columns, schema=table.arrow_schema())
