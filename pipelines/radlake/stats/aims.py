"""What every small count of a cube must be able to be, of whatever table and over whatever cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from radlake.stats.crosswise import Aim, Cell, View
from radlake.stats.policy import Policy

__all__ = ["aims_of"]

Masks = dict[tuple[int, int], np.ndarray]  # dimension and label of a table -> which labels of the cube are in it


def aims_of(
    cells: np.ndarray,
    asked: Sequence[tuple[View, np.ndarray]],
    policy: Policy,
    *,
    least: int,
    is_fixed: Sequence[bool] | None = None,
) -> list[Aim]:
    """Every small count of the views, once for the same sum: what it must be able to be.

    Sums of many cells come first: they cost most, and a world of theirs is one of some of their cells too.

    Parameters
    ----------
    cells : np.ndarray
        What each cell of the cube holds, layer by layer.
    asked : sequence of (view, numbers)
        Tables that show it, and the count of each of their rows.
    least : int
        What a cell is at least that is known to hold something.
    is_fixed : sequence of bool, optional
        Dimensions without totals.
    """
    fixed = is_fixed or [False] * (cells.ndim - 1)
    found: dict[tuple[tuple[Cell, ...], int], tuple[int, list[Aim]]] = {}
    for view, numbers in asked:
        masks: Masks = {}
        layers = [layer for layer in range(len(cells)) if view.counts(layer)]
        small = np.append((numbers > 0) & (numbers < policy.threshold), False)  # the last one is of no row
        for place in zip(*(one.tolist() for one in np.nonzero(small[view.rows])), strict=True):
            for d, label in enumerate(place):
                if label and (d, label) not in masks:
                    code = np.arange(cells.shape[d + 1]) if view.codes is None else view.codes[d]
                    masks[d, label] = code == label
            count = int(numbers[view.rows[place]])
            members = _members(cells, layers, place, view, masks)
            inside = tuple(masks[d, label] if label and not fixed[d] else None for d, label in enumerate(place))
            at = int(np.ravel_multi_index(place, view.rows.shape))
            up, down = policy.threshold - 1 - count, count - max(least * len(members), 1)
            if policy.left_open == "one":
                moves = [(1, -1) if down > 0 else (1,)]
            else:
                moves = [(by,) for by in (up, -down) if by]
            same = at if least == 0 else 0  # where cells that hold nothing may hold something, sums of others differ
            found.setdefault((tuple(members), same), (count, [Aim(view, at, members, inside, by) for by in moves]))
    dearest_first = sorted(found.items(), key=lambda item: (-len(item[0][0]), item[1][0], item[0]))
    return [aim for _, (_, aims) in dearest_first for aim in aims]


def _members(
    cells: np.ndarray,
    layers: Sequence[int],
    place: tuple[int, ...],
    view: View,
    masks: Masks,
) -> list[Cell]:
    """Cells of a sum that hold something, the largest first."""
    if view.codes is None and view.groups is None and all(place):
        single = [(int(cells[(layer, *place)]), layer) for layer in layers]
        return [(layer, place) for n, layer in sorted(single, key=lambda one: -one[0]) if n > 0]
    chosen: list[Any] = [
        np.flatnonzero(masks[d, label]) if label else np.arange(cells.shape[d + 1]) for d, label in enumerate(place)
    ]
    part = cells[np.ix_(layers, *chosen)]
    if view.groups is not None:
        own = [one if n > 1 else np.zeros(1, dtype=int) for one, n in zip(chosen, view.groups.shape, strict=True)]
        part = np.where(view.groups[np.ix_(*own)] > 0, part, 0)
    where = np.nonzero(part > 0)
    order = np.argsort(-part[where], kind="stable")
    return [
        (layers[i], tuple(int(one[j]) for one, j in zip(chosen, at, strict=True)))
        for i, *at in np.stack(where, axis=1)[order].tolist()
    ]
