"""A glance at the pixels of detectors: may somebody have written into them? Arithmetic only, milliseconds a frame.

Writing is made of strokes: short runs of one stored value, far brighter or far darker than what is beside them, that go
on in the next row. Tissue has no two neighbours alike, and its edges are not that steep. A glance only decides whether
the text detector has a look.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
from pydicom import Dataset

from radlake.dicom.values import first_text
from radlake.pixels.frames import Array, NotDecodable, layout_of, read_frames
from radlake.pixels.judge import load_risk_rules

__all__ = ["may_be_written_on"]

_SOP_CLASS = 0x00080016
_WIDEST = 16  # pixels of a stroke
_STEEP = 0.2  # of the range of grey values, between a stroke and what is beside it
_STROKES = 24  # pieces of strokes of one value: two or three characters
_SHARE = 0.3  # of all pieces, those of the one value
_LEAST_STEP = 6  # of so few grey values, many neighbours are alike by chance
_BAND = 512  # rows at a time: memory
_FRAMES = 16  # of a loop or a volume: memory again, and writing is on all of them
_USUAL = (1, 99)  # percentiles


def may_be_written_on(ds: Dataset) -> bool:
    """Whether one of the first frames shows strokes as writing has them; False where they cannot be decoded."""
    try:
        layout = layout_of(ds)
        if layout.samples != 1 or layout.photometric not in ("MONOCHROME1", "MONOCHROME2"):
            return False
        is_slice = first_text(ds, _SOP_CLASS) in load_risk_rules()["slice_classes"]
        sign = 0 if not is_slice else -1 if layout.photometric == "MONOCHROME1" else 1
        return any(_has_strokes(frame, sign=sign) for frame in islice(read_frames(ds, layout)[1], _FRAMES))
    except NotDecodable:
        return False


def _has_strokes(frame: Array, *, sign: int = 0) -> bool:
    """Whether many short runs of one value stand out, each above another.

    Parameters
    ----------
    sign : int
        1 or -1: only those of higher or lower values than what is beside them.

    >>> plain = np.tile(np.arange(40, dtype=np.uint16) * 50, (40, 1))
    >>> _has_strokes(plain)
    False
    >>> plain[5:35, 10:12] = 4000
    >>> _has_strokes(plain)
    True
    """
    thin = frame[::4, ::4]
    low, high = np.percentile(thin, _USUAL)
    steepest = _STEEP * max(float(high - low), float(np.ptp(thin)) / 2)
    if steepest < _LEAST_STEP:
        return False
    bands = (frame[top : top + _BAND + 1] for top in range(0, frame.shape[0], _BAND))
    levels = np.concatenate([_levels_of_strokes(band, steepest, sign) for band in bands])
    _, counts = np.unique(levels, return_counts=True)
    return len(counts) > 0 and int(counts.max()) >= max(_STROKES, _SHARE * len(levels))


def _levels_of_strokes(band: Array, steepest: float, sign: int) -> Array:
    """The value of each short run that has a like one below it."""
    values = band.astype(np.int32)
    steps = np.diff(values, axis=1)
    height, width = steps.shape
    rows, columns = np.divmod(np.flatnonzero(np.abs(steps) > steepest), width)
    step = steps[rows, columns]
    # From an edge to the next one in its row: a run when they point against each other and all between them is alike.
    is_run = (rows[1:] == rows[:-1]) & (np.diff(columns) <= _WIDEST) & ((step[1:] > 0) != (step[:-1] > 0))
    is_run &= step[:-1] * sign >= 0
    rows, begins, ends = rows[:-1][is_run], columns[:-1][is_run] + 1, columns[1:][is_run]
    level = values[rows, begins]
    is_stroke = (level == values[rows, ends]) & (level == values[rows, (begins + ends) // 2])
    is_stroke &= (rows + 1 < height) & (level == values[np.minimum(rows + 1, height - 1), begins])
    return level[is_stroke]
