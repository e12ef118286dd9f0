"""Disclosure control across tables: counts of the same exams in several tables must not give a small one away.

Each table by itself keeps its small counts (`disclosure`). Here all numbers of exams of a release are one system of
sums of the same cells: month, hospital, modality, and the longest look-back window for which they are observed. A
withheld small count that follows from everything shown is found by linear algebra. The cheapest other world, in which
it is another number, is a linear program; the rows that differ in that world are withheld too, and it is the proof.

To stay quick on a province, a world changes exams of a few hospitals and a year only. A count for which no such world
is found is treated as if it followed: more may be withheld than is needed, never less.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, eye_array, hstack, vstack

from radlake.stats.disclosure import worth
from radlake.stats.policy import Policy

__all__ = ["EXAMS", "VOLUME", "withhold_linked"]

VOLUME, DUPLICATES, FILM, RATE = "stats.exam_volume", "stats.duplicate_exam", "stats.film_saving", "stats.exam_rate"
EXAMS = (VOLUME, DUPLICATES, FILM, RATE)  # they count the same exams
SCOPES = ("any", "within_hospital", "across_hospitals")
# A world changes the exams of so many hospitals, in the same years, unless the release has few cells.
_HOSPITALS, _FEW_CELLS = 4, 600
_TINY = 1e-7

Row = tuple[str, int]  # table and position
Sum = tuple[str, int, str]  # ... and what the row shows: exams of one price are a sum of their own
Cell = tuple[str, str, str, str]  # month, hospital, modality, window
Rows = Sequence[Mapping[str, Any]]


def withhold_linked(tables: Mapping[str, Rows], withheld: Mapping[str, set[int]], *, policy: Policy) -> None:
    """Add to `withheld` what keeps small numbers of exams from following from several tables.

    Parameters
    ----------
    tables : mapping of str to rows
        Exact rows of the statistics that count exams; `stats.exam_volume` must be one.
    withheld : mapping of str to set of int
        Positions of rows that are withheld already, by table.
    """
    exams = _Exams.from_tables(tables)
    # Rows of the same cells have the same answer.
    small = {tuple(exams.members[row]): row for row, count in exams.counts.items() if 0 < count < policy.threshold}
    together: dict[tuple[Cell, ...], list[Row]] = defaultdict(list)
    for row in small.values():
        together[exams.near(row)].append(row)
    for cells in sorted(together):
        system = _System.of(exams, cells, withheld)
        for row in sorted(together[cells], key=lambda row: (exams.counts[row], row)):
            if not system.is_free(row):
                for table, position in _cheapest_world(exams, row, cells, withheld):
                    withheld[table].add(position)
                system = _System.of(exams, cells, withheld)


@dataclass(frozen=True)
class _Exams:
    """Cells of exams, and which rows of which tables they are in."""

    cells: dict[Cell, int]
    sums: dict[Cell, list[Sum]]
    counts: dict[Row, int]
    worth: dict[Row, float]

    @classmethod
    def from_tables(cls, tables: Mapping[str, Rows]) -> _Exams:
        key_of = {
            VOLUME: lambda row: (row["exam_month"], row["hospital_id"], row["modality_group"]),
            FILM: lambda row: (row["exam_month"], row["hospital_id"], row["modality_group"]),
            RATE: lambda row: (row["exam_year"], row["region_code"], row["modality_group"]),
            DUPLICATES: lambda row: (
                str(row["window_days"]), row["scope"], row["exam_month"], row["hospital_id"], row["modality_group"]
            ),
        }  # fmt: skip
        labels = {(name, i): key_of[name](row) for name, rows in tables.items() for i, row in enumerate(rows)}
        counts = {(name, i): row["n_exams"] or 0 for name, rows in tables.items() for i, row in enumerate(rows)}
        at = {(name, key): i for (name, i), key in labels.items()}

        cells: dict[Cell, int] = {}
        sums: dict[Cell, list[Sum]] = {}
        for row in tables[VOLUME]:
            key = key_of[VOLUME](row)
            if "all" in key:
                continue
            observed = [counts.get((DUPLICATES, at.get((DUPLICATES, (w, "any", *key)), -1)), 0) for w in ("30", "90")]
            n_exams = [row["n_exams"], *observed, 0]
            for window, more, fewer in zip(("0", "30", "90"), n_exams, n_exams[1:], strict=False):
                if more > fewer:
                    cells[*key, window] = more - fewer
                    sums[*key, window] = list(_sums(tables, at, key, window, row["region_code"]))
        values = {row: worth(labels[row], count) for row, count in counts.items()}
        return cls(cells, sums, counts, values)

    @cached_property
    def members(self) -> dict[Row, list[Cell]]:
        """The cells of each row."""
        found: dict[Row, list[Cell]] = defaultdict(list)
        for cell in sorted(self.cells):
            for table, position in dict.fromkeys((table, position) for table, position, _ in self.sums[cell]):
                found[table, position].append(cell)
        return found

    @cached_property
    def by_place(self) -> dict[tuple[str, str], list[Cell]]:
        """Cells of each hospital and month."""
        found: dict[tuple[str, str], list[Cell]] = defaultdict(list)
        for cell in sorted(self.cells):
            found[cell[1], cell[0]].append(cell)
        return found

    def near(self, row: Row) -> tuple[Cell, ...]:
        """The cells of a small row, and those of the largest hospitals in the same years."""
        if len(self.cells) <= _FEW_CELLS:
            return tuple(sorted(self.cells))
        members = self.members[row]
        hospitals = dict.fromkeys(cell[1] for cell in members)
        for other in self.largest_hospitals:
            if len(hospitals) < _HOSPITALS:
                hospitals.setdefault(other)
        months = {cell[0] for cell in members}
        if len(years := {month[:4] for month in months}) == 1:
            months = self.months_of[years.pop()]
        return tuple(
            cell for place in product(sorted(hospitals), sorted(months)) for cell in self.by_place.get(place, ())
        )

    @cached_property
    def months_of(self) -> dict[str, set[str]]:
        """Months with exams, by year."""
        found: dict[str, set[str]] = defaultdict(set)
        for month, *_ in self.cells:
            found[month[:4]].add(month)
        return found

    @cached_property
    def largest_hospitals(self) -> list[str]:
        n_exams: dict[str, int] = defaultdict(int)
        for cell, count in self.cells.items():
            n_exams[cell[1]] += count
        return heapq.nlargest(_HOSPITALS, n_exams, key=lambda hospital: (n_exams[hospital], hospital))


def _sums(
    tables: Mapping[str, Rows],
    at: Mapping[tuple[str, tuple[str, ...]], int],
    key: tuple[str, str, str],
    window: str,
    region_code: str,
) -> Iterator[Sum]:
    """Everything published that exams of a month, hospital and modality are in."""
    month, _, modality = key
    keys = list(product(*((label, "all") for label in key)))
    yield from ((VOLUME, at[VOLUME, one], "") for one in keys)
    for w in ("30", "90"):
        if int(w) <= int(window):
            yield from ((DUPLICATES, at[DUPLICATES, (w, scope, *one)], "") for scope in SCOPES for one in keys)
    position = at.get((FILM, key))
    if position is not None and (n_exams := tables[FILM][position]["n_exams"]):
        saving = tables[FILM][position]
        price = f"{saving['film_cost_fen'] // n_exams} {saving['cloud_cost_fen'] // n_exams}"
        yield from ((FILM, at[FILM, one], price) for one in keys)
    year = month if month == "unknown" else month[:4]
    region = region_code if region_code == "UNKNOWN" else f"{region_code[:4]}00"
    position = at.get((RATE, (year, region, modality)))
    if position is not None:
        regions = ("all", region) if tables[RATE][position]["n_residents"] is not None else (region,)
        yield from ((RATE, at[RATE, one], "") for one in product((year,), regions, (modality, "all")))


@dataclass(frozen=True)
class _System:
    """What is shown of some cells whose own numbers are not shown, everything else being as it is.

    Attributes
    ----------
    column : dict
        Cell -> its place in a vector.
    free : np.ndarray
        Orthonormal directions in which the cells can move while everything shown stays.
    """

    exams: _Exams
    column: dict[Cell, int]
    free: np.ndarray

    @classmethod
    def of(cls, exams: _Exams, cells: Iterable[Cell], withheld: Mapping[str, set[int]]) -> _System:
        parts: dict[Sum, list[Cell]] = defaultdict(list)
        for cell in cells:
            for table, position, name in exams.sums[cell]:
                if position not in withheld[table]:
                    parts[table, position, name].append(cell)
        # First what is alone in a sum, which is most of it; then the rest by linear algebra.
        fixed: set[Cell] = set()
        while alone := {
            left[0] for members in parts.values() if len(left := [c for c in members if c not in fixed]) == 1
        }:
            fixed |= alone
        column = {cell: i for i, cell in enumerate(cell for cell in cells if cell not in fixed)}
        matrix = {tuple(column[cell] for cell in members if cell in column) for members in parts.values()} - {()}
        shown = np.zeros((len(matrix), len(column)))
        for i, members in enumerate(sorted(matrix)):
            shown[i, list(members)] = 1
        return cls(exams, column, _null_space(shown))

    def is_free(self, row: Row) -> bool:
        """Whether the row's count can be another number."""
        members = [self.column[cell] for cell in self.exams.members[row] if cell in self.column]
        return bool(members) and bool(np.abs(self.free[members].sum(axis=0)).max(initial=0.0) > _TINY)


