"""What a cell does that has no neighbours to exchange with: large cells anywhere make up for it together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from radlake.stats.crosswise.views import Cell, View

__all__ = ["far_moves"]

_FAR = 50  # large cells that are looked at


def far_moves(
    cell: Cell,
    missing: int,
    free: Mapping[int, np.ndarray | None],
    *,
    room: np.ndarray,
    falls: np.ndarray,
    coarse: Sequence[View],
) -> dict[Cell, int]:
    """A cell that moves by what is missing, and others that make up for it, best without a label of it.

    Parameters
    ----------
    free : mapping of int to np.ndarray or None
        Dimensions along which others may lie, and labels that are not among them; the cell's own by default.
    room : np.ndarray
        By how much each cell can move against it.

    Returns
    -------
    dict of cell to int
        By how much each moves; empty where the others are too few.
    """
    own, place = cell[0], np.array(cell[1])
    layers, *labels = np.nonzero((room > 0) & (falls >= 0))
    labels = np.stack(labels, axis=1)
    is_outside = np.zeros(len(layers), dtype=bool)
    for d, within in free.items():
        is_outside |= labels[:, d] != place[d] if within is None else ~within[labels[:, d]]
    layers, labels = layers[is_outside], labels[is_outside]
    large = falls[(layers, *labels.T)]
    order = np.lexsort((-large, (labels == place).sum(axis=1), layers != own))[:_FAR]
    cells: list[Cell] = [(int(layers[i]), tuple(labels[i].tolist())) for i in order]
    apart = [view for view in coarse if view.groups is not None]
    groups = [view.group(cell[1]) for view in apart]
    # Of its own layer first, then of the same groups.
    cells.sort(key=lambda one: (one[0] != own, groups != [view.group(one[1]) for view in apart]))
    moves = {cell: missing}
    for one in cells:
        moves[one] = -min(int(room[(one[0], *one[1])]), missing)
        missing += moves[one]
        if not missing:
            return moves
    return {}
