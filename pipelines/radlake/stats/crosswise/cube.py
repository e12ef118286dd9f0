"""A cube, and the search for changes that let its counts be other numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from radlake.stats.crosswise.around import Around
from radlake.stats.crosswise.arrays import chain, flat, stride
from radlake.stats.crosswise.batch import Batch
from radlake.stats.crosswise.changes import Change, FarChange
from radlake.stats.crosswise.costs import Costs
from radlake.stats.crosswise.far import far_moves
from radlake.stats.crosswise.views import Cell, Place, View

__all__ = ["Aim", "Cube"]

_CHEAP, _LARGE = 4, 2  # labels to exchange with along a dimension: so many cheap ones, and so many with large cells
_ALL = 12  # or all of them, where there are so few
_STEPS = 16  # changes that one cell may need
_AT_ONCE = 64  # cells that are looked at together; they do not know what is withheld for each other

# Dimensions along which cells may be exchanged with others, and labels that are not among these; by default its own.
Free = Mapping[int, np.ndarray | None]


@dataclass(frozen=True)
class Aim:
    """A sum of cells that must be able to be other numbers.

    Attributes
    ----------
    cells : sequence of Cell
        Its cells that hold something, the largest first.
    inside : tuple of np.ndarray or None
        For each dimension which labels belong to the sum; None where all do, and the sum is over the dimension.
    up, down : int
        By how much it must be able to rise and to fall.
    """

    cells: Sequence[Cell]
    inside: tuple[np.ndarray | None, ...]
    up: int
    down: int

    @property
    def free(self) -> Free:
        return {d: one if one.sum() > 1 else None for d, one in enumerate(self.inside) if one is not None}


@dataclass
class Cube:
    """One count of a release: by how much each cell can fall and rise, and the tables that show it.

    Attributes
    ----------
    falls, rises : np.ndarray
        Layer x labels of each dimension, index 0 of the total unused; -1 where there is no cell. Cells of one layer are
        exchanged with each other only.
    views : sequence of View
        Tables whose labels are those of the cube, and which show all of it.
    coarse : sequence of View
        Other tables.
    """

    falls: np.ndarray
    rises: np.ndarray
    views: Sequence[View]
    coarse: Sequence[View] = ()
    _costs: Costs = field(init=False)

    def __post_init__(self) -> None:
        self.falls, self.rises = (np.ascontiguousarray(one, dtype=np.int32) for one in (self.falls, self.rises))
        self._shape = self.falls.shape[1:]
        self._costs = Costs(self.views, self.coarse, shape=self._shape, n_layers=len(self.falls))

    def protect(self, aims: Sequence[Aim]) -> None:
        """Withhold rows until every aim is reached."""
        for sign in (1, -1):
            own, _ = self._sides(sign)
            alike: dict[tuple, tuple[int, Free, list[tuple[Place, int]]]] = {}
            several: list[tuple[Aim, int]] = []
            for aim in aims:
                missing = aim.up if sign > 0 else aim.down
                if missing <= 0:
                    continue
                layer, place = aim.cells[0]
                if len(aim.cells) > 1 and own[(layer, *place)] < missing:
                    several.append((aim, missing))
                else:
                    free = aim.free
                    kind = layer, *((d, one is not None and id(one)) for d, one in free.items())
                    alike.setdefault(kind, (layer, free, []))[2].append((place, missing))
            for layer, free, cells in alike.values():
                for start in range(0, len(cells), _AT_ONCE):
                    some = cells[start : start + _AT_ONCE]
                    changes, stuck = self._search(layer, some, sign, free)
                    for change in changes:
                        self._costs.withhold(change)
                    for i in stuck:
                        place, missing = some[i]
                        self._together([(layer, place)], missing, sign, free)
            for aim, missing in several:
                self._together(aim.cells, missing, sign, aim.free)

    def _together(self, cells: Sequence[Cell], missing: int, sign: int, free: Free) -> None:
        """Change the cells of a sum, one change after the other in one world, until it has moved by what is missing."""
        own, other = self._sides(sign)
        moved: list[tuple[Cell, int]] = []
        while missing > 0:
            best: Change | FarChange | None = None
            for layer, place in cells:
                changes, _ = self._search(layer, [(place, missing)], sign, free, n_steps=1)
                if changes and (best is None or changes[0].score[0] < best.score[0]):
                    best = changes[0]
            if best is None:
                break
            missing -= int(best.gives[0])
            self._costs.withhold(best)
            for (layer, place), by in best.moves(0):
                own[(layer, *place)] -= by
                other[(layer, *place)] += by
                moved.append(((layer, place), by))
        for (layer, place), by in moved:
            own[(layer, *place)] += by
            other[(layer, *place)] -= by

    def _sides(self, sign: int) -> tuple[np.ndarray, np.ndarray]:
        """By how much each cell can move in a direction, and against it."""
        return (self.rises, self.falls) if sign > 0 else (self.falls, self.rises)

    def _search(
        self, layer: int, cells: Sequence[tuple[Place, int]], sign: int, free: Free, *, n_steps: int = _STEPS
    ) -> tuple[list[Change | FarChange], list[int]]:
        """For each of some cells the changes that cost least for what they give, until it moves by what is missing.

        Parameters
        ----------
        cells : sequence of (place, int)
            Cells, and by how much each must be able to move in the direction of `sign`.

        Returns
        -------
        tuple of list
            Changes, and numbers of the cells that may need labels that were not looked at.
        """
        batch = self._batch(layer, cells, sign, free)
        changes: list[Change | FarChange] = []
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
            # More than to withhold the cell and all totals over it but the grand one.
            for i in np.flatnonzero(total > costs.sum(axis=1) - costs[:, 0]):
                cell = layer, tuple(batch.places[i].tolist())
                far = self._far(cell, int(batch.missing[i]), int(batch.wanted[i]), sign, free, most=total[i])
                if far is not None:
                    changes.append(far)
                    best.score[i] = np.inf
            changes += batch.take(best)
        return changes, stuck

    def _far(self, cell: Cell, missing: int, wanted: int, sign: int, free: Free, *, most: float) -> FarChange | None:
        """A change with cells anywhere, if it costs less than `most`.

        Cells may have moved already by what of `wanted` is not missing any more.
        """
        _, other = self._sides(sign)
        room = other - (wanted - missing)
        moved = far_moves(cell, missing, free, room=room, falls=self.falls, coarse=self.coarse)
        cost = self._costs.of_moves(moved) if moved else most
        return FarChange(moved, np.array([missing]), np.array([cost / missing])) if cost < most else None

    def _batch(self, layer: int, cells: Sequence[tuple[Place, int]], sign: int, free: Free) -> Batch:
        """Cells with a few labels to exchange with."""
        own, other = (one[layer].ravel() for one in self._sides(sign))
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
