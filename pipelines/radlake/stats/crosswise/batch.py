"""Cells of a layer that are looked at together: of each the change that costs least for what it gives."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np

from radlake.stats.crosswise.around import Around
from radlake.stats.crosswise.arrays import chain, least, summed
from radlake.stats.crosswise.views import Moves

__all__ = ["Batch", "Best"]


@dataclass
class Best:
    """The best change of each cell of a batch.

    Attributes
    ----------
    score : np.ndarray
        What it costs for what it gives; infinite where there is none.
    gives : np.ndarray
        How far it goes.
    along : list of tuple of int
        Dimensions along which it goes.
    which : np.ndarray
        Cells x dimensions: number of the other label in the batch.
    """

    score: np.ndarray
    gives: np.ndarray
    along: list[tuple[int, ...]]
    which: np.ndarray


@dataclass
class Batch:
    """Cells, and the labels that each may be exchanged with.

    Attributes
    ----------
    numbers, places : np.ndarray
        Which cells these are.
    wanted, missing : np.ndarray
        By how much each must move, and what of it is still missing.
    labels : sequence of np.ndarray
        Cells x labels of each dimension: total, own, others; 0 where there is no other.
    costs, own, other : np.ndarray
        For every combination of labels: what its rows cost, and by how much it can move as the cell does and against.
    around : sequence of Around
        Tables of wider labels.
    """

    layer: int
    numbers: np.ndarray
    places: np.ndarray
    wanted: np.ndarray
    missing: np.ndarray
    labels: Sequence[np.ndarray]
    costs: np.ndarray
    own: np.ndarray
    other: np.ndarray
    around: Sequence[Around]

    def __len__(self) -> int:
        return len(self.missing)

    def open(self) -> Batch:
        """The cells of which something is missing."""
        cells = np.flatnonzero(self.missing > 0)
        if len(cells) == len(self):
            return self
        return replace(
            self,
            numbers=self.numbers[cells],
            places=self.places[cells],
            wanted=self.wanted[cells],
            missing=self.missing[cells],
            labels=[one[cells] for one in self.labels],
            costs=self.costs[cells],
            own=self.own[cells],
            other=self.other[cells],
            around=[one.some(cells) for one in self.around],
        )

    def best(self, free: Collection[int]) -> Best:
        """Changes along any of the free dimensions, or along none."""
        n, dims = len(self), self.costs.ndim - 1
        best = Best(np.full(n, np.inf), np.zeros(n, dtype=np.int64), [()] * n, np.zeros((n, dims), dtype=np.int64))
        totals = chain(self.costs)
        for size in range(len(free), -1, -1):
            for along in combinations(free, size):
                # What it costs at least: the rows of the cell, and its totals over the other dimensions.
                floor = totals[(slice(None), *(slice(1, 2) if d in along else slice(2) for d in range(dims)))]
                cells = np.flatnonzero(floor.reshape(n, -1).sum(axis=1) < best.score * self.missing)
                if len(cells):
                    self._better(best, along, cells)
        return best

    def _better(self, best: Best, along: tuple[int, ...], cells: np.ndarray) -> None:
        """Note the changes of some cells along some dimensions that are better than those that are known."""
        some = slice(None) if len(cells) == len(self) else cells
        missing = self.missing[some].reshape((-1,) + (1,) * (self.costs.ndim - 1))
        reach = np.minimum(least(self.own[some], self.other[some], along), missing)
        score = np.where(reach > 0, summed(self.costs[some], along), np.inf) / np.maximum(reach, 1)
        for one in self.around:
            more = one.some(some).cost_of(along)
            if more is not None:
                score = score + more / np.maximum(reach, 1)
        flat = score.reshape(len(cells), -1)
        first = flat.argmin(axis=1)
        found = flat[np.arange(len(cells)), first]
        is_better = np.flatnonzero(found < best.score[cells])
        first, better = first[is_better], cells[is_better]
        best.score[better] = found[is_better]
        best.gives[better] = reach.reshape(len(cells), -1)[is_better, first]
        for d, one in enumerate(np.unravel_index(first, score.shape[1:])):
            best.which[better, d] = one
        for i in better:
            best.along[i] = along

    def take(self, best: Best) -> list[tuple[int, Moves]]:
        """Number of each cell that has a best change, and the change; cells that have none are given up."""
        is_taken = np.isfinite(best.score)
        taken = [(int(self.numbers[i]), self._moves(best, i)) for i in np.flatnonzero(is_taken).tolist()]
        for along in dict.fromkeys(best.along):
            cells = np.array([i for i, one in enumerate(best.along) if one == along and is_taken[i]], dtype=int)
            if len(cells):
                self._move(best, along, cells)
        self.missing = np.where(is_taken, self.missing - best.gives, 0)
        return taken

    def _moves(self, best: Best, i: int) -> Moves:
        """Cells of a change, and by how much each moves, in the direction of the cell."""
        along, gives = best.along[i], int(best.gives[i])
        place = self.places[i].tolist()
        labels = [
            (own, int(self.labels[d][i, 2 + best.which[i, d]])) if d in along else (own,) for d, own in enumerate(place)
        ]
        return {
            (self.layer, tuple(one[j] for one, j in zip(labels, which, strict=True))): gives * (-1) ** sum(which)
            for which in product(*(range(len(one)) for one in labels))
        }

    def _move(self, best: Best, along: tuple[int, ...], cells: np.ndarray) -> None:
        """What changes gave is no longer there."""
        for corner in product((0, 1), repeat=len(along)):
            where: list[np.ndarray] = [cells] + [np.ones(len(cells), dtype=int)] * (self.costs.ndim - 1)
            for d, is_other in zip(along, corner, strict=True):
                if is_other:
                    where[1 + d] = 2 + best.which[cells, d]
            by = best.gives[cells] * (-1) ** sum(corner)
            self.own[tuple(where)] -= by
            self.other[tuple(where)] += by
