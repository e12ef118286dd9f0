"""What it costs to withhold the rows in which a world is seen, kept up while worlds come and go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from radlake.stats.crosswise.views import Moves, View

__all__ = ["Costs", "Effects", "Seen"]

Seen = dict[int, int]  # place of a flat table -> by how much its row is another
Effects = list[Seen]  # table by table


@dataclass(frozen=True)
class _Kind:
    """Tables that show the same sums of the same layers."""

    view: View
    numbers: list[int]

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
        self._views, self._all = views, [*views, *coarse]
        self._rows = [view.rows.ravel() for view in self._all]
        self.of_cells = np.zeros((n_layers, prod(shape)), dtype=np.float32)
        for layer in range(n_layers):
            for view in views:
                if view.counts(layer):
                    self.of_cells[layer] += view.cost()
        self.coarse = [(view, view.cost()) for view in coarse]
        self.withheld = 0.0
        self._kinds: list[_Kind] = []
        for number, view in enumerate(self._all):
            alike = [one for one in self._kinds if number < len(views) and one.view.layers == view.layers]
            if alike:
                alike[0].numbers.append(number)
            else:
                self._kinds.append(_Kind(view, [number]))

    def effects(self, moves: Moves) -> Effects:
        """Where a world is seen: rows of all tables that are another in it."""
        found: Effects = [{} for _ in self._all]
        for kind in self._kinds:
            seen = kind.seen(moves)
            for number in kind.numbers:
                rows = self._rows[number]
                found[number] = {at: by for at, by in seen.items() if rows[at] >= 0}
        return found

    def of(self, effects: Effects) -> float:
        """Worth of the rows that a world makes another and that are shown."""
        total = 0.0
        for view, seen in zip(self._all, effects, strict=True):
            if seen:
                total += float(view.cost(np.fromiter(seen, np.int64, len(seen))).sum())
        return total

    def withhold(self, effects: Effects) -> None:
        """Withhold all rows in which a world is seen."""
        self.withheld += self.of(effects)
        self._count(effects, 1)

    def release(self, effects: Effects) -> None:
        """Show again what was withheld for a world alone."""
        self._count(effects, -1)
        self.withheld -= self.of(effects)

    def _count(self, effects: Effects, by: int) -> None:
        changed: list[np.ndarray] = []
        for number, (view, seen) in enumerate(zip(self._all, effects, strict=True)):
            if not seen:
                continue
            at = np.fromiter(seen, np.int64, len(seen))
            rows = self._rows[number][at]
            before = view.table.n_worlds[rows]
            view.table.n_worlds[rows] = before + by
            at = at[((before == 0) | (before + by == 0)) & ~view.table.is_small[rows]]
            if not len(at):
                continue
            if number < len(self._views):
                changed.append(at)
            else:
                view, cost = self.coarse[number - len(self._views)]
                cost[at] = view.cost(at)
        if changed:
            self._refresh(np.unique(np.concatenate(changed)))

    def refresh(self, number: int, at: int) -> None:
        """What a row costs, after its worth has changed."""
        if number < len(self._views):
            self._refresh(np.array([at]))
        else:
            view, cost = self.coarse[number - len(self._views)]
            cost[at] = view.cost(np.array([at]))[0]

    def _refresh(self, at: np.ndarray) -> None:
        self.of_cells[:, at] = 0.0
        for view in self._views:
            cost = view.cost(at)
            for layer in range(len(self.of_cells)):
                if view.counts(layer):
                    self.of_cells[layer, at] += cost
