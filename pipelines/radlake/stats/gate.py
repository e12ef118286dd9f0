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

import numpy as np
from scipy.optimize import OptimizeResult, linprog
from scipy.sparse import csr_matrix, eye_array, hstack, vstack

from radlake.stats.policy import Policy

__all__ = ["Fact", "Row", "withheld_rows"]

_TINY = 1e-6
_LARGE = 20_000  # groups that may move at once; a world that moves fewer is a world all the same


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
    worlds = _Worlds(np.asarray(sizes, dtype=float), rows, threshold=policy.threshold)
    kinds: dict[frozenset[object], list[int]] = {}
    for group, where in enumerate(cells):
        kinds.setdefault(frozenset(where), []).append(group)
    small_kinds = [
        members for where, members in kinds.items() if where and policy.is_small(sum(sizes[i] for i in members))
    ]
    # A withheld row is known to be small; a group that nobody asked for must not even be that.
    targets = [(dict.fromkeys(members, 1.0), policy.threshold) for members in sorted(small_kinds)]
    targets += [(row.persons.sums, level) for row in rows if row.is_small for level in (policy.threshold - 1, 1)]
    # A world found for one target may do for many: first those that nothing needs to be withheld for.
    for sums, level in targets:
        withheld |= worlds.missing_for(sums, level, withheld)
    while more := {row for sums, level in targets for row in worlds.missing_for(sums, level, withheld)} - withheld:
        withheld |= more
    return withheld


class _Worlds:
    def __init__(self, sizes: np.ndarray, rows: Sequence[Row], *, threshold: int) -> None:
        self.sizes, self.rows, self.threshold = sizes, rows, threshold
        self._found: list[np.ndarray] = []
        facts = [(i, fact) for i, row in enumerate(rows) for fact in row.facts]
        self.row_of = np.array([i for i, _ in facts], dtype=int)
        largest = [max((abs(v) for v in fact.sums.values()), default=1.0) or 1.0 for _, fact in facts]
        self.matrix = _matrix([fact.sums for _, fact in facts], len(sizes), largest)
        self.tolerance = np.array([fact.tolerance / top for (_, fact), top in zip(facts, largest, strict=True)])
        self.persons = _matrix([row.persons.sums for row in rows], len(sizes))
        self.worth = np.array([rows[i].worth for i, _ in facts])
        self.is_out = np.array([rows[i].is_out for i, _ in facts], dtype=bool)

    def missing_for(self, sums: Mapping[int, float], level: int, withheld: set[int]) -> set[int]:
        """Rows to withhold so that the sum can be `level`; none when a world is known or found without."""
        target = np.zeros(len(self.sizes))
        for group, factor in sums.items():
            target[group] = factor
        is_above = bool(level >= target @ self.sizes)
        if any(self._serves(world, target, level, is_above, withheld) for world in self._found):
            return set()
        shown = ~np.isin(self.row_of, list(withheld))
        found = self._cheapest(target, level, is_above, shown, withheld)
        if found.status != 0:  # what is out already allows no world: at least nothing is added to it
            touched = (abs(self.persons) @ (target > 0)) > 0
            return {i for i in np.flatnonzero(touched).tolist() if not self.rows[i].is_out} - withheld
        move = found.x[: len(self.sizes)] if len(found.x) else np.zeros(len(self.sizes))
        self._found.append(move)
        changed = np.abs(self.matrix @ move) > self.tolerance + _TINY
        return {int(i) for i in np.unique(self.row_of[changed & shown])}

    def _serves(self, move: np.ndarray, target: np.ndarray, level: int, is_above: bool, withheld: set[int]) -> bool:
        reached = float(target @ (self.sizes + move))
        if (reached < level - _TINY) if is_above else (reached > level + _TINY):
            return False
        changed = np.unique(self.row_of[np.abs(self.matrix @ move) > self.tolerance + _TINY])
        return set(changed.tolist()) <= withheld

    def _cheapest(
        self, target: np.ndarray, level: int, is_above: bool, shown: np.ndarray, withheld: set[int]
    ) -> OptimizeResult:
        """The move of group sizes that reaches the level and changes least of worth that is shown."""
        n = len(self.sizes)
        matrix, slack = self.matrix[shown], eye_array(int(shown.sum()), format="csr")
        n_shown = int(shown.sum())
        limits = vstack([hstack([matrix, -slack]), hstack([-matrix, -slack])])
        within = np.concatenate([self.tolerance[shown]] * 2)
        hidden = self.persons[sorted(withheld)]
        present = hidden @ self.sizes >= 1
        at_least_one = hstack([-hidden, csr_matrix((len(withheld), n_shown))]).tocsr()[np.flatnonzero(present)]
        sign = -1.0 if is_above else 1.0
        reach = hstack([csr_matrix(sign * target[None, :]), csr_matrix((1, n_shown))])
        movable = np.zeros(n, dtype=bool)
        movable[np.argsort(-self.sizes)[:_LARGE]] = True
        movable |= target > 0
        bounds = [(-size, None) if moves else (0, 0) for size, moves in zip(self.sizes, movable, strict=True)]
        bounds += [(0, 0 if out else None) for out in self.is_out[shown]]
        return linprog(
            np.concatenate([np.full(n, 0.0), self.worth[shown]]),
            A_ub=vstack([limits, at_least_one, reach]).tocsr(),
            b_ub=np.concatenate([within, (hidden @ self.sizes)[present] - 1, [sign * (level - target @ self.sizes)]]),
            bounds=bounds,
            method="highs",
        )


def _matrix(sums: Iterable[Mapping[int, float]], n: int, scale: Sequence[float] | None = None) -> csr_matrix:
    sums = list(sums)
    entries = [(i, group, value / (scale[i] if scale else 1.0)) for i, one in enumerate(sums) for group, value in one.items()]  # fmt: skip  # noqa: E501
    return csr_matrix(
        ([value for *_, value in entries], ([i for i, *_ in entries], [group for _, group, _ in entries])),
        shape=(len(sums), n),
    )
