"""Pixels that may show a name: judge from the header, look for text, mask it, and say when a person must decide.

PS3.15 E.3.1, Clean Pixel Data. See docs/explanation/deidentification.md.
"""

from __future__ import annotations

from radlake.pixels.judge import HEADER_TAGS, Judgement, Verdict, is_acquired, is_radiograph, judge
from radlake.pixels.regions import DecisionKind, PixelDecision, Region

__all__ = [
    "HEADER_TAGS",
    "DecisionKind",
    "Judgement",
    "PixelDecision",
    "Region",
    "Verdict",
    "is_acquired",
    "is_radiograph",
    "judge",
]
