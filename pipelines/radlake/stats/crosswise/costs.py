"""What it costs to withhold the rows in which a change is seen, kept up while rows are withheld."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod

import numpy as np

from radlake.stats.crosswise.around import Around
from radlake.stats.crosswise.arrays import flat
from radlake.stats.crosswise.changes import Change, FarChange
from radlake.stats.crosswise.views import Cell, View

__all__ = ["Costs"]


class Costs:
    """Costs of withholding, by place.

    Attributes
    ----------
    of_cells : np.ndarray
        Layers x places of the flat cube: in tables whose labels are those of the cube.
    coarse : list of (View, np.ndarray)
        Other tables, and what each of their rows costs.
    """

    def __init__(self, views: Sequence[View], coarse: Sequence[View], *, shape: Sequence[int], n_layers: int) -> None:
        self._views, self._shape = views, shape
        self.of_cells = np.zeros((n_layers, prod(shape)), dtype=np.float32)
        self._refresh(slice(None))
        self.coarse = [(view, view.cost()) for view in coarse]

    def withhold(self, change: Change | FarChange) -> None:
        """Withhold all rows in which a change is seen."""
        if isinstance(change, FarChange):
            self._withhold_far(change)
        else:
            self._withhold_crosswise(change)

    def of_moves(self, moves: Mapping[Cell, int]) -> float:
        """What it costs when cells move."""
        return sum(float(view.cost(at).sum()) for view, at in self._effects(moves))

    def _withhold_crosswise(self, change: Change) -> None:
        labels = change.labels
        at = np.unique(flat([one[:, -2:] for one in labels], self._shape))
        at = at[self.of_cells[change.layer, at] > 0]
        for view in self._views:
            if view.counts(change.layer):
                view.withhold(at)
        self._refresh(at)
        for view, cost in self.coarse:
            if view.counts(change.layer):
                seen = Around.of(view, cost, labels).seen(sorted(change.others))
                view.withhold(seen)
                cost[seen] = 0.0

    def _withhold_far(self, change: FarChange) -> None:
        for view, at in self._effects(change.moved):
            view.withhold(at)
        self._refresh(slice(None))
        self.coarse = [(view, view.cost()) for view, _ in self.coarse]

    def _effects(self, moves: Mapping[Cell, int]) -> Iterator[tuple[View, np.ndarray]]:
        """For every table the places that change."""
        for view in (*self._views, *(view for view, _ in self.coarse)):
            effect: dict[tuple[int, int], int] = {}
            for (layer, place), by in moves.items():
                group = view.group(place) if view.counts(layer) else 0
                codes = [int(one[0]) for one in view.coded([np.array([label]) for label in place])]
                for corner in set(product(*((0, code) for code in codes))) if group else ():
                    at = int(np.ravel_multi_index(corner, view.rows.shape)), group
                    effect[at] = effect.get(at, 0) + by
            yield view, np.array(sorted({at for (at, _), by in effect.items() if by}), dtype=int)

    def _refresh(self, at: np.ndarray | slice) -> None:
        """Costs of places of the cube, after rows were withheld."""
        self.of_cells[:, at] = 0.0
        for view in self._views:
            cost = view.cost(at)
            for layer in range(len(self.of_cells)):
                if view.counts(layer):
                    self.of_cells[layer, at] += cost
