"""What it costs to withhold the rows in which a world is seen, kept up while worlds come and go."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from radlake.stats.crosswise.views import Moves, Shown, View

__all__ = ["At", "Costs", "Effects", "Seen"]

Seen = dict[int, int]  # place of a flat table -> by how much its row is another
Effects = list[Seen]  # kind by kind
At = tuple[int, int]  # number of a kind, and place in its flat table


class _Kind:
    """Tables that show the same sums of the same layers: a world is seen in all of them at the same places.

    Attributes
    ----------
    cost : np.ndarray
        What it costs to withhold the rows of a place.
    is_there : np.ndarray
        Whether any of the tables has a row there.
    """

    def __init__(self, views: Sequence[View]) -> None:
        self.view, self.views = views[0], views
        self.cost = self.cost_of(slice(None))
        self.is_there = np.logical_or.reduce([view.rows.ravel() >= 0 for view in views])

    def cost_of(self, at: np.ndarray | slice) -> np.ndarray:
        return sum((view.cost(at) for view in self.views[1:]), self.views[0].cost(at))

    def seen(self, moves: Moves) -> Seen:
        """Places where a group is another, and by how much the count is: 0 where only its groups are."""
        shape = self.view.rows.shape
        size = prod(shape)
        apart: Seen = {}  # group by group
        for (layer, place), by in moves.items():
            group = self.view.group(place) if self.view.counts(layer) else 0
            if group:
                at = group
                for one, code, n in zip(place, self.view.codes or [None] * len(place), shape, strict=True):
                    at = at * n + (one if code is None else int(code[one]))
                apart[at] = apart.get(at, 0) + by
        apart = {at: by for at, by in apart.items() if by}
        far = size
        for n in shape:
            far //= n
            totals: Seen = {}
            for at, by in apart.items():
                total = at - at // far % n * far
                totals[total] = totals.get(total, 0) + by
            apart = {at: by for at, by in (apart | totals).items() if by}
        if self.view.groups is None:
            return {at - size: by for at, by in apart.items()}
        seen: Seen = {}
        for at, by in apart.items():
            seen[at % size] = seen.get(at % size, 0) + by
        return seen


class Costs:
    """Costs of withholding, by place.

    Attributes
    ----------
    of_cells : np.ndarray
        Layers x places of the flat cube: in tables whose labels are those of the cube.
    coarse : list of (View, np.ndarray)
        Other tables, and what each of their rows costs.
    withheld : float
        Worth of all rows that are withheld for worlds.
    """

    def __init__(self, views: Sequence[View], coarse: Sequence[View], *, shape: Sequence[int], n_layers: int) -> None:
        alike: dict[frozenset[int] | None, list[View]] = {}
        for view in views:
            alike.setdefault(None if view.layers is None else frozenset(view.layers), []).append(view)
        fine = [_Kind(some) for some in alike.values()]
        self._kinds = [*fine, *(_Kind([view]) for view in coarse)]
        self._of_layer = [[kind for kind in fine if kind.view.counts(layer)] for layer in range(n_layers)]
        self._n_fine = len(fine)
        self.of_cells = np.zeros((n_layers, prod(shape)), dtype=np.float32)
        self._add_up(slice(None))
        self.coarse = [(kind.view, kind.cost) for kind in self._kinds[len(fine) :]]
        self.withheld = 0.0

    def number(self, view: View) -> int:
        """The kind of a table."""
        return next(n for n, kind in enumerate(self._kinds) if any(view is one for one in kind.views))

    def rows(self, at: At) -> list[tuple[Shown, int]]:
        """Rows of a place, in every table of the kind."""
        found = ((view.table, int(view.rows.ravel()[at[1]])) for view in self._kinds[at[0]].views)
        return [(table, row) for table, row in found if row >= 0]

    def effects(self, moves: Moves) -> Effects:
        """Where a world is seen: places of rows that are another in it."""
        return [{at: by for at, by in kind.seen(moves).items() if kind.is_there[at]} for kind in self._kinds]

    def of(self, effects: Effects) -> float:
        """Worth of the rows that a world makes another and that are shown."""
        return sum(
            float(kind.cost[np.fromiter(seen, np.int64, len(seen))].sum())
            for kind, seen in zip(self._kinds, effects, strict=True)
            if seen
        )

    def withhold(self, effects: Effects) -> None:
        """Withhold all rows in which a world is seen."""
        self.withheld += self.of(effects)
        self._count(effects, 1)

    def release(self, effects: Effects) -> None:
        """Show again what was withheld for a world alone."""
        self._count(effects, -1)
        self.withheld -= self.of(effects)

    def _count(self, effects: Effects, by: int) -> None:
        for number, (kind, seen) in enumerate(zip(self._kinds, effects, strict=True)):
            if not seen:
                continue
            at = np.fromiter(seen, np.int64, len(seen))
            is_other = np.zeros(len(at), dtype=bool)
            for view in kind.views:
                rows = view.rows.ravel()[at]
                is_there = rows >= 0
                n_worlds = view.table.n_worlds[rows[is_there]] + by
                view.table.n_worlds[rows[is_there]] = n_worlds
                is_other[is_there] |= n_worlds == max(by, 0)
            if is_other.any():
                self._refresh(number, at[is_other])

    def refresh(self, at: At) -> None:
        """What the rows of a place cost, after their worth has changed."""
        self._refresh(at[0], np.array([at[1]]))

    def _refresh(self, number: int, at: np.ndarray) -> None:
        kind = self._kinds[number]
        kind.cost[at] = kind.cost_of(at)
        if number < self._n_fine:
            self._add_up(at)

    def _add_up(self, at: np.ndarray | slice) -> None:
        for layer, kinds in enumerate(self._of_layer):
            if kinds:
                self.of_cells[layer, at] = sum((kind.cost[at] for kind in kinds[1:]), kinds[0].cost[at])
