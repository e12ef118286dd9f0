"""Other worlds: sizes of groups that fit everything shown and differ in what must not be told.

A world proves an aim: that a sum of groups can be another number. Three ways to find worlds, the cheapest first:

1. *Least squares.* Some persons are added to (or taken from) the aim, and all other groups make up for it, in
   proportion to their sizes. In a release of many persons this is a world for nearly every aim, and costs one
   factorisation for all of them. (What each group gives is its weighted least-squares share; where the shares are
   small, a group has little leverage on what is shown, and what is shown tells little of it.)
2. *One linear program for many aims*: as many as can be reached at once.
3. *A linear program for one aim*, that may also change what is shown, at the price of its worth. The rows that differ
   in the cheapest world are withheld, and it is the proof.

Each world is checked against everything shown before it proves anything: no way of finding one has to be believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_solve
from scipy.linalg.lapack import dpstrf  # pyright: ignore[reportAttributeAccessIssue]
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix, eye_array, hstack, vstack

__all__ = ["Aim", "Worlds"]

_TINY = 1e-6
_MOVABLE = 20_000  # groups that may move in a linear program beside those of its aims: the largest ones
_FACTS = 6_000  # equations that are solved by least squares
_AT_ONCE = 4_000_000  # numbers of worlds in memory at once


@dataclass(frozen=True)
class Aim:
    """Groups that must be able to be so many persons together."""

    groups: Sequence[int]
    level: int


class Worlds:
    """What is shown of groups, and the aims that are proven so far.

    Parameters
    ----------
    facts, tolerances, row_of
        Of every number that rows would show: group -> what each person adds, how coarsely it is shown, and its row.
    persons, worth, is_out
        Of every row: its persons, what it is worth to readers, and whether it was shown before.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        aims: Sequence[Aim],
        *,
        facts: Sequence[Mapping[int, float]],
        tolerances: Sequence[float],
        row_of: Sequence[int],
        persons: Sequence[Mapping[int, float]],
        worth: Sequence[float],
        is_out: Sequence[bool],
    ) -> None:
        self.sizes = np.asarray(sizes, dtype=float)
        scale = np.array([max(map(abs, sums.values()), default=1.0) or 1.0 for sums in facts])
        self.facts = csr_matrix(_matrix(facts, len(sizes)).multiply(1 / scale[:, None]))
        self.tolerances = np.asarray(tolerances) / scale
        self.row_of = np.asarray(row_of, dtype=int)
        self.worth = np.sqrt(np.asarray(worth, dtype=float))  # a solver wants prices that lie near together
        self.is_out = np.asarray(is_out, dtype=bool)
        self.persons = _matrix(persons, len(sizes))
        self.present = np.flatnonzero(self.persons @ self.sizes >= 1)  # rows that are known to hold somebody
        self.aims = _matrix([dict.fromkeys(aim.groups, 1.0) for aim in aims], len(sizes))
        self.missing = np.array([aim.level for aim in aims], dtype=float) - self.aims @ self.sizes
        self.signs = np.where(self.missing >= 0, 1.0, -1.0)
        self.is_proven = np.abs(self.missing) < _TINY
        self.told = np.asarray(abs(self.facts).sum(axis=0)).ravel()  # what a person of a group adds to what is shown

    def withheld_for_all(self, withheld: set[int]) -> set[int]:
        """The rows, and those that must be withheld besides until every aim is proven."""
        self._look_near(withheld)
        for sign in (1.0, -1.0):
            while self._look_for_many(withheld, sign=sign):
                pass
        withheld = set(withheld)
        for aim in range(len(self.missing)):
            # A world stays one when more is withheld, so what is proven once is proven.
            if not self.is_proven[aim]:
                withheld |= self._missing_for(aim, withheld)
        return withheld

    def _look_near(self, withheld: set[int]) -> None:
        """For each aim the world that is nearest to ours, by least squares weighted by the sizes of groups."""
        facts = self._shown(withheld)
        n_facts = len(self._within(withheld))
        if n_facts > _FACTS:
            return
        # Whoever is alone in a row stays there.
        lonely = self.persons[self.persons @ self.sizes < 2]
        is_alone = np.asarray(lonely.sum(axis=0)).ravel() > 0
        weighed = csr_matrix(facts.multiply(np.where(is_alone, 0.0, self.sizes)))
        whole = np.asarray((weighed @ facts.T).todense())
        factor, order, rank, _ = dpstrf(whole, tol=_TINY, lower=1)
        free = order[:rank] - 1
        solver = np.tril(factor[:rank, :rank]), True
        open_aims = np.flatnonzero(~self.is_proven)
        hard: list[int] = []
        for aims in _parts(open_aims, max(1, _AT_ONCE // max(n_facts, 1))):
            steps = self._steps(aims)
            seen = (facts @ steps.T).toarray()
            answers = cho_solve(solver, seen[free]) if rank else seen[:0]
            is_unseen = (np.abs(whole[:, free] @ answers - seen) <= _TINY).all(axis=0)
            # Making up for a step takes from the aim too, so the step has to be longer.
            given = ((self.aims[aims] @ weighed[free].T).toarray() * answers.T).sum(axis=1)
            longer = self.missing[aims] / np.maximum(self.missing[aims] - given, _TINY)
            # No group changes by more than this share of its size (Cauchy-Schwarz; no person has a leverage above 1).
            change = longer * np.sqrt((seen[free] * answers).sum(axis=0))
            is_near = is_unseen & (self.signs[aims] > 0) & (longer > 0) & (change <= 0.5)
            self.is_proven[aims[is_near]] = True
            hard += aims[~is_near & is_unseen].tolist()
        for aims in _parts(np.array(hard, dtype=int), max(1, _AT_ONCE // max(len(self.sizes), 1))):
            moves = self._steps(aims).toarray().T
            if rank:
                moves -= weighed[free].T @ cho_solve(solver, facts[free] @ moves)
            gone = np.asarray(self.aims[aims].multiply(moves.T).sum(axis=1)).ravel() / self.missing[aims]
            self._keep(moves / np.maximum(gone, _TINY), withheld)

    def _steps(self, aims: np.ndarray) -> csr_matrix:
        """The missing persons of each aim: added to the group that adds least to what is shown, or taken from all."""
        rows = []
        for aim in aims:
            groups = self.aims.indices[self.aims.indptr[aim] : self.aims.indptr[aim + 1]]
            if self.signs[aim] > 0:
                rows.append({int(groups[np.argmin(self.told[groups])]): self.missing[aim]})
            else:
                sizes = self.sizes[groups]
                rows.append(dict(zip(groups.tolist(), sizes / sizes.sum() * self.missing[aim], strict=True)))
        return _matrix(rows, len(self.sizes))

    def _look_for_many(self, withheld: set[int], *, sign: float) -> bool:
        """Reach as many aims at once as can be by a world that changes nothing shown; whether that proves any."""
        aims = np.flatnonzero(~self.is_proven & (self.signs == sign))
        if not len(aims):
            return False
        columns = self._columns(aims)
        steps = self._steps(aims)
        missing = np.repeat(np.abs(self.missing[aims]), np.diff(steps.indptr))
        gain = np.zeros(len(self.sizes))
        np.add.at(gain, steps.indices, np.sign(steps.data) / missing)
        most = np.full(len(self.sizes), np.inf)
        if sign > 0:
            most[steps.indices] = steps.data
        within = self._within(withheld)
        limits = [(self._shown(withheld)[:, columns], -within, within), (*self._somebody(columns), np.inf)]
        found = _cheapest(-gain[columns], limits, least=-self.sizes[columns], most=most[columns])
        return found is not None and self._keep(self._whole(found, columns)[:, None], withheld)

    def _missing_for(self, aim: int, withheld: set[int]) -> set[int]:
        """Rows to withhold so that an aim is proven; those of the world that changes least of worth that is shown."""
        move = self._cheapest_world(aim, withheld)
        if move is None:  # what is out, or that every row holds somebody, allows none: then as far as they allow
            self.missing[aim] = self._farthest(aim)
            move = self._cheapest_world(aim, withheld)
        self.is_proven[aim] = True
        if move is None:
            raise AssertionError("a world that changes all rows but those that are out was found before")
        changed = np.abs(self.facts @ move) > self.tolerances + _TINY
        more = {int(i) for i in np.unique(self.row_of[changed & self._is_shown(withheld)])}
        self._keep(move[:, None], withheld | more)
        return more

    def _cheapest_world(self, aim: int, withheld: set[int]) -> np.ndarray | None:
        columns = self._columns(np.array([aim]))
        is_shown = self._is_shown(withheld)
        facts, within = self.facts[is_shown][:, columns], self._within(withheld)
        n, n_facts, sign = len(columns), len(within), self.signs[aim]
        slack = eye_array(n_facts, format="csr")
        somebody, least = self._somebody(columns)
        unseen = csr_matrix((len(least) + 1, n_facts))
        reach = sign * self.aims[[aim]][:, columns]
        out = self.is_out[self.row_of[is_shown]]
        found = _cheapest(
            np.concatenate([np.zeros(n), self.worth[self.row_of[is_shown]]]),
            [
                (hstack([facts, -slack]), -np.inf, within),
                (hstack([facts, slack]), -within, np.inf),
                (
                    hstack([vstack([somebody, reach]), unseen]),
                    np.append(least, sign * self.missing[aim] - _TINY),
                    np.inf,
                ),
            ],
            least=np.concatenate([-self.sizes[columns], np.zeros(n_facts)]),
            most=np.concatenate([np.full(n, np.inf), np.where(out, 0.0, np.inf)]),
        )
        return None if found is None else self._whole(found, columns)

    def _farthest(self, aim: int) -> float:
        """How far an aim can change when all rows are withheld that are not out."""
        columns = self._columns(np.array([aim]))
        is_out = self.is_out[self.row_of]
        within = self.tolerances[is_out]
        target = self.aims[[aim]][:, columns].toarray()[0]
        limits = [(self.facts[is_out][:, columns], -within, within), (*self._somebody(columns), np.inf)]
        found = _cheapest(
            -self.signs[aim] * target, limits, least=-self.sizes[columns], most=np.full(len(columns), np.inf)
        )
        return 0.0 if found is None else float(target @ found)

    def _keep(self, moves: np.ndarray, withheld: set[int]) -> bool:
        """Note what worlds prove, one in each column; whether any of them proves anything new."""
        facts = self._shown(withheld)
        after = self.sizes[:, None] + moves
        is_world = (
            (after >= -_TINY).all(axis=0)
            & (np.abs(facts @ moves) <= self._within(withheld)[:, None] + _TINY).all(axis=0)
            & (self.persons[self.present] @ after >= 1 - _TINY).all(axis=0)
        )
        reached = self.signs[:, None] * (self.aims @ moves[:, is_world] - self.missing[:, None]) >= -_TINY
        proven = self.is_proven | reached.any(axis=1)
        is_new = bool((proven & ~self.is_proven).any())
        self.is_proven = proven
        return is_new

    def _is_shown(self, withheld: set[int]) -> np.ndarray:
        return ~np.isin(self.row_of, list(withheld))

    def _shown(self, withheld: set[int]) -> csr_matrix:
        return self.facts[self._is_shown(withheld)]

    def _within(self, withheld: set[int]) -> np.ndarray:
        return self.tolerances[self._is_shown(withheld)]

    def _columns(self, aims: np.ndarray) -> np.ndarray:
        """Groups that may move: those of the aims, and the largest ones."""
        largest = np.argsort(-self.sizes, kind="stable")[:_MOVABLE]
        return np.union1d(largest, np.unique(self.aims[aims].indices))

    def _somebody(self, columns: np.ndarray) -> tuple[csr_matrix, np.ndarray]:
        """Rows that hold somebody, and by how much they can change at least."""
        persons = self.persons[self.present]
        return persons[:, columns], 1 - persons @ self.sizes

    def _whole(self, found: np.ndarray, columns: np.ndarray) -> np.ndarray:
        move = np.zeros(len(self.sizes))
        move[columns] = found[: len(columns)]
        return move


def _cheapest(
    costs: np.ndarray, limits: Sequence[tuple[Any, Any, Any]], *, least: np.ndarray, most: np.ndarray
) -> np.ndarray | None:
    """The solution of a linear program; a limit is a matrix, and the least and most of its product."""
    return milp(
        costs,
        constraints=[LinearConstraint(csr_matrix(matrix), low, high) for matrix, low, high in limits],
        bounds=Bounds(least, most),  # pyright: ignore[reportArgumentType]
    ).x


def _parts(aims: np.ndarray, at_once: int) -> Iterator[np.ndarray]:
    return (aims[start : start + at_once] for start in range(0, len(aims), at_once))


def _matrix(sums: Iterable[Mapping[int, float]], n: int) -> csr_matrix:
    rows = list(sums)
    indptr = np.cumsum([0, *(len(row) for row in rows)])
    indices = np.fromiter((group for row in rows for group in row), dtype=np.int64, count=indptr[-1])
    data = np.fromiter((value for row in rows for value in row.values()), dtype=float, count=indptr[-1])
    return csr_matrix((data, indices, indptr), shape=(len(rows), n))
