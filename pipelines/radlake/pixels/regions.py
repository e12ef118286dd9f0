"""Rectangles of an image: what a mask is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

__all__ = ["DecisionKind", "PixelDecision", "Region", "regions_of_frame"]


@dataclass(frozen=True, slots=True, order=True)
class Region:
    """A rectangle of stored pixels, half open: columns left to right - 1, rows top to bottom - 1, counted from 0.

    Attributes
    ----------
    first_frame, last_frame : int
        Frame numbers as DICOM counts them, from 1; both included. A `last_frame` of None is the last of the image.
    """

    left: int
    top: int
    right: int
    bottom: int
    first_frame: int = 1
    last_frame: int | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.left < self.right and 0 <= self.top < self.bottom):
            raise ValueError("a region needs 0 <= left < right and 0 <= top < bottom")
        if self.first_frame < 1 or (self.last_frame is not None and self.last_frame < self.first_frame):
            raise ValueError("a region needs 1 <= first frame <= last frame")

    @property
    def area(self) -> int:
        """In pixels, of one frame."""
        return (self.right - self.left) * (self.bottom - self.top)

    def is_in_frame(self, frame: int) -> bool:
        """Whether the region covers part of this frame, counted from 1."""
        return self.first_frame <= frame and (self.last_frame is None or frame <= self.last_frame)

    def clipped(self, *, rows: int, columns: int) -> Region | None:
        """The part within an image of this size; None when there is none."""
        if self.left >= columns or self.top >= rows:
            return None
        return replace(self, right=min(self.right, columns), bottom=min(self.bottom, rows))


class DecisionKind(StrEnum):
    """What a person decided about the pixels of an instance."""

    ACCEPT = "accept"  # nothing to mask
    MASK = "mask"
    REJECT = "reject"  # it stays out of the lake


@dataclass(frozen=True, slots=True)
class PixelDecision:
    """What a person who looked at the picture decided; it is final, nothing is detected any more.

    >>> PixelDecision(DecisionKind.MASK, (Region(0, 0, 200, 40), Region(0, 40, 80, 60, first_frame=3))).kind.value
    'mask'
    """

    kind: DecisionKind
    regions: tuple[Region, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.regions) != (self.kind is DecisionKind.MASK):
            raise ValueError("a mask needs regions, and only a mask has them")


def regions_of_frame(regions: Iterable[Region], frame: int, *, rows: int, columns: int) -> list[Region]:
    """Those of the frame (from 1), within the image."""
    inside = (region.clipped(rows=rows, columns=columns) for region in regions if region.is_in_frame(frame))
    return [region for region in inside if region is not None]
