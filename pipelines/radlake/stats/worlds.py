"""Other worlds: sizes of groups that fit everything shown and differ in what must not be told.

A world proves an aim: that a sum of groups can be another number. Ways to find worlds, the cheapest first:

1. *Least squares.* Some persons are added to (or taken from) the aim, and all other groups make up for it, in
   proportion to their sizes. In a release of many persons this is a world for nearly every aim, and costs one
   factorisation for all of them. (What each group gives is its weighted least-squares share; where the shares are
   small, a group has little leverage on what is shown, and what is shown tells little of it.)
2. *Least squares again*, for one aim: what would be less than it can be is held there, until nothing is.
3. *A linear program over numbers of few persons.* It may change what is shown, at the price of its worth. The rows that
   differ in the cheapest world are withheld, and least squares make up for all the rest. These numbers are those that
   cost rows; what many persons are behind gives way.
4. *A linear program over everything.*

Where too many numbers are shown for least squares, linear programs look for many aims at once before the last.

Each world is checked against everything shown before it proves anything, or, of the first way, bounded (see `nearest`).
An aim that what is out pins down has no world: it is reached as far as that allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix, eye_array, hstack, vstack

from radlake.stats.nearest import Nearest

__all__ = ["Aim", "Worlds"]

_TINY = 1e-6
_FACTS = 6_000  # equations that are solved by least squares
_FEW = (100, 1_000)  # numbers of fewer persons say what cannot be, those of more are made up for by many
_INFEASIBLE = 2  # status of scipy.optimize.milp
_ROUNDS = 8  # of holding what would be less than it can be
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
        Of every row: its persons, each counted once, what it is worth to readers, and whether it was shown before.
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
        self.row_sizes = self.persons @ self.sizes
        self.fact_sizes = (self.facts != 0) @ self.sizes  # persons behind each number
        # Whoever is alone in a row stays there.
        lonely = self.persons[self.row_sizes < 2]
        self.movable = np.where(np.asarray(lonely.sum(axis=0)).ravel() > 0, 0.0, self.sizes)
        self.told = np.asarray(abs(self.facts).sum(axis=0)).ravel()  # what a person of a group adds to what is shown

    def withheld_for_all(self, withheld: set[int]) -> set[int]:
        """The rows, and those that must be withheld besides until every aim is proven."""
        near = None
        if self._is_shown(withheld).sum() > _FACTS:
            for sign in (1.0, -1.0):
                while self._look_for_many(withheld, sign=sign):
                    pass
        else:
            self._look_near(withheld)
            if not self.is_proven.all():
                near = self._nearest(withheld, self.sizes)
        withheld = set(withheld)
        for aim in range(len(self.missing)):
            # A world stays one when more is withheld, so what is proven once is proven.
            if self.is_proven[aim] or (near is not None and self._is_held(aim, near, withheld)):
                continue
            more = self._rows_to_withhold(aim, near, withheld)
            if near is not None:
                near = self._without(near, withheld, more)
            withheld |= more
        return withheld

    def _nearest(self, withheld: set[int], weights: np.ndarray) -> Nearest:
        is_shown = self._is_shown(withheld)
        return Nearest(csr_matrix(self.facts[is_shown]), self.tolerances[is_shown], weights)

    def _without(self, near: Nearest, withheld: set[int], more: set[int]) -> Nearest:
        """The numbers that are left when more rows are withheld."""
        if not more:
            return near
        return near.without(np.isin(self.row_of[self._is_shown(withheld)], list(more)))

    def _look_near(self, withheld: set[int]) -> None:
        """For each aim the world that is nearest to ours, by least squares weighted by the sizes of groups."""
        near = self._nearest(withheld, self.movable)
        # No group is less than none, nor a row without somebody, when changes are no more than this.
        fewest = self.row_sizes[self.row_sizes >= 2].min(initial=np.inf)
        most = min(1.0, np.sqrt(fewest) - 1 / np.sqrt(fewest))
        hard: list[int] = []
        for aims in _parts(np.flatnonzero(~self.is_proven), max(1, _AT_ONCE // max(len(near.within), 1))):
            answers, changes, unmet = near.answers(self._steps(aims))
            # Making up for a step takes from the aim too, so the step has to be longer.
            left = self.missing[aims] - near.given(self.aims[aims], answers)
            longer = self.missing[aims] / np.maximum(left, _TINY)
            is_near = (longer * unmet <= _TINY) & (self.signs[aims] > 0) & (longer > 0) & (longer * changes <= most)
            self.is_proven[aims[is_near]] = True
            hard += aims[~is_near].tolist()
        for aims in _parts(np.array(hard, dtype=int), max(1, _AT_ONCE // max(len(self.sizes), 1))):
            steps = self._steps(aims)
            moves = near.made_up(steps, near.answers(steps)[0])
            gone = np.asarray(self.aims[aims].multiply(moves.T).sum(axis=1)).ravel() / self.missing[aims]
            self._keep(moves / np.maximum(gone, _TINY), withheld)

    def _is_held(self, aim: int, near: Nearest, withheld: set[int]) -> bool:
        """Whether the nearest world proves an aim when what would be less than it can be is held there."""
        step, persons = self._steps(np.array([aim])), self.persons[self.present]
        n, n_rows = len(self.sizes), len(self.present)
        is_held = np.zeros(n + n_rows + len(near.within), dtype=bool)
        sums, targets = self.aims[[aim]], self.missing[[aim]]
        for _ in range(_ROUNDS):
            move = near.held(step, sums, targets)
            if move is None:
                return False
            shown = near.facts @ move
            below = np.concatenate([-self.sizes - move, 1 - persons @ (self.sizes + move), np.abs(shown) - near.within])
            is_new = (below > _TINY) & ~is_held
            if not is_new.any():
                self._keep(move[:, None], withheld)
                return bool(self.is_proven[aim])
            is_held |= is_new
            groups, rows, facts = (np.flatnonzero(part) for part in np.split(is_new, [n, n + n_rows]))
            sums = csr_matrix(vstack([sums, csr_matrix(eye_array(n))[groups], persons[rows], near.facts[facts]]))
            targets = np.concatenate(
                [
                    targets,
                    -self.sizes[groups],
                    1 - persons[rows] @ self.sizes,
                    np.sign(shown[facts]) * near.within[facts],
                ]
            )
        return False

    def _steps(self, aims: np.ndarray) -> csr_matrix:
        """The missing persons of each aim: added to the group that adds least to what is shown, or taken from all."""
        rows = []
        for aim in aims:
            groups = self.aims.indices[self.aims.indptr[aim] : self.aims.indptr[aim + 1]]
            if self.signs[aim] > 0:
                rows.append({int(groups[np.argmin(self.told[groups])]): self.missing[aim]})
            else:
                sizes = self.movable[groups] if self.movable[groups].any() else self.sizes[groups]
                rows.append(dict(zip(groups.tolist(), sizes / sizes.sum() * self.missing[aim], strict=True)))
        return _matrix(rows, len(self.sizes))

    def _look_for_many(self, withheld: set[int], *, sign: float) -> bool:
        """Reach as many aims at once as can be by a world that changes nothing shown; whether that proves any."""
        aims = np.flatnonzero(~self.is_proven & (self.signs == sign))
        if not len(aims):
            return False
        steps = self._steps(aims)
        missing = np.repeat(np.abs(self.missing[aims]), np.diff(steps.indptr))
        gain = np.zeros(len(self.sizes))
        np.add.at(gain, steps.indices, np.sign(steps.data) / missing)
        most = np.full(len(self.sizes), np.inf)
        if sign > 0:
            most[steps.indices] = steps.data
        every, is_shown = np.arange(len(self.sizes)), self._is_shown(withheld)
        within = self.tolerances[is_shown]
        limits = [(self.facts[is_shown], -within, within), (*self._somebody(every), np.inf)]
        found = _cheapest(-gain, limits, least=-self.sizes, most=most)
        return found is not None and self._keep(found[:, None], withheld)

    def _rows_to_withhold(self, aim: int, near: Nearest | None, withheld: set[int]) -> set[int]:
        """Rows to withhold so that an aim is proven; those of the world that changes least of worth that is shown."""
        if near is not None:
            for few in _FEW:
                more = self._rows_by_few(few, aim, near, withheld)
                if more is not None:
                    return more
        move = self._cheapest_world(aim, withheld)
        if move is None:  # what is out, or that every row holds somebody, allows none: then as far as they allow
            self.missing[aim] = self._farthest(aim)
            move = self._cheapest_world(aim, withheld)
        if move is None:
            raise AssertionError("a world that changes all rows but those that are out was found before")
        more = self._changed(move, withheld)
        self._keep(move[:, None], withheld | more)
        if not self.is_proven[aim]:
            raise AssertionError("the solver's world is none")
        return more

    def _rows_by_few(self, few: int, aim: int, near: Nearest, withheld: set[int]) -> set[int] | None:
        """Rows to withhold by numbers of few persons alone; None when the others cannot be made up for then.

        A world has to fit these numbers too, so none changes less of worth or goes farther.
        """
        move = self._cheapest_world(aim, withheld, few)
        if move is None:
            self.missing[aim] = self._farthest(aim, few)
            self.is_proven[aim] = abs(self.missing[aim]) < _TINY
            if self.is_proven[aim]:
                return set()
            move = self._cheapest_world(aim, withheld, few)
        if move is None:
            return None
        more = self._changed(move, withheld, few)
        is_proven = self._is_held(aim, self._without(near, withheld, more), withheld | more)
        return more if is_proven else None

    def _changed(self, move: np.ndarray, withheld: set[int], few: float = np.inf) -> set[int]:
        changed = np.abs(self.facts @ move) > self.tolerances + _TINY
        return set(np.unique(self.row_of[changed & self._is_shown(withheld, few)]).tolist())

    def _cheapest_world(self, aim: int, withheld: set[int], few: float = np.inf) -> np.ndarray | None:
        """The world that changes least of worth that is shown, as far as numbers of few persons tell."""
        is_shown = self._is_shown(withheld, few)
        columns = self._columns(aim, is_shown, few)
        facts, within = self.facts[is_shown][:, columns], self.tolerances[is_shown]
        n, n_facts, sign = len(columns), len(within), self.signs[aim]
        slack = eye_array(n_facts, format="csr")
        somebody, least = self._somebody(columns, few)
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
                    np.append(least, sign * self.missing[aim] - _TINY / 2),
                    np.inf,
                ),
            ],
            least=np.concatenate([-self.sizes[columns], np.zeros(n_facts)]),
            most=np.concatenate([np.full(n, np.inf), np.where(out, 0.0, np.inf)]),
        )
        return None if found is None else self._whole(found, columns)

    def _farthest(self, aim: int, few: float = np.inf) -> float:
        """How far an aim can change when all rows are withheld that are not out, as far as numbers of few tell."""
        is_out = self.is_out[self.row_of] & (self.fact_sizes < few)
        columns = self._columns(aim, is_out, few)
        within = self.tolerances[is_out]
        target = self.aims[[aim]][:, columns].toarray()[0]
        limits = [(self.facts[is_out][:, columns], -within, within), (*self._somebody(columns, few), np.inf)]
        found = _cheapest(
            -self.signs[aim] * target, limits, least=-self.sizes[columns], most=np.full(len(columns), np.inf)
        )
        if found is None:
            raise AssertionError("an aim without a world can be reached when nothing is shown")
        return float(target @ found)

    def _keep(self, moves: np.ndarray, withheld: set[int]) -> bool:
        """Note what worlds prove, one in each column; whether any of them proves anything new."""
        after = self.sizes[:, None] + moves
        is_off = np.abs(self.facts @ moves) > self.tolerances[:, None] + _TINY
        is_world = (
            (after >= -_TINY).all(axis=0)
            & ~is_off[self._is_shown(withheld)].any(axis=0)
            & (self.persons[self.present] @ after >= 1 - _TINY).all(axis=0)
        )
        reached = self.signs[:, None] * (self.aims @ moves[:, is_world] - self.missing[:, None]) >= -_TINY
        proven = self.is_proven | reached.any(axis=1)
        is_new = bool((proven & ~self.is_proven).any())
        self.is_proven = proven
        return is_new

    def _is_shown(self, withheld: set[int], few: float = np.inf) -> np.ndarray:
        return ~np.isin(self.row_of, list(withheld)) & (self.fact_sizes < few)

    def _columns(self, aim: int, is_told: np.ndarray, few: float) -> np.ndarray:
        """Groups of an aim, and those that numbers tell of."""
        told = np.asarray(abs(self.facts[is_told]).sum(axis=0)).ravel()
        told += np.asarray(self.persons[self.row_sizes < few].sum(axis=0)).ravel()
        return np.union1d(np.flatnonzero(told), self.aims[[aim]].indices)

    def _somebody(self, columns: np.ndarray, few: float = np.inf) -> tuple[csr_matrix, np.ndarray]:
        """Rows that hold somebody, and by how much they can change at least."""
        persons = self.persons[self.present[self.row_sizes[self.present] < few]]
        return persons[:, columns], 1 - persons @ self.sizes

    def _whole(self, found: np.ndarray, columns: np.ndarray) -> np.ndarray:
        move = np.zeros(len(self.sizes))
        move[columns] = found[: len(columns)]
        return move


def _cheapest(
    costs: np.ndarray, limits: Sequence[tuple[Any, Any, Any]], *, least: np.ndarray, most: np.ndarray
) -> np.ndarray | None:
    """The solution of a linear program, if there is one; a limit is a matrix, and the least and most of its product."""
    found = milp(
        costs,
        constraints=[LinearConstraint(csr_matrix(matrix), low, high) for matrix, low, high in limits],
        bounds=Bounds(least, most),  # pyright: ignore[reportArgumentType]
    )
    if found.x is None and found.status != _INFEASIBLE:
        raise AssertionError(f"the solver failed: {found.message}")
    return found.x


def _parts(aims: np.ndarray, at_once: int) -> Iterator[np.ndarray]:
    return (aims[start : start + at_once] for start in range(0, len(aims), at_once))


def _matrix(sums: Iterable[Mapping[int, float]], n: int) -> csr_matrix:
    rows = list(sums)
    indptr = np.cumsum([0, *(len(row) for row in rows)])
    indices = np.fromiter((group for row in rows for group in row), dtype=np.int64, count=indptr[-1])
    data = np.fromiter((value for row in rows for value in row.values()), dtype=float, count=indptr[-1])
    return csr_matrix((data, indices, indptr), shape=(len(rows), n))
