"""Disclosure control of one table: withhold small counts, and as much beside them as it takes to keep them unknown.

A table shows cells and every total over them, so one withheld cell comes back by subtraction. A small count is safe
when the cells could be other numbers and everything shown still be the same. For each small count we look for such
other worlds: one in which it is larger, up to the threshold, and one in which it is as small as it can be. A world is
made of changes; a change adds to one cell of the count and takes away from others: crosswise along some dimensions, so
that the totals stay, or from any large cell, so that the grand total stays. Every row that differs in a world is
withheld. What is left is the same in all these worlds, so nobody can tell which of them is ours: that is a proof. Which
worlds are taken is a heuristic that withholds details before totals; the change of one cell alone always exists.

(The crosswise change over n dimensions is the hypercube of suppressed cells of statistical disclosure control.)
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, product
from math import prod
from typing import Any

import pyarrow as pa

from radlake.contracts import Table
from radlake.contracts.check import compute
from radlake.stats.policy import Policy

__all__ = ["TOTALS", "Sums", "small_rows", "withheld_rows", "withhold", "worth"]

TOTALS = ("all", "any")  # labels of rows that are totals over a dimension

_NEIGHBOURS = 4
_LARGEST = 30
_TOTAL_WORTH = 30.0


@dataclass(frozen=True)
class _Change:
    """Cells that change by +1 or -1, and by how much the rows change that show it."""

    cells: tuple[tuple[int, int], ...]
    rows: dict[int, int]


@dataclass(frozen=True, kw_only=True)
class Sums:
    """How the totals of a table come about, where they are not plain sums of their rows.

    Attributes
    ----------
    distinct : collection of str
        Counts of distinct things: totals are less than sums. They are withheld with the other counts of their row.
    repeated : mapping of str to collection of str
        Count -> dimensions along which every row repeats it.
    zeros : collection of str
        Counts whose rows exist also when they are zero; a row of any other count says that there is something.
    at_most : mapping of str to str
        Count -> count of the same row that it cannot be more than.
    left_out : mapping of str to str
        Dimension -> column that is NULL in rows which the totals over the dimension leave out.
    """

    distinct: Collection[str] = ()
    repeated: Mapping[str, Collection[str]] = field(default_factory=dict)
    zeros: Collection[str] = ()
    at_most: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


def withheld_rows(
    table: Table, rows: Sequence[Mapping[str, Any]], *, policy: Policy, sums: Sums | None = None
) -> set[int]:
    """Positions of rows to withhold: those with a small count, and those that would give one away.

    Parameters
    ----------
    rows : sequence of mapping
        All rows of the exact table, sorted by its dimensions: the same rows always give the same answer.
    """
    assert table.disclosure is not None
    sums = sums or Sums()
    withheld = small_rows(table, rows, policy=policy)
    for count in table.disclosure.counts:
        if count not in sums.distinct:
            _protect(_Cube.from_rows(table, rows, count, sums=sums, policy=policy), withheld, policy=policy)
    return withheld


def small_rows(table: Table, rows: Sequence[Mapping[str, Any]], *, policy: Policy) -> set[int]:
    """Positions of rows that hold a small count."""
    assert table.disclosure is not None
    counts = table.disclosure.counts
    return {i for i, row in enumerate(rows) if any(0 < (row[name] or 0) < policy.threshold for name in counts)}


def withhold(table: Table, exact: pa.Table, rows: Collection[int]) -> pa.Table:
    """The table with counts and what depends on them NULL in the rows at the given positions; is_masked says so."""
    assert table.disclosure is not None
    is_masked = pa.array([i in rows for i in range(exact.num_rows)], type=pa.bool_())
    columns = {}
    for name in exact.column_names:
        values = exact.column(name)
        if name in (*table.disclosure.counts, *table.disclosure.dependent):
            values = compute.if_else(is_masked, pa.scalar(None, type=values.type), values)
        columns[name] = is_masked if name == "is_masked" else values
    return pa.table(columns, schema=table.arrow_schema())


def worth(key: Sequence[str], count: int) -> float:
    """What a row is worth to readers: its count, and much more for every dimension that it is a total over."""
    return (1 + count) * _TOTAL_WORTH ** sum(label in TOTALS for label in key)


def _protect(cube: _Cube, withheld: set[int], *, policy: Policy) -> None:
    small = sorted((count, row) for row, count in enumerate(cube.counts) if 0 < count < policy.threshold)
    cells_of = cube.cells_of({row for _, row in small})
    for _, row in small:
        withheld |= _cover(cube, row, cells=cells_of[row], withheld=withheld, threshold=policy.threshold)


@dataclass(frozen=True)
class _Cube:
    """One count of a table: its rows, its cells, and which rows each cell is part of.

    Attributes
    ----------
    keys, counts : list
        Labels and count of every row.
    totals : list of str or None
        The label of totals over each dimension; None where there are none.
    cells : dict
        Labels of every cell -> its row.
    repeated, left_out : dict
        Dimension -> labels that all show the same cells; dimension -> rows that the totals do not contain.
    limits : dict
        Row -> what its count can be at most.
    floor : int
        What a withheld cell is at least.
    """

    keys: list[tuple[str, ...]]
    counts: list[int]
    totals: list[str | None]
    cells: dict[tuple[str, ...], int]
    repeated: dict[int, list[str]]
    left_out: dict[int, set[int]]
    limits: dict[int, int]
    floor: int

    @classmethod
    def from_rows(
        cls, table: Table, rows: Sequence[Mapping[str, Any]], count: str, *, sums: Sums, policy: Policy
    ) -> _Cube:
        assert table.disclosure is not None
        dimensions = table.disclosure.dimensions
        keys = [tuple(str(row[name]) for name in dimensions) for row in rows]
        labels = [set(column) for column in zip(*keys, strict=True)] or [set() for _ in dimensions]
        totals = [next((total for total in TOTALS if total in found), None) for found in labels]
        repeated = {d: sorted(labels[d]) for d, name in enumerate(dimensions) if name in sums.repeated.get(count, ())}
        first = {d: totals[d] or shown[0] for d, shown in repeated.items() if shown}
        cells = {
            key: row
            for row, key in enumerate(keys)
            if all(label == first[d] if d in first else label != totals[d] for d, label in enumerate(key))
        }
        limit = sums.at_most.get(count)
        return cls(
            keys=keys,
            counts=[row[count] or 0 for row in rows],
            totals=[None if d in repeated else total for d, total in enumerate(totals)],
            cells=cells,
            repeated=repeated,
            left_out={
                dimensions.index(name): {i for i, row in enumerate(rows) if row[column] is None}
                for name, column in sums.left_out.items()
            },
            # A small limit is withheld with the count and known to nobody.
            limits={i: row[limit] for i, row in enumerate(rows) if (row[limit] or 0) >= policy.threshold}
            if limit
            else {},
            floor=0 if count in sums.zeros else 1,
        )

    @cached_property
    def row_of(self) -> dict[tuple[str, ...], int]:
        return {key: row for row, key in enumerate(self.keys)}

    @cached_property
    def rows_with(self) -> dict[int, tuple[int, ...]]:
        """Cell -> rows that it is part of, its own row first."""
        found = {}
        for key, cell in self.cells.items():
            along: list[Collection[str]] = []
            for d, label in enumerate(key):
                total = self.totals[d]
                has_total = total is not None and cell not in self.left_out.get(d, ())
                along.append(self.repeated.get(d) or ((label, total) if has_total and total else (label,)))
            found[cell] = tuple(
                dict.fromkeys([cell, *(self.row_of[key] for key in product(*along) if key in self.row_of)])
            )
        return found

    @cached_property
    def lines(self) -> dict[tuple[int, tuple[str, ...]], list[tuple[int, str, int]]]:
        """Cells along a dimension that has totals: count, label and row, the smallest first."""
        found: dict[tuple[int, tuple[str, ...]], list[tuple[int, str, int]]] = defaultdict(list)
        for key, cell in self.cells.items():
            for d, label in enumerate(key):
                if self.totals[d] is not None:
                    found[d, key[:d] + key[d + 1 :]].append((self.counts[cell], label, cell))
        for line in found.values():
            line.sort()
        return found

    @cached_property
    def largest(self) -> list[tuple[str, ...]]:
        return heapq.nlargest(_LARGEST, self.cells, key=lambda key: (self.counts[self.cells[key]], key))

    @cached_property
    def worth(self) -> list[float]:
        return [worth(key, count) for key, count in zip(self.keys, self.counts, strict=True)]

    def cells_of(self, rows: set[int]) -> dict[int, list[tuple[str, ...]]]:
        """The cells of each row, the largest first; the cells of a small total are themselves small."""
        most = max((self.counts[row] for row in rows), default=0)
        found: dict[int, list[tuple[str, ...]]] = defaultdict(list)
        for _, key in sorted((-self.counts[c], key) for key, c in self.cells.items() if 0 < self.counts[c] <= most):
            for row in self.rows_with[self.cells[key]]:
                if row in rows:
                    found[row].append(key)
        return found


def _cover(cube: _Cube, row: int, *, cells: list[tuple[str, ...]], withheld: set[int], threshold: int) -> set[int]:
    """Rows to withhold besides, so that the count can be anything from its least to threshold - 1.

    Changes are added up until the count can rise and fall far enough: first those that nobody sees anyway, then the
    one that withholds least for what it gives.
    """
    count = cube.counts[row]
    worlds = (
        _World(cube, +1, missing=threshold - 1 - count),
        _World(cube, -1, missing=count - max(cube.floor * len(cells), 1)),
    )

    def take(change: _Change) -> bool:
        for world in worlds:
            world.take(change)
        return not any(world.missing for world in worlds)

    if any(take(change) for change in _hidden_changes(cube, row, withheld=withheld)):
        return set()
    seen: list[_Change] = []
    for change in _changes(cube, row, cells, withheld=withheld):
        if change.rows.keys() <= withheld:
            if take(change):
                return set()
        else:
            seen.append(change)
    new: set[int] = set()
    while any(world.missing for world in worlds):
        offers = [
            (
                sum(cube.worth[other] for other in change.rows if other not in withheld and other not in new) / room,
                number,
            )
            for number, change in enumerate(seen)
            if (room := sum(world.room(change) for world in worlds))
        ]
        if not offers:  # only where a limit is nearly reached: then everything that holds the cells goes
            return new | {other for key in cells for other in cube.rows_with[cube.cells[key]]}
        best = seen[min(offers)[1]]
        take(best)
        new |= best.rows.keys()
    return new


class _World:
    """The numbers of the cells if the count were larger (direction 1) or smaller (-1) than it is."""

    def __init__(self, cube: _Cube, direction: int, *, missing: int) -> None:
        self.cube, self.direction, self.missing = cube, direction, missing
        self._moved: dict[int, int] = defaultdict(int)
        self._rows_moved: dict[int, int] = defaultdict(int)

    def room(self, change: _Change) -> int:
        """How far the change can go: every cell stays at its floor or more, every row within its limit."""
        room = self.missing
        for cell, sign in change.cells:
            if room <= 0:
                return 0
            if sign != self.direction:
                room = min(room, self.cube.counts[cell] + self._moved[cell] - self.cube.floor)
        if room > 0 and self.cube.limits:
            for row, times in change.rows.items():
                if times * self.direction > 0 and row in self.cube.limits:
                    level = self.cube.counts[row] + self._rows_moved[row]
                    room = min(room, (self.cube.limits[row] - level) // abs(times))
        return max(room, 0)

    def take(self, change: _Change) -> None:
        """Go as far as there is room."""
        room = self.room(change)
        if not room:
            return
        self.missing -= room
        for cell, sign in change.cells:
            self._moved[cell] += sign * self.direction * room
        if self.cube.limits:
            for row, times in change.rows.items():
                self._rows_moved[row] += times * self.direction * room


def _hidden_changes(cube: _Cube, row: int, *, withheld: set[int]) -> Iterator[_Change]:
    """Changes of a cell crosswise along all dimensions that have totals, among cells that are withheld anyway.

    No total shows them: they are the first to look for.
    """
    key = cube.keys[row]
    if cube.cells.get(key) != row:
        return
    choices = [
        (None,) if total is None else _neighbours(cube, row, key, d, withheld=withheld, is_shown=False)
        for d, total in enumerate(cube.totals)
    ]
    for others in product(*choices):
        corners = product(*({label, other or label} for label, other in zip(key, others, strict=True)))
        if all(cube.cells.get(corner) in withheld for corner in corners):
            change = _crosswise(cube, key, others)
            if change is not None and change.rows.keys() <= withheld:
                yield change


def _changes(cube: _Cube, row: int, cells: list[tuple[str, ...]], *, withheld: set[int]) -> Iterator[_Change]:
    """Changes of one cell of the row: crosswise against up to one neighbour along each dimension, or against any
    large cell of the same grand total."""
    for key in cells:
        choices = [
            (
                *_neighbours(cube, row, key, d, withheld=withheld, is_shown=False),
                *_neighbours(cube, row, key, d, withheld=withheld, is_shown=True),
            )[:_NEIGHBOURS]
            for d in range(len(key))
        ]
        for others in product(*((*labels, None) for labels in choices)):
            change = _crosswise(cube, key, others)
            if change is not None:
                yield change
        for other in cube.largest:
            is_same_total = all(a == b or cube.totals[d] for d, (a, b) in enumerate(zip(key, other, strict=True)))
            if is_same_total and row not in cube.rows_with[cube.cells[other]]:
                yield _seen(cube, ((cube.cells[key], 1), (cube.cells[other], -1)))


def _crosswise(cube: _Cube, key: tuple[str, ...], others: Sequence[str | None]) -> _Change | None:
    """The change of a cell against a neighbour along each dimension; None where there is no cell to take from.

    Along a dimension with a neighbour the total stays; along one without, it changes with the cell.
    """
    labels, signs = [], []
    for label, other in zip(key, others, strict=True):
        labels.append((label,) if other is None else (label, other))
        signs.append((1,) if other is None else (1, -1))
    cells = []
    for corner, sign in zip(product(*labels), product(*signs), strict=True):
        cell = cube.cells.get(corner)
        if cell is None:
            return None
        cells.append((cell, prod(sign)))
    if cube.left_out:
        return _seen(cube, tuple(cells))
    for d, other in enumerate(others):
        if other is None:
            labels[d] = cube.repeated.get(d) or ((key[d], cube.totals[d]) if cube.totals[d] else (key[d],))
            signs[d] = (1,) * len(labels[d])
    rows = {}
    for corner, sign in zip(product(*labels), product(*signs), strict=True):
        if (row := cube.row_of.get(corner)) is not None:
            rows[row] = prod(sign)
    return _Change(tuple(cells), rows)


def _seen(cube: _Cube, cells: tuple[tuple[int, int], ...]) -> _Change:
    """The change of some cells, and the rows in which it can be seen."""
    effect: dict[int, int] = defaultdict(int)
    for cell, sign in cells:
        for row in cube.rows_with[cell]:
            effect[row] += sign
    return _Change(cells, {row: times for row, times in effect.items() if times})


def _neighbours(
    cube: _Cube, row: int, key: tuple[str, ...], d: int, *, withheld: set[int], is_shown: bool
) -> list[str]:
    """Cells outside the row to take from along a dimension: of those withheld large ones, of those shown small ones."""
    line = cube.lines.get((d, key[:d] + key[d + 1 :]), [])
    fitting = (
        label
        for _, label, cell in (line if is_shown else reversed(line))
        if (cell not in withheld) == is_shown and row not in cube.rows_with[cell]
    )
    return list(islice(fitting, _NEIGHBOURS))
