"""Tables of wider labels, or of cells summed apart, around the cells of a batch: where changes are seen there.

A row too many may be taken for one in which a change is seen, never one too few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from radlake.stats.crosswise.arrays import along_dimension, cut, flat, others, summed
from radlake.stats.crosswise.views import View

__all__ = ["Around"]


@dataclass(frozen=True)
class Around:
    """A table around some cells: places of its rows and what they cost, labels, and groups of cells summed apart."""

    at: np.ndarray
    costs: np.ndarray
    codes: Sequence[np.ndarray]
    groups: np.ndarray | None

    @classmethod
    def of(cls, view: View, cost: np.ndarray, labels: Sequence[np.ndarray]) -> Around:
        """A table, the costs of its rows, and of each dimension the labels of cells: cells x labels."""
        codes = view.coded(labels)
        at = flat(codes, view.rows.shape)
        groups = None
        if view.groups is not None:
            where = []
            for d, (one, size) in enumerate(zip(labels, view.groups.shape, strict=True)):
                where.append(along_dimension(one if size > 1 else np.zeros_like(one[:, :1]), d, len(labels)))
            groups = view.groups[tuple(where)]
        return cls(at, cost[at], codes, groups)

    def some(self, cells: np.ndarray | slice) -> Around:
        groups = None if self.groups is None else self.groups[cells]
        return Around(self.at[cells], self.costs[cells], [one[cells] for one in self.codes], groups)

    def cost_of(self, along: Sequence[int]) -> np.ndarray | None:
        """What changes cost here; None if nothing."""
        apart, is_in = self._apart(along)
        is_seen = self._is_seen(along, apart, is_in)
        if not np.any(is_seen):
            return None
        total = summed(self.costs, along)
        for n in range(1, len(apart) + 1):
            for some in combinations(apart, n):
                more = summed(self.costs, along, only_totals=some)
                for d in some:
                    more = more * apart[d]
                total = total + more
        return total * is_seen

    def _is_seen(
        self, along: Sequence[int], apart: Mapping[int, np.ndarray], is_in: np.ndarray | bool
    ) -> np.ndarray | bool:
        is_seen = is_in
        for d in along:
            code = self.codes[d]
            differs = along_dimension(code[:, 2:] != code[:, 1:2], d, len(self.codes))
            is_seen = is_seen & (differs | apart[d] if d in apart else differs)
        return is_seen

    def _apart(self, along: Sequence[int]) -> tuple[dict[int, np.ndarray], np.ndarray | bool]:
        """Dimensions along which the cells of changes are summed apart, and whether any of them is counted at all."""
        if self.groups is None:
            return {}, True
        dims = [d for d in range(len(self.codes)) if self.groups.shape[1 + d] > 1]
        corners: dict[tuple[int, ...], np.ndarray] = {}
        for which in product(*((0, 1) if d in along else (0,) for d in dims)):
            one = self.groups
            for d, is_other in zip(dims, which, strict=True):
                one = others(one, d) if is_other else cut(one, d, 1)
            corners[which] = one
        is_in: np.ndarray | bool = False
        for one in corners.values():
            is_in = is_in | (one > 0)
        apart: dict[int, np.ndarray] = {}
        for number, d in enumerate(dims):
            if d in along:
                differs: np.ndarray | bool = False
                for which, one in corners.items():
                    if not which[number]:
                        differs = differs | (one != corners[*which[:number], 1, *which[number + 1 :]])
                if np.any(differs):
                    apart[d] = np.asarray(differs)
        return apart, is_in
