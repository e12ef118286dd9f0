"""Residency: where pixels lie, and bringing those that a hospital keeps when somebody asks for them.

Every reader of instance bytes reads through `SeriesReader`, or through `radlake.lake.reading` where no hospital may be
asked. See docs/adr/0022-pixels-that-stay-at-the-hospital.md.
"""

from __future__ import annotations

from radlake.residency.bring_in import bring_in
from radlake.residency.catalogue import Held, SeriesObject, held, objects_of
from radlake.residency.fetch import Fetched, fetch_study
from radlake.residency.reader import FetchTooSlow, PixelsChanged, PixelsDiffer, SeriesReader

__all__ = [
    "FetchTooSlow",
    "Fetched",
    "Held",
    "PixelsChanged",
    "PixelsDiffer",
    "SeriesObject",
    "SeriesReader",
    "bring_in",
    "fetch_study",
    "held",
    "objects_of",
]
