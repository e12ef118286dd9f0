"""A glance at the pixels of a detector: may somebody have written into them? Arithmetic only, milliseconds a frame.

Writing is made of strokes: short runs of one stored value, far brighter or far darker than what is beside them, that go
on in the next row. Tissue has no two neighbours alike, and its edges are not that steep. Slices that were computed from
others have flat surfaces with holes in them: of slices only bright strokes count, and no value that most pixels have
elsewhere. A glance only decides whether the text detector has a look.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
from pydicom import Dataset

from radlake.pixels.frames import Array, NotDecodable, layout_of, read_frames

__all__ = ["may_be_written_on"]

_ROWS = 300  # of a frame, evenly; writing that is higher than three times their distance is met
_WIDEST = 16  # pixels of a stroke
_STEEP = 0.2  # of the range of grey values, between a stroke and what is beside it
_STROKES = 24  # pieces of strokes of one value: two or three characters
_SHARE = 0.3  # of all pieces, those of the one value
_LEAST_STEP = 6  # of so few grey values, many neighbours are alike by chance
_BAND = 50  # rows at a time: they stay in the cache of a processor
_FRAMES = 16  # of a loop: memory, and writing is on all of them
_USUAL = (1, 99)  # percentiles


def may_be_written_on(ds: Dataset, *, is_slice: bool = False) -> bool:
    """Whether one of the first frames shows strokes as writing has them, or a radiograph cannot be decoded."""
    try:
        layout = layout_of(ds)
        if layout.samples != 1 or layout.photometric not in ("MONOCHROME1", "MONOCHROME2"):
            return False
        frames = islice(read_frames(ds, layout, writable=False)[1], _FRAMES)
        return any(_has_strokes(frame, is_slice=is_slice) for frame in frames)
    except NotDecodable:
        return not is_slice


def _has_strokes(frame: Array, *, is_slice: bool = False) -> bool:
    """Whether many short runs of one value stand out, each above another.

    >>> plain = np.tile(np.arange(40, dtype=np.uint16) * 50, (40, 1))
    >>> _has_strokes(plain)
    False
    >>> plain[5:35, 10:12] = 4000
    >>> _has_strokes(plain)
    True
    """
    every = max(1, len(frame) // _ROWS)
    rows, below = frame[:-1:every], frame[1::every]
    thin = rows[::8, ::8].astype(np.int32)
    if not thin.size:
        return False
    low, high = np.percentile(thin, _USUAL)
    steepest = _STEEP * max(float(high - low), float(np.ptp(thin)) / 2)
    if steepest < _LEAST_STEP:  # writing on nothing may lie between the pixels that were taken
        steepest = _STEEP * (int(rows.max()) - int(rows.min()))
    if steepest < _LEAST_STEP:
        return False
    bands = (slice(top, top + _BAND) for top in range(0, len(rows), _BAND))
    found = [_levels_of_strokes(rows[band], below[band], steepest, only_bright=is_slice) for band in bands]
    levels = np.concatenate(found)
    strokes = Counter(levels.tolist())
    if is_slice:
        for level in [level for level, n in strokes.items() if n >= _STROKES]:
            if np.count_nonzero(rows == level) > _WIDEST * strokes[level]:  # a surface
                del strokes[level]
    return max(strokes.values(), default=0) >= max(_STROKES, _SHARE * strokes.total())


def _levels_of_strokes(rows: Array, below: Array, steepest: float, *, only_bright: bool) -> Array:
    """The value of each short run in a row that goes on in the row below."""
    steps = np.subtract(rows[:, 1:], rows[:, :-1], dtype=np.int32)
    row, column = np.divmod(np.flatnonzero((steps > steepest) | (steps < -steepest)), steps.shape[1])
    is_up = steps[row, column] > 0
    # From an edge to the next one in its row: a run when they point against each other and all between them is alike.
    is_run = (row[1:] == row[:-1]) & (np.diff(column) <= _WIDEST) & (is_up[1:] != is_up[:-1])
    if only_bright:
        is_run &= is_up[:-1]
    row, begin, end = row[:-1][is_run], column[:-1][is_run] + 1, column[1:][is_run]
    level = rows[row, begin]
    is_alike = (level == rows[row, end]) & (level == rows[row, (begin + end) // 2]) & (level == below[row, begin])
    return level[is_alike]
