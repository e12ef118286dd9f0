"""The search for changes that let a cell be another number, and that are seen in rows of little worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from radlake.stats.crosswise.around import Around
from radlake.stats.crosswise.arrays import chain, flat, stride
from radlake.stats.crosswise.batch import Batch
from radlake.stats.crosswise.costs import Costs, Effects
from radlake.stats.crosswise.far import Far
from radlake.stats.crosswise.views import Cell, Moves, Place

__all__ = ["Free", "Search"]

_CHEAP, _LARGE = 4, 2  # labels to exchange with along a dimension: so many cheap ones, and so many with large cells
_ALL = 12  # or all of them, where there are so few
_STEPS = 16  # changes that one cell may need
_DEAR = 0.3  # share of the worth of a cell and its totals: beyond it cells far away are looked at

# Dimensions along which cells may be exchanged with others, and labels that are not among these; by default its own.
Free = Mapping[int, np.ndarray | None]


class Search:
    """Cells of a cube, by how much each can fall and rise, and what it costs to show that they do.

    Attributes
    ----------
    n : int
        Cells that were searched for.
    """

    def __init__(self, falls: np.ndarray, rises: np.ndarray, costs: Costs) -> None:
        self.falls, self.rises = falls, rises
        self._costs, self._shape = costs, falls.shape[1:]
        self.n = 0

    def sides(self, sign: int) -> tuple[np.ndarray, np.ndarray]:
        """By how much each cell can move in a direction, and against it."""
        return (self.rises, self.falls) if sign > 0 else (self.falls, self.rises)

    def of_cells(
        self, layer: int, cells: Sequence[tuple[Place, int]], sign: int, free: Free, *, n_steps: int = _STEPS
    ) -> tuple[list[Moves], list[int]]:
        """For each of some cells the changes that cost least for what they give, until it moves by what is missing.

        Parameters
        ----------
        cells : sequence of (place, int)
            Cells, and by how much each must be able to move in the direction of `sign`.

        Returns
        -------
        tuple of list
            What moves for each, and numbers of the cells that may need labels that were not looked at.
        """
        self.n += len(cells)
        batch = self._batch(layer, cells, sign, free)
        worlds: list[Counter[Cell]] = [Counter() for _ in cells]
        stuck: list[int] = []
        for _ in range(n_steps):
            batch = batch.open()
            if not len(batch):
                break
            best = batch.best(free)
            for i, along in enumerate(best.along):
                if not along and free and batch.missing[i] < batch.wanted[i]:
                    stuck.append(int(batch.numbers[i]))
                    best.score[i] = np.inf
            total = np.where(np.isfinite(best.score), best.score, 0.0) * best.gives
            costs = chain(batch.costs).reshape(len(batch), -1)
            # Dear beside the cell and all totals over it but the grand one.
            for i in np.flatnonzero(total > (costs.sum(axis=1) - costs[:, 0]) * _DEAR):
                cell = layer, tuple(batch.places[i].tolist())
                far = self._far(cell, int(batch.missing[i]), int(batch.wanted[i]), sign, free, most=total[i])
                if far:
                    for one, by in far.items():
                        worlds[batch.numbers[i]][one] += sign * by
                    best.score[i] = np.inf
            for number, moves in batch.take(best):
                for one, by in moves.items():
                    worlds[number][one] += sign * by
        return [{cell: by for cell, by in world.items() if by} for world in worlds], stuck

    def _far(self, cell: Cell, missing: int, wanted: int, sign: int, free: Free, *, most: float) -> Moves:
        """A change with cells anywhere, if it costs less than `most`.

        Cells may have moved already by what of `wanted` is not missing any more.
        """
        own, other = self.sides(sign)
        done = wanted - missing
        moved = Far(own - done, other - done, self._costs).best(cell, missing, free)
        return moved if moved and self._costs.of(self._costs.effects(moved)) < most else {}

    def _batch(self, layer: int, cells: Sequence[tuple[Place, int]], sign: int, free: Free) -> Batch:
        """Cells with a few labels to exchange with."""
        own, other = (one[layer].ravel() for one in self.sides(sign))
        places = np.array([place for place, _ in cells])
        missing = np.array([n for _, n in cells])
        missing = np.minimum(missing, own[np.ravel_multi_index(tuple(places.T), self._shape)])
        labels = []
        for d, mine in enumerate(places.T):
            given = [0 * mine[:, None], mine[:, None]]
            if d in free:
                given.append(self._others(layer, places, d, missing, other, free[d]))
            labels.append(np.concatenate(given, axis=1))
        at = flat(labels, self._shape)
        around = [Around.of(view, cost, labels) for view, cost in self._costs.coarse if view.counts(layer)]
        costs = self._costs.of_cells[layer]
        numbers = np.arange(len(cells))
        return Batch(layer, numbers, places, missing, missing, labels, costs[at], own[at], other[at], around)

    def _others(
        self,
        layer: int,
        places: np.ndarray,
        d: int,
        missing: np.ndarray,
        other: np.ndarray,
        inside: np.ndarray | None,
    ) -> np.ndarray:
        """Labels to exchange with: where the cell costs little, and where it is large; 0 where there is none."""
        n, mine = self._shape[d], places[:, d]
        first = places.copy()
        first[:, d] = 0
        begin = np.asarray(np.ravel_multi_index(tuple(first.T), self._shape))
        line = begin[:, None] + np.arange(n) * stride(self._shape, d)
        room = other[line]
        is_fit = room > 0
        is_fit[np.arange(len(places)), mine] = False
        if inside is not None:
            is_fit[:, inside] = False
        large = np.where(is_fit, self.falls[layer].ravel()[line], -1)
        price = self._costs.of_cells[layer][line] / np.maximum(np.minimum(room, missing[:, None]), 1)
        price -= large / (2.0 + large.max(axis=1, keepdims=True))  # of those that cost nothing the largest
        for view, cost in self._costs.coarse:
            if view.codes is not None:
                codes = view.coded(list(places.T))
                at = np.ravel_multi_index(tuple(codes), view.rows.shape)[:, None]
                code = view.codes[d]
                there = at + (code - codes[d][:, None]) * stride(view.rows.shape, d)
                price += np.where(code != code[mine][:, None], cost[at] + cost[there], 0.0)
        price = np.where(is_fit, price, np.inf)
        if n <= _ALL:
            best = np.broadcast_to(np.arange(n), price.shape)
        else:
            cheap = np.argpartition(price, _CHEAP, axis=1)[:, :_CHEAP]
            largest = np.argpartition(-large, _LARGE, axis=1)[:, :_LARGE]
            best = np.sort(np.concatenate([cheap, largest], axis=1), axis=1)
            best[:, 1:][best[:, 1:] == best[:, :-1]] = 0
        return np.where(np.take_along_axis(is_fit, best, axis=1), best, 0)

    def of_sum(self, cells: Sequence[Cell], missing: int, sign: int, free: Free) -> Moves:
        """Change the cells of a sum, one change after the other in one world, until it has moved by what is missing."""
        own, other = self.sides(sign)
        moved: Counter[Cell] = Counter()
        taken: list[Effects] = []
        while missing > 0:
            best: tuple[float, int, Moves] | None = None
            for layer, place in cells:
                [moves], _ = self.of_cells(layer, [(place, missing)], sign, free, n_steps=1)
                if moves:
                    gives = abs(moves[layer, place])
                    cost = self._costs.of(self._costs.effects(moves)) / gives
                    if best is None or cost < best[0]:
                        best = cost, gives, moves
            if best is None:
                break
            _, gives, moves = best
            taken.append(self._costs.effects(moves))
            self._costs.withhold(taken[-1])
            missing -= gives
            for cell, by in moves.items():
                own[(cell[0], *cell[1])] -= sign * by
                other[(cell[0], *cell[1])] += sign * by
                moved[cell] += by
        for cell, by in moved.items():
            own[(cell[0], *cell[1])] += sign * by
            other[(cell[0], *cell[1])] -= sign * by
        for effects in taken:
            self._costs.release(effects)
        return {cell: by for cell, by in moved.items() if by}
