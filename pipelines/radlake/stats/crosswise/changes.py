"""Changes: cells that move together, so that hardly anything shown moves with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from radlake.stats.crosswise.views import Cell

__all__ = ["Change", "FarChange"]


@dataclass(frozen=True)
class Change:
    """Changes of some cells of a layer along the same dimensions, one of each cell.

    Attributes
    ----------
    others : mapping of int to np.ndarray
        Dimension -> the other label of each change.
    gives : np.ndarray
        How far each goes.
    score : np.ndarray
        What it costs for what it gives.
    """

    layer: int
    places: np.ndarray
    others: Mapping[int, np.ndarray]
    gives: np.ndarray
    score: np.ndarray

    @property
    def labels(self) -> list[np.ndarray]:
        """Of every dimension the total, the own label, and the other one where there is one: changes x labels."""
        return [
            np.stack([0 * own, own, self.others[d]] if d in self.others else [0 * own, own], axis=1)
            for d, own in enumerate(self.places.T)
        ]

    def moves(self, i: int) -> Iterator[tuple[Cell, int]]:
        """Cells of a change, and by how much each moves."""
        labels = [one[i, 1:].tolist() for one in self.labels]
        for which in product(*(range(len(one)) for one in labels)):
            place = tuple(one[j] for one, j in zip(labels, which, strict=True))
            yield (self.layer, place), (-1) ** sum(which) * int(self.gives[i])


@dataclass(frozen=True)
class FarChange:
    """The change of a single cell without neighbours: all that moves; `gives` and `score` as of a `Change` of one."""

    moved: Mapping[Cell, int]
    gives: np.ndarray
    score: np.ndarray

    def moves(self, _: int) -> Iterable[tuple[Cell, int]]:
        return self.moved.items()
