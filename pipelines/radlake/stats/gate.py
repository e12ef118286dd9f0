"""The gate of results that were not foreseen: everything published so far and something new, as one set of equations.

Statistics of fixed tables are masked by `release`. A measure is defined by whoever asks, so two of them may differ by a
handful of persons. Here persons who are in the same cells of everything published are one group. What is shown are
equations over the sizes of the groups: exactly of a count, within its rounding of a rate. A world is another set of
sizes that fits all of them. The gate withholds rows until there is a world in which each small row is just below the
threshold, one in which it is a single person, and one in which each small group is not small. By the duality of linear
programming no combination of what is shown, with any factors, then tells more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, eye_array, hstack, vstack

from radlake.stats.policy import Policy

__all__ = ["Fact", "Row", "withheld_rows"]

_TINY = 1e-6
_MOVABLE, _AT_ONCE = 2_000, 500  # groups that may move beside those of an aim; aims that are looked at together


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A number of a row that would be shown, as a sum over groups of persons.

    Attributes
    ----------
    sums : mapping of int to float
        Group -> what each person of it adds.
    tolerance : float
        How far the true number may be from the shown one.
    """

    sums: Mapping[int, float]
    tolerance: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a result.

    Attributes
    ----------
    persons, facts
        The number of persons of the row, and all that the row would show.
    is_small : bool
        It holds a count that policy withholds.
    is_out : bool
        It was shown before and cannot be taken back.
    was_withheld : bool
        It was withheld before and stays so.
    worth : float
        Rows of little worth are withheld first.
    """

    persons: Fact
    facts: Sequence[Fact]
    is_small: bool
    is_out: bool = False
    was_withheld: bool = False
    worth: float = 1.0


def withheld_rows(
    sizes: Sequence[int], cells: Sequence[Collection[object]], rows: Sequence[Row], *, policy: Policy
) -> set[int]:
    """Positions of rows to withhold.

    Parameters
    ----------
    sizes : sequence of int
        Persons of every group.
    cells : sequence of collection
        Of every group: the published cells that it is in; groups of equal cells are told apart by nobody.
    """
    withheld = {i for i, row in enumerate(rows) if row.was_withheld or (row.is_small and not row.is_out)}
    if not policy.complementary or not rows:
        return withheld
    kinds: dict[frozenset[object], list[int]] = {}
    for group, where in enumerate(cells):
        kinds.setdefault(frozenset(where), []).append(group)
    small_kinds = [
        members for where, members in kinds.items() if where and policy.is_small(sum(sizes[i] for i in members))
    ]
    # A withheld row is known to be small; a group that nobody asked for must not even be that.
    aims = [(dict.fromkeys(members, 1.0), policy.threshold) for members in sorted(small_kinds)]
    aims += [(row.persons.sums, level) for row in rows if row.is_small for level in (policy.threshold - 1, 1)]
    worlds = _Worlds(np.asarray(sizes, dtype=float), rows, aims)
    worlds.look_for_many(withheld)
    for aim in range(len(aims)):
        # A world stays one when more is withheld, so what is proven once is proven.
        withheld |= worlds.missing_for(aim, withheld)
    return withheld


class _Worlds:
    """The worlds that were looked for, and the aims (a sum of groups, and what it must be able to be) they prove."""

    def __init__(self, sizes: np.ndarray, rows: Sequence[Row], aims: Sequence[tuple[Mapping[int, float], int]]) -> None:
        self.sizes, self.rows = sizes, rows
        facts = [(i, fact) for i, row in enumerate(rows) for fact in row.facts]
        self.row_of = np.array([i for i, _ in facts], dtype=int)
        largest = [max((abs(v) for v in fact.sums.values()), default=1.0) or 1.0 for _, fact in facts]
        self.matrix = _matrix([fact.sums for _, fact in facts], len(sizes), largest)
        self.tolerance = np.array([fact.tolerance / top for (_, fact), top in zip(facts, largest, strict=True)])
        self.persons = _matrix([row.persons.sums for row in rows], len(sizes))
        self.worth = np.array([rows[i].worth for i, _ in facts])
        self.is_out = np.array([rows[i].is_out for i, _ in facts], dtype=bool)
        self.aims = _matrix([sums for sums, _ in aims], len(sizes))
        self.levels = np.array([level for _, level in aims], dtype=float)
        self.signs = np.where(self.levels >= self.aims @ sizes, 1.0, -1.0)
        self.is_proven = self._reached(np.zeros(len(sizes)))
        self._largest = np.argsort(-sizes, kind="stable")[:_MOVABLE]

    def look_for_many(self, withheld: set[int]) -> None:
        """Prove as many aims as can be at once by worlds that change nothing that is shown."""
        while len(open_aims := np.flatnonzero(~self.is_proven & (self.signs > 0))[:_AT_ONCE]):
            columns = self._columns(self.aims[open_aims])
            limits, within = self._limits(columns, withheld)
            n, many = len(columns), len(open_aims)
            rises = hstack([-self.aims[open_aims][:, columns], eye_array(many, format="csr")])
            missing = (self.levels - self.aims @ self.sizes)[open_aims]
            found = linprog(
                np.concatenate([np.zeros(n), -np.ones(many)]),
                A_ub=vstack([hstack([limits, csr_matrix((len(within), many))]), rises]).tocsr(),
                b_ub=np.concatenate([within, np.zeros(many)]),
                bounds=[*((-size, None) for size in self.sizes[columns]), *((0, most) for most in missing)],
                method="highs",
            )
            if found.status != 0 or found.x is None or not self._keep(columns, found.x[:n]):
                return

    def missing_for(self, aim: int, withheld: set[int]) -> set[int]:
        """Rows to withhold so that an aim is proven; those of the world that changes least of worth that is shown."""
        if self.is_proven[aim]:
            return set()
        shown = ~np.isin(self.row_of, list(withheld))
        columns = self._columns(self.aims[[aim]])
        limits, within = self._limits(columns, withheld, with_slack=True)
        n, n_shown, sign = len(columns), int(shown.sum()), self.signs[aim]
        reach = hstack([-sign * self.aims[[aim]][:, columns], csr_matrix((1, n_shown))])
        found = linprog(
            np.concatenate([np.zeros(n), self.worth[shown]]),
            A_ub=vstack([limits, reach]).tocsr(),
            b_ub=np.concatenate([within, -sign * (self.levels - self.aims @ self.sizes)[[aim]]]),
            bounds=[
                *((-size, None) for size in self.sizes[columns]),
                *((0, 0 if is_out else None) for is_out in self.is_out[shown]),
            ],
            method="highs",
        )
        if found.status != 0 or found.x is None:  # what is out already allows no world: at least nothing is added to it
            self.is_proven[aim] = True
            touched = (abs(self.persons) @ (abs(self.aims[[aim]]).T.toarray()[:, 0] > 0)) > 0
            return {i for i in np.flatnonzero(touched).tolist() if not self.rows[i].is_out} - withheld
        self._keep(columns, found.x[:n])
        self.is_proven[aim] = True
        changed = np.abs(self.matrix[:, columns] @ found.x[:n]) > self.tolerance + _TINY
        return {int(i) for i in np.unique(self.row_of[changed & shown])}

    def _columns(self, aims: csr_matrix) -> np.ndarray:
        """Groups that may move: those of the aims, and the largest ones."""
        return np.union1d(self._largest, np.unique(aims.indices))

    def _limits(
        self, columns: np.ndarray, withheld: set[int], *, with_slack: bool = False
    ) -> tuple[csr_matrix, np.ndarray]:
        """What a world must keep: all that is shown (but for slack), and somebody in every row."""
        shown = ~np.isin(self.row_of, list(withheld))
        matrix = self.matrix[shown][:, columns]
        present = np.flatnonzero(self.persons @ self.sizes >= 1)
        persons = self.persons[present]
        parts: list[list[Any]] = [[matrix], [-matrix], [-persons[:, columns]]]
        if with_slack:
            slack = eye_array(matrix.shape[0], format="csr")
            parts[0].append(-slack)
            parts[1].append(-slack)
            parts[2].append(csr_matrix((len(present), matrix.shape[0])))
        within = np.concatenate([self.tolerance[shown], self.tolerance[shown], persons @ self.sizes - 1])
        return csr_matrix(vstack([hstack(part) for part in parts])), within

    def _keep(self, columns: np.ndarray, move: np.ndarray) -> bool:
        """Note what a world proves; whether it proves anything new."""
        whole = np.zeros(len(self.sizes))
        whole[columns] = move
        proven = self.is_proven | self._reached(whole)
        is_new = bool((proven & ~self.is_proven).any())
        self.is_proven = proven
        return is_new

    def _reached(self, move: np.ndarray) -> np.ndarray:
        return self.signs * (self.aims @ (self.sizes + move)) >= self.signs * self.levels - _TINY


def _matrix(sums: Iterable[Mapping[int, float]], n: int, scale: Sequence[float] | None = None) -> csr_matrix:
    sums = list(sums)
    entries = [(i, group, value / (scale[i] if scale else 1.0)) for i, one in enumerate(sums) for group, value in one.items()]  # fmt: skip  # noqa: E501
    return csr_matrix(
        ([value for *_, value in entries], ([i for i, *_ in entries], [group for _, group, _ in entries])),
        shape=(len(sums), n),
    )
