"""Changes that are made up for far away: in other labels of several dimensions at once, and in other layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, product

import numpy as np

from radlake.stats.crosswise.costs import Costs
from radlake.stats.crosswise.views import Cell, Moves, Place, View

__all__ = ["Far"]

_NEAR = 3  # labels along a dimension that a change is tried with before it is made up for
_TRIED = 2  # places of each change that are looked at exactly
_TOGETHER = 50  # cells that may make up for one together

Free = Mapping[int, np.ndarray | None]
Corners = list[tuple[Place, int]]  # cells of a change, and whether they move as the first one or against


class Far:
    """How far cells can move in one direction and against it, and what that costs."""

    def __init__(self, own: np.ndarray, other: np.ndarray, costs: Costs) -> None:
        self._own, self._other, self._costs = own, other, costs
        self._of_cells = costs.of_cells.reshape(own.shape)

    def best(self, cell: Cell, missing: int, free: Free) -> Moves:
        """The change of least cost by which a cell moves by what is missing, in the direction of `own`; none if empty.

        Parameters
        ----------
        free : mapping of int to np.ndarray or None
            Dimensions along which others may lie, and labels that are not among them; the cell's own by default.
        """
        found = [
            moves
            for corners, along in self._changes(cell, missing, free)
            for moves in self._made_up(cell[0], corners, along, missing, free)
        ]
        if not found:
            return self._by_several(cell, missing, free)
        return min(found, key=lambda moves: self._costs.of(self._costs.effects(moves)))

    def _changes(self, cell: Cell, missing: int, free: Free) -> Iterator[tuple[Corners, tuple[int, ...]]]:
        """The cell alone, and crosswise with labels nearby along one or two dimensions."""
        layer, place = cell
        dims = len(place)
        near = {d: self._near(cell, d, missing, free[d]) for d in free}
        for size in range(min(dims - 1, 2) + 1):
            for along in combinations(free, size):
                for others in product(*(near[d] for d in along)):
                    corners: Corners = [(place, 1)]
                    for d, label in zip(along, others, strict=True):
                        corners += [((*at[:d], label, *at[d + 1 :]), -sign) for at, sign in corners]
                    if all(self._side(sign)[(layer, *at)] >= missing for at, sign in corners[1:]):
                        yield corners, along
        for pair in combinations(free, 2):
            for there in self._askew(cell, pair, missing, free):
                yield [(place, 1), (there, -1)], pair

    def _askew(self, cell: Cell, pair: tuple[int, int], missing: int, free: Free) -> Iterator[Place]:
        """Places with other labels of two dimensions that cost least."""
        layer, place = cell
        plane = (layer, *(slice(None) if d in pair else one for d, one in enumerate(place)))
        is_fit = self._other[plane] >= missing
        for n, d in enumerate(pair):
            inside = free[d]
            is_fit[(slice(None),) * n + (place[d] if inside is None else inside,)] = False
        found = np.stack(np.nonzero(is_fit), axis=1)
        price = np.zeros(len(found))
        for kept in product((True, False), repeat=len(place)):
            if kept[pair[0]] or kept[pair[1]]:
                at: list = [one * is_kept for one, is_kept in zip(place, kept, strict=True)]
                for n, d in enumerate(pair):
                    at[d] = found[:, n] * kept[d]
                price += self._of_cells[(layer, *at)]
        for i in np.argsort(price, kind="stable")[:_NEAR]:
            there = dict(zip(pair, found[i].tolist(), strict=True))
            yield tuple(there.get(d, one) for d, one in enumerate(place))

    def _near(self, cell: Cell, d: int, missing: int, inside: np.ndarray | None) -> list[int]:
        """Labels to exchange with along a dimension that cost least."""
        layer, place = cell
        line = (layer, *(slice(None) if i == d else one for i, one in enumerate(place)))
        is_fit = self._other[line] >= missing
        is_fit[place[d] if inside is None else inside] = False
        price = np.zeros(len(is_fit))
        for kept in product((True, False), repeat=len(place)):
            if kept[d]:
                price += self._of_cells[
                    (layer, *(slice(None) if i == d else one * kept[i] for i, one in enumerate(place)))
                ]
        fit = np.flatnonzero(is_fit)
        return fit[np.argsort(price[fit], kind="stable")[:_NEAR]].tolist()

    def _made_up(
        self, layer: int, corners: Corners, along: tuple[int, ...], missing: int, free: Free
    ) -> Iterator[Moves]:
        """The same change the other way round, at the cheapest places whose labels along `along` are the same."""
        place = corners[0][0]
        apart = [d for d in range(len(place)) if d not in along]
        is_fit: np.ndarray = np.array(True)
        for at, sign in corners:
            side = self._side(-sign)
            is_fit = is_fit & (side[self._at(at, along)] >= missing)
        is_outside = np.zeros(is_fit.shape, dtype=bool)
        for n, d in enumerate(apart):
            if d in free:
                inside = free[d]
                differs = np.arange(is_fit.shape[n + 1]) != place[d] if inside is None else ~inside
                is_outside |= differs.reshape((-1,) + (1,) * (len(apart) - 1 - n))
        found = np.nonzero(is_fit & is_outside)
        if not len(found[0]):
            return
        price = self._prices(layer, corners, along, apart, found)
        for i in np.argsort(price, kind="stable")[:_TRIED]:
            there = dict(zip(apart, (int(one[i]) for one in found[1:]), strict=True))
            moves: Moves = {}
            for at, sign in corners:
                moves[layer, at] = sign * missing
                mirrored = tuple(there.get(d, one) for d, one in enumerate(at))
                moves[int(found[0][i]), mirrored] = -sign * missing
            yield moves

    def _at(self, at: Place, along: tuple[int, ...]) -> tuple:
        """Of all layers, the labels of a place along some dimensions, and all labels of the others."""
        return (slice(None), *(one if d in along else slice(None) for d, one in enumerate(at)))

    def _prices(
        self,
        layer: int,
        corners: Corners,
        along: tuple[int, ...],
        apart: list[int],
        found: tuple[np.ndarray, ...],
    ) -> np.ndarray:
        """About what it costs to make up at places that were found."""
        layers, labels = found[0], dict(zip(apart, found[1:], strict=True))
        place = corners[0][0]
        price = np.zeros(len(layers))
        for kept in product((True, False), repeat=len(apart)):
            total = {d for d, is_kept in zip(apart, kept, strict=True) if not is_kept}
            is_same = np.ones(len(layers), dtype=bool)
            for d in apart:
                if d not in total:
                    is_same &= labels[d] == place[d]
            for at, _ in corners:
                here = self._of_cells[(layer, *(0 if d in total else one for d, one in enumerate(at)))]
                there = self._of_cells[(layers, *(0 if d in total else labels.get(d, one) for d, one in enumerate(at)))]
                price += np.where(is_same, np.abs(here - there), here + there)
        for view, cost in self._costs.coarse:
            price += self._prices_around(view, cost.reshape(view.rows.shape), corners, along, apart, labels)
        return price

    def _prices_around(
        self,
        view: View,
        cost: np.ndarray,
        corners: Corners,
        along: tuple[int, ...],
        apart: list[int],
        labels: Mapping[int, np.ndarray],
    ) -> np.ndarray:
        """The same of a table of wider labels."""
        codes = [[int(one[0]) for one in view.coded([np.array([label]) for label in at])] for at, _ in corners]
        mine, last = codes[0], codes[-1]
        price = np.zeros(len(next(iter(labels.values()))))
        if any(mine[d] == last[d] for d in along):
            return price
        theirs = view.coded([labels.get(d, np.zeros(1, dtype=int)) for d in range(len(mine))])
        for kept in product((True, False), repeat=len(apart)):
            total = {d for d, is_kept in zip(apart, kept, strict=True) if not is_kept}
            differs = np.zeros(len(price), dtype=bool)
            for d in apart:
                if d not in total:
                    differs |= theirs[d] != mine[d]
            if differs.any():
                for code in codes:
                    here = cost[tuple(0 if d in total else one for d, one in enumerate(code))]
                    there = cost[
                        tuple(0 if d in total else theirs[d] if d in apart else one for d, one in enumerate(code))
                    ]
                    price += differs * (here + there)
        return price

    def _by_several(self, cell: Cell, missing: int, free: Free) -> Moves:
        """Large cells that make up for one together, best without a label of it."""
        place = np.array(cell[1])
        layers, *found = np.nonzero(self._other > 0)
        labels = np.stack(found, axis=1)
        is_outside = np.zeros(len(layers), dtype=bool)
        for d, within in free.items():
            is_outside |= labels[:, d] != place[d] if within is None else ~within[labels[:, d]]
        layers, labels = layers[is_outside], labels[is_outside]
        room = self._other[(layers, *labels.T)]
        moves: Moves = {cell: missing}
        for i in np.lexsort((-room, (labels == place).sum(axis=1), layers != cell[0]))[:_TOGETHER]:
            by = min(int(room[i]), missing)
            moves[int(layers[i]), tuple(labels[i].tolist())] = -by
            missing -= by
            if not missing:
                return moves
        return {}

    def _side(self, sign: int) -> np.ndarray:
        return self._own if sign > 0 else self._other
