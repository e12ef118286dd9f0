"""Where text stands in a picture: a detector of text lines, Latin and Chinese, that is loaded once per process.

The detector is rapidocr (Apache-2.0) with the PP-OCR models in its wheel, on onnxruntime, without a network. It finds
regions; what they say is read only to tell a large shape of the body from text, and a film marker from a name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from radlake.machine import give_back_memory
from radlake.pixels.frames import Array
from radlake.pixels.regions import Region

__all__ = ["DetectorMissing", "find_text"]

_SHORT_SIDE, _LONG_SIDE = 480, 1280  # a picture is scaled to the first, and not beyond the second
_MAX_SCALE = 3.0
_TILE, _OVERLAP = 704, 128  # pixels of a scaled picture that are looked at together: memory grows with their square
_PARAMS = {
    "Global.log_level": "critical",
    "Global.use_cls": False,
    "Global.text_score": 0.0,
    "Global.max_side_len": 10 * _LONG_SIDE,
    "Global.min_side_len": 1,
    "Det.limit_side_len": 32,
    "Det.thresh": 0.3,
    "Det.box_thresh": 0.4,
}
_TALL = 0.1  # height of a line as a share of the picture: above it only what can be read is text, bodies are round too
_READABLE, _SURELY_READ = 0.8, 0.9
_MARGIN = 2  # pixels of the picture, and an eighth of the height of the line


class DetectorMissing(Exception):
    """The text detector is not installed or does not start."""


def find_text(picture: Array, *, safe: Iterable[str] = (), must_be_read: bool = False) -> list[Region]:
    """Regions of a picture (rows, columns, 3; 8 bits) that hold text, with a margin.

    Parameters
    ----------
    safe : iterable of str
        Markers, such as L and R, that are left out when they are read with certainty.
    must_be_read : bool
        Leave out what looks like a line of text and cannot be read as one.

    Raises
    ------
    DetectorMissing
    """
    import cv2

    rows, columns = picture.shape[:2]
    scale = min(max(_SHORT_SIDE / min(rows, columns), 1.0), _MAX_SCALE, _LONG_SIDE / max(rows, columns))
    scaled = picture
    if scale != 1:
        way = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
        scaled = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=way)
    tall = 0.0 if must_be_read else _TALL
    regions = (_region(box, scaled, scale, safe=frozenset(safe), tall=tall) for box in _boxes(scaled))
    return [region for region in regions if region is not None]


def _boxes(scaled: Array) -> Iterator[Array]:
    """Four corners (x, y) of each line of text. A line across tiles is found in parts."""
    for top, bottom in _spans(scaled.shape[0]):
        for left, right in _spans(scaled.shape[1]):
            found = _engine("det")(np.ascontiguousarray(scaled[top:bottom, left:right]))
            for box in [] if found.boxes is None else found.boxes:
                yield box + np.array([left, top], box.dtype)


def _spans(side: int) -> list[tuple[int, int]]:
    """Overlapping spans of equal length, `_TILE` at most, over a side.

    >>> _spans(700), _spans(1280)
    ([(0, 700)], [(0, 704), (576, 1280)])
    """
    n_tiles = max(1, math.ceil((side - _OVERLAP) / (_TILE - _OVERLAP)))
    length = math.ceil((side + (n_tiles - 1) * _OVERLAP) / n_tiles)
    starts = [min(tile * (length - _OVERLAP), side - length) for tile in range(n_tiles)]
    return [(start, start + length) for start in starts]


def _region(box: Array, scaled: Array, scale: float, *, safe: frozenset[str], tall: float) -> Region | None:
    """The upright rectangle around a box of four corners; None when it is no text."""
    width, height = np.linalg.norm(box[0] - box[1]), np.linalg.norm(box[0] - box[3])
    line = float(min(width, height))
    share = line / min(scaled.shape[:2])
    if share > tall or (safe and max(width, height) < 4 * line):
        text, certainty = _read(box, scaled)
        if share > tall and (len(text) < 2 or certainty < _READABLE):
            return None
        if certainty >= _SURELY_READ and text.upper() in safe:
            return None
    margin = _MARGIN + line / scale / 8
    left, top = (box.min(axis=0) / scale - margin).clip(0)
    right, bottom = box.max(axis=0) / scale + margin
    rows, columns = (round(side / scale) for side in scaled.shape[:2])
    whole = Region(math.floor(left), math.floor(top), math.ceil(right) + 1, math.ceil(bottom) + 1)
    return whole.clipped(rows=rows, columns=columns)


def _read(box: Array, scaled: Array) -> tuple[str, float]:
    """What the line says, and how certain that is (0 to 1)."""
    (left, top), (right, bottom) = box.min(axis=0).astype(int).clip(0), box.max(axis=0).astype(int)
    crop = scaled[top : bottom + 1, left : right + 1]
    if crop.shape[0] > 2 * crop.shape[1]:  # a line that runs upwards
        crop = np.ascontiguousarray(np.rot90(crop, -1))
    read = _engine("rec")(crop)
    return (read.txts[0].strip(), float(read.scores[0])) if read.txts else ("", 0.0)


@cache
def _engine(part: Literal["det", "rec"]) -> Callable[[Array], Any]:
    """The detector or the reader of lines."""
    try:
        import cv2
        import rapidocr
        from omegaconf import flag_override

        cv2.setNumThreads(1)
        engine = rapidocr.RapidOCR(params=_PARAMS)
        model = Path(rapidocr.__file__).parent / f"models/PP-OCRv6_{part}_small.onnx"
        with flag_override(engine.cfg, "allow_objects", True):
            engine.cfg[part.title()].session = _session(model)
        call = partial(engine, use_det=part == "det", use_cls=False, use_rec=part == "rec")
        call(np.zeros((64, 64, 3), np.uint8))
        give_back_memory()
    except Exception as exc:  # a missing library, model or processor feature
        raise DetectorMissing(type(exc).__name__) from None
    return call


def _session(model: Path) -> Any:
    """A model on one thread that uses its memory again, and keeps no plan of it for every size of picture that it met.

    rapidocr's own session gives all memory back after each picture: a third more CPU time, and twice the peak.
    """
    from onnxruntime import InferenceSession, SessionOptions  # pyright: ignore[reportAttributeAccessIssue]

    options = SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    provider = ("CPUExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})
    return InferenceSession(model, options, providers=[provider])
