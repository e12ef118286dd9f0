"""How tables show a cube: which of their rows a place of it is in, and what these are worth."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Cell", "Moves", "Place", "Shown", "View"]

Place = tuple[int, ...]  # label of each dimension, from 1; 0 is the total
Cell = tuple[int, Place]  # layer and place
Moves = dict[Cell, int]  # by how much cells move


@dataclass
class Shown:
    """Rows of one table.

    Attributes
    ----------
    worth : np.ndarray
        What each is worth to readers.
    is_small : np.ndarray
        Whether it holds a small count.
    n_worlds : np.ndarray
        In how many worlds that are needed it is another.
    """

    worth: np.ndarray
    is_small: np.ndarray
    n_worlds: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.n_worlds = np.zeros(len(self.is_small), dtype=np.int32)

    @property
    def is_withheld(self) -> np.ndarray:
        return self.is_small | (self.n_worlds > 0)


@dataclass(frozen=True)
class View:
    """How a table shows a cube.

    Attributes
    ----------
    rows : np.ndarray
        Row of the table for the table's own labels of each dimension, 0 being the total; -1 where there is none.
    codes : sequence of np.ndarray or None
        Label of the cube -> label of the table, dimension by dimension (months -> years); None where they are the same.
    groups : np.ndarray or None
        Of every cell, broadcast over the cube: the group of cells that the table sums apart from others (films of one
        price); 0 of cells that it leaves out. None when it sums all of them.
    layers : collection of int or None
        Layers of the cube that the table counts; None for all.
    """

    table: Shown
    rows: np.ndarray
    codes: Sequence[np.ndarray] | None = None
    groups: np.ndarray | None = None
    layers: Collection[int] | None = None

    def counts(self, layer: int) -> bool:
        return self.layers is None or layer in self.layers

    def cost(self, at: np.ndarray | slice = slice(None)) -> np.ndarray:
        """What it costs to withhold the rows at places of the flat table; of all of them by default."""
        rows = self.rows.ravel()[at]
        cost, is_there = np.zeros(rows.shape), rows >= 0
        there = rows[is_there]
        is_shown = ~self.table.is_small[there] & (self.table.n_worlds[there] == 0)
        cost[is_there] = np.where(is_shown, self.table.worth[there], 0.0)
        return cost

    def group(self, place: Place) -> int:
        """The group of a cell."""
        if self.groups is None:
            return 1
        return int(self.groups[tuple(i if n > 1 else 0 for i, n in zip(place, self.groups.shape, strict=True))])

    def coded(self, labels: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Labels of the cube, dimension by dimension, as those of the table."""
        return labels if self.codes is None else [code[one] for code, one in zip(self.codes, labels, strict=True)]
