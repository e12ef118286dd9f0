"""Decisions as people write them: `X0,Y0,X1,Y1[@F0-F1]`, and as the de-identifier takes them."""

from __future__ import annotations

import re

from radlake.lake.reviews import Review
from radlake.pixels import DecisionKind, PixelDecision, Region

__all__ = ["decision_from_review", "region_from_text", "text_from_region"]

_REGION = re.compile(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})(?:@(\d{1,6})(?:(-)(\d{1,6})?)?)?", re.ASCII)


def region_from_text(text: str) -> Region:
    """A rectangle: left, top, right, bottom in pixels (right and bottom are outside), and frames counted from 1.

    >>> region_from_text("0,0,200,40")
    Region(left=0, top=0, right=200, bottom=40, first_frame=1, last_frame=None)
    >>> [region_from_text(f"0,0,9,9@{frames}").last_frame for frames in ("3", "3-9", "3-")]
    [3, 9, None]

    Raises
    ------
    ValueError
        If it is written in another way or covers nothing.
    """
    found = _REGION.fullmatch(text.replace(" ", ""))
    if not found:
        raise ValueError(f"{text!r}: write a region as X0,Y0,X1,Y1 or X0,Y0,X1,Y1@F0-F1, as in 0,0,200,40")
    left, top, right, bottom, first, dash, last = found.groups()
    if first is None:
        return Region(int(left), int(top), int(right), int(bottom))
    last_frame = int(last) if last else None if dash else int(first)
    return Region(int(left), int(top), int(right), int(bottom), first_frame=int(first), last_frame=last_frame)


def text_from_region(region: Region) -> str:
    """The opposite of `region_from_text`.

    >>> [text_from_region(region_from_text(text)) for text in ("0,0,9,9", "0,0,9,9@3", "0,0,9,9@3-9", "0,0,9,9@3-")]
    ['0,0,9,9', '0,0,9,9@3-3', '0,0,9,9@3-9', '0,0,9,9@3-']
    """
    sides = f"{region.left},{region.top},{region.right},{region.bottom}"
    if region.first_frame == 1 and region.last_frame is None:
        return sides
    return f"{sides}@{region.first_frame}-{'' if region.last_frame is None else region.last_frame}"


def decision_from_review(review: Review) -> PixelDecision:
    """What the de-identifier needs of a review."""
    return PixelDecision(DecisionKind(review.decision), tuple(map(region_from_text, review.regions)))
