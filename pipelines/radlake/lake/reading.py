"""Reading instance bytes: the one way for everybody, wherever the object of a row lies.

The cache is asked first, because that costs a microsecond; then the store. What is in neither
has to be brought from a hospital: `radlake.residency`.
"""

from __future__ import annotations

from radlake.lake.zones import Lake

__all__ = ["has_object", "read_object"]


def read_object(lake: Lake, path: str, offset: int, length: int) -> bytes:
    """One range of a series object, as a row of dicom.instance tells it.

    Raises
    ------
    SourceMissing
        If the object is neither in the store nor in the cache. When the row of dicom.series says `index`, the
        hospital keeps it: `radlake.residency.SeriesReader` reads it all the same.
    """
    cached = lake.cache.read(path, offset, length) if length else b""
    return lake.objects.read(path, offset, length) if cached is None else cached


def has_object(lake: Lake, path: str) -> bool:
    """Whether `read_object` would find it now."""
    return lake.cache.has(path) or lake.objects.store.size(path) is not None
