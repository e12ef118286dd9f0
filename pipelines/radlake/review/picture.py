"""Pictures of objects in quarantine, and where text is seen in them. They are identified: never outside this zone."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydicom import Dataset

from radlake.dicom.part10 import read_instance
from radlake.errors import QuarantineError, SourceMissing
from radlake.pixels import Region
from radlake.pixels.clean import propose_regions
from radlake.pixels.frames import NotDecodable, layout_of, read_frames
from radlake.pixels.pictures import preview_png

__all__ = ["PictureUnreadable", "can_show", "frame_png", "proposed_regions"]


class PictureUnreadable(Exception):
    """The pixels cannot be decoded on this machine."""


def frame_png(path: Path, frame: int) -> bytes:
    """One frame, counted from 1, as a PNG.

    Raises
    ------
    PictureUnreadable
        Also when there is no such frame.
    """
    try:
        return preview_png(_read(path), frame)
    except (NotDecodable, QuarantineError, SourceMissing) as exc:
        raise PictureUnreadable from exc


def proposed_regions(path: Path) -> tuple[Region, ...]:
    """Where text is seen, in any frame; none when there is no detector: the reviewer looks in any case."""
    try:
        return propose_regions(_read(path))
    except (QuarantineError, SourceMissing):
        return ()


def can_show(path: Path) -> bool:
    """Whether a reviewer can see the first frame."""
    try:
        ds = read_instance(path)
        _, frames = read_frames(ds, layout_of(ds))
        return next(frames, None) is not None
    except (NotDecodable, QuarantineError, SourceMissing):
        return False


@lru_cache(maxsize=2)
def _read(path: Path) -> Dataset:
    return read_instance(path)  # whole: a reviewer turns frames back and forth
