"""Arrays around cells: cells x labels of each dimension, first the total, then the own label, then the others."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

__all__ = ["along_dimension", "chain", "cut", "flat", "least", "others", "stride", "summed"]


def along_dimension(values: np.ndarray, d: int, n: int) -> np.ndarray:
    """Cells x labels, as an array whose labels lie along dimension d of n."""
    return values.reshape((len(values),) + (1,) * d + (values.shape[1],) + (1,) * (n - 1 - d))


def stride(shape: Sequence[int], d: int) -> int:
    """How far labels of a dimension lie from each other in the flat array."""
    return prod(shape[d + 1 :])


def flat(labels: Sequence[np.ndarray], shape: Sequence[int]) -> np.ndarray:
    """Places in the flat array for every combination of labels; of each dimension labels are cells x labels."""
    at: np.ndarray = np.zeros((len(labels[0]),) + (1,) * len(labels), dtype=np.int64)
    for d, one in enumerate(labels):
        at = at + along_dimension(one, d, len(labels)) * stride(shape, d)
    return at


def cut(values: np.ndarray, d: int, i: int) -> np.ndarray:
    """One label of a dimension."""
    return values[(slice(None),) * (d + 1) + (slice(i, i + 1),)]


def others(values: np.ndarray, d: int) -> np.ndarray:
    """The other labels of a dimension."""
    return values[(slice(None),) * (d + 1) + (slice(2, None),)]


def chain(costs: np.ndarray) -> np.ndarray:
    """Of each cell itself, and of all totals over it."""
    return costs[(slice(None), *(slice(2),) * (costs.ndim - 1))]


def least(own: np.ndarray, other: np.ndarray, along: Sequence[int]) -> np.ndarray:
    """By how much the corners can change at most, by turns in the direction of the cell and in the other one."""
    for d in range(own.ndim - 1):
        mine, theirs = cut(own, d, 1), cut(other, d, 1)
        if d in along:
            mine, theirs = np.minimum(mine, others(other, d)), np.minimum(theirs, others(own, d))
        own, other = mine, theirs
    return own


def summed(costs: np.ndarray, along: Sequence[int], *, only_totals: Sequence[int] = ()) -> np.ndarray:
    """What the rows cost in which a change is seen, where totals over the dimensions `along` stay.

    Parameters
    ----------
    only_totals : sequence of int
        Dimensions of which the totals alone are summed.
    """
    for d in range(costs.ndim - 1):
        if d in only_totals:
            costs = cut(costs, d, 0)
        else:
            costs = cut(costs, d, 1) + (others(costs, d) if d in along else cut(costs, d, 0))
    return costs
