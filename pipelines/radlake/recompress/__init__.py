"""Recompress: native pixels of stored series objects encoded anew without loss, swapped only when proven equal.

A job of its own beside harvest and build: it may be stopped at any point and run again. See docs/how-to/recompress.md.
"""

from __future__ import annotations

from radlake.recompress.catalogue import hospitals_of
from radlake.recompress.run import estimate_hospital, recompress_hospital
from radlake.recompress.summary import YEARS, Recompressed, StoragePrice, saved_yuan, storage_price, total

__all__ = [
    "YEARS",
    "Recompressed",
    "StoragePrice",
    "estimate_hospital",
    "hospitals_of",
    "recompress_hospital",
    "saved_yuan",
    "storage_price",
    "total",
]
