"""A cube: worlds for all its aims, and the rows that are withheld for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import inf

import numpy as np

from radlake.stats.crosswise.costs import At, Costs, Effects
from radlake.stats.crosswise.search import Free, Search
from radlake.stats.crosswise.views import Cell, Moves, Place, View

__all__ = ["Aim", "Cube"]

_AT_ONCE = 64  # aims that are looked at together; they do not know what is withheld for each other
_AGAIN = 0.3  # cells that are searched for once more, to those of the first time
_AT_LEAST = 150  # of them, in small releases
_NEVER = 1e12  # worth of a row that is to be shown, beside any other


@dataclass(frozen=True)
class Aim:
    """A count that must be able to be another.

    Attributes
    ----------
    view : View
        A table that shows it.
    at : int
        Its place in the flat table.
    cells : sequence of Cell
        Cells of the sum that hold something, the largest first.
    inside : tuple of np.ndarray or None
        For each dimension which labels belong to the sum; None where all do, and the sum is over the dimension.
    by : tuple of int
        By how much it must be able to rise or fall: one of these.
    """

    view: View
    at: int
    cells: Sequence[Cell]
    inside: tuple[np.ndarray | None, ...]
    by: tuple[int, ...]

    @property
    def free(self) -> Free:
        return {d: one if one.sum() > 1 else None for d, one in enumerate(self.inside) if one is not None}


@dataclass(frozen=True)
class _World:
    """Where it is seen, and by how much it moves the counts that aims are of."""

    effects: Effects
    cost: float
    moved: Sequence[tuple[At, int]]


@dataclass
class Cube:
    """One count of a release: by how much each cell can fall and rise, and the tables that show it.

    Attributes
    ----------
    falls, rises : np.ndarray
        Layer x labels of each dimension, index 0 of the total unused; -1 where there is no cell.
    views : sequence of View
        Tables whose labels are those of the cube, and which show all of it.
    coarse : sequence of View
        Other tables.
    aims : sequence of Aim
        What must be reached, in this order.
    """

    falls: np.ndarray
    rises: np.ndarray
    views: Sequence[View]
    coarse: Sequence[View]
    aims: Sequence[Aim]
    _goals: list[tuple[int, ...]] = field(init=False)
    _worlds: dict[int, _World] = field(init=False, default_factory=dict)
    _where: dict[At, set[int]] = field(init=False, default_factory=dict)  # worlds that are seen there

    def __post_init__(self) -> None:
        falls, rises = (np.ascontiguousarray(one, dtype=np.int32) for one in (self.falls, self.rises))
        self._costs = Costs(self.views, self.coarse, shape=falls.shape[1:], n_layers=len(falls))
        self._search = Search(falls, rises, self._costs)
        self._at: list[At] = [(self._costs.number(aim.view), aim.at) for aim in self.aims]
        self._of: dict[At, list[int]] = {}
        for i, at in enumerate(self._at):
            self._of.setdefault(at, []).append(i)
        self._goals = [aim.by for aim in self.aims]
        self._moved: dict[At, Counter[int]] = {at: Counter() for at in self._of}
        self._n = 0

    def protect(self) -> None:
        """Withhold rows until every aim is reached, then show those again that can do without."""
        self._reach(range(len(self.aims)))
        self._show_again(max(_AT_LEAST, round(self._search.n * _AGAIN)))

    def _is_reached(self, i: int) -> bool:
        moved = self._moved[self._at[i]]
        return any(far >= by if by > 0 else far <= by for by in self._goals[i] for far in moved)

    def _reach(self, aims: Iterable[int], *, below: float = inf) -> bool:
        """Find a world for every aim that has none; an aim that cannot be reached is reached as far as can be.

        It stops and is False as soon as that costs `below` or more, or, with such a limit, an aim cannot be reached.
        """
        waiting = (i for i in aims if self._goals[i] and not self._is_reached(i))
        at_once = _AT_ONCE if below == inf else 1
        while some := list(islice(waiting, at_once)):
            at_once = min(2 * at_once, _AT_ONCE)
            for i, world in zip(some, self._found(some), strict=True):
                if self._is_reached(i):
                    continue
                if world is not None:
                    self._take(world)
                if self._costs.withheld >= below:
                    return False
                if not self._is_reached(i):
                    if below < inf:
                        return False
                    moved = [0, *self._moved[self._at[i]]]
                    far = (max(moved) if by > 0 else min(moved) for by in self._goals[i])
                    self._goals[i] = tuple(by for by in far if by)
        return self._costs.withheld < below

    def _show_again(self, most: int) -> None:
        """Show withheld rows again, the most worth first, where other worlds cost less; `most` cells are searched."""
        end = self._search.n + most
        places = []
        for at in self._where:
            worth = max((table.worth[row] for table, row in self._costs.rows(at) if not table.is_small[row]), default=0)
            if worth:
                places.append((-float(worth), at))
        for _, at in sorted(places):
            old = sorted(self._where[at])
            if self._search.n + len(old) > end:
                break
            rows = [(table, row) for table, row in self._costs.rows(at) if not table.is_small[row]]
            if old and any(table.n_worlds[row] == len(old) for table, row in rows):
                self._try_without(at, old)

    def _try_without(self, at: At, old: Sequence[int]) -> None:
        """Find other worlds for those that are seen in a place; the old ones are taken again if these cost more."""
        rows = self._costs.rows(at)
        worths = [table.worth[row] for table, row in rows]
        before, first = self._costs.withheld, self._n + 1
        dropped = [self._drop(n) for n in old]
        for table, row in rows:
            table.worth[row] = _NEVER
        self._costs.refresh(at)
        aims = sorted({i for world in dropped for moved, _ in world.moved for i in self._of[moved]})
        is_better = self._reach(aims, below=before)
        if not is_better:
            for n in range(first, self._n + 1):
                self._drop(n)
        for (table, row), worth in zip(rows, worths, strict=True):
            table.worth[row] = worth
        self._costs.refresh(at)
        if not is_better:
            for world in dropped:
                self._take(world)
            self._costs.withheld = before

    def _take(self, world: _World) -> None:
        self._n += 1
        self._worlds[self._n] = world
        self._costs.withhold(world.effects)
        for at, by in world.moved:
            self._moved[at][by] += 1
        for number, seen in enumerate(world.effects):
            for at in seen:
                self._where.setdefault((number, at), set()).add(self._n)

    def _drop(self, n: int) -> _World:
        world = self._worlds.pop(n)
        self._costs.release(world.effects)
        for at, by in world.moved:
            self._moved[at][by] -= 1
            if not self._moved[at][by]:
                del self._moved[at][by]
        for number, seen in enumerate(world.effects):
            for at in seen:
                self._where[number, at].discard(n)
        return world

    def _world(self, moves: Moves) -> _World:
        effects = self._costs.effects(moves)
        moved = [
            ((number, at), by)
            for number, seen in enumerate(effects)
            for at, by in seen.items()
            if (number, at) in self._of
        ]
        return _World(effects, self._costs.of(effects), moved)

    def _found(self, aims: Sequence[int]) -> list[_World | None]:
        """For each aim the cheapest world that is found."""
        found: dict[int, _World] = {}

        def propose(i: int, moves: Moves) -> None:
            if moves:
                world = self._world(moves)
                if i not in found or world.cost < found[i].cost:
                    found[i] = world

        alike: dict[tuple, tuple[int, int, Free, list[tuple[int, Place, int]]]] = {}
        for i in aims:
            cells, free = self.aims[i].cells, self.aims[i].free
            for by in self._goals[i]:
                sign, missing = (1, by) if by > 0 else (-1, -by)
                own, _ = self._search.sides(sign)
                layer, place = next((cell for cell in cells if own[(cell[0], *cell[1])] >= missing), cells[0])
                if len(cells) > 1 and own[(layer, *place)] < missing:
                    propose(i, self._search.of_sum(cells, missing, sign, free))
                else:
                    kind = layer, sign, *((d, one is not None and id(one)) for d, one in free.items())
                    alike.setdefault(kind, (layer, sign, free, []))[3].append((i, place, missing))
        for layer, sign, free, several in alike.values():
            worlds, stuck = self._search.of_cells(layer, [(place, far) for _, place, far in several], sign, free)
            for (i, *_), moves in zip(several, worlds, strict=True):
                propose(i, moves)
            for n in stuck:
                i, place, missing = several[n]
                propose(i, self._search.of_sum([(layer, place)], missing, sign, free))
        return [found.get(i) for i in aims]