def _null_space(rows: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(rows.T @ rows)
    return vectors[:, values < _TINY]


def _cheapest_world(exams: _Exams, row: Row, cells: Sequence[Cell], withheld: Mapping[str, set[int]]) -> set[Row]:
    """Rows that differ in the world in which the count is one more or one less, and the least of worth differs.

    Minimise the sum of worth x |change of a shown sum| over changes of the cells, each of which stays one or more.
    """
    column = {cell: i for i, cell in enumerate(cells)}
    shown: dict[Sum, list[int]] = defaultdict(list)
    for cell in cells:
        for one in exams.sums[cell]:
            if one[1] not in withheld[one[0]]:
                shown[one].append(column[cell])
    sums = sorted(shown)
    entries = [(i, j) for i, one in enumerate(sums) for j in shown[one]]
    matrix = csr_matrix(
        (np.ones(len(entries)), ([i for i, _ in entries], [j for _, j in entries])), shape=(len(sums), len(cells))
    )
    sizes = eye_array(len(sums), format="csr")
    limits = vstack([hstack([matrix, -sizes]), hstack([-matrix, -sizes])])
    costs = np.concatenate([np.zeros(len(cells)), [exams.worth[table, position] for table, position, _ in sums]])
    target = np.zeros(len(cells) + len(sums))
    target[[column[cell] for cell in exams.members[row]]] = 1
    bounds = [(1 - exams.cells[cell], None) for cell in cells] + [(0, None)] * len(sums)
    worlds = [
        linprog(costs, A_ub=limits, b_ub=np.zeros(2 * len(sums)), A_eq=target[None, :], b_eq=[step], bounds=bounds)
        for step in (1, -1)
    ]
    found = [world for world in worlds if world.status == 0]
    best = min(found, key=lambda world: world.fun)
    changes = matrix @ best.x[: len(cells)]
    return {
        (table, position) for (table, position, _), change in zip(sums, changes, strict=True) if abs(change) > _TINY
    }
