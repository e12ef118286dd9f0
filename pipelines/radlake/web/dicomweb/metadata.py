"""Headers as DICOM JSON (PS3.18 Annex F): large values and pixels as links to bulk data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from pydicom import Dataset, dcmread

from radlake.web.dicomweb.catalogue import Instance
from radlake.web.dicomweb.pixels import Pixels

__all__ = ["PIXEL_DATA", "head_of", "json_of_instance"]

PIXEL_DATA = "7FE00010"
_INLINE_BYTES = 1024
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_BINARY = {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}


def head_of(pixels: Pixels, instance: Instance) -> Dataset:
    """The data set before Pixel Data; all of it where there is none."""
    length = instance.n_bytes if instance.pixel_offset is None else instance.pixel_offset
    content = pixels.read(instance.path, instance.offset, length)
    return dcmread(BytesIO(content), stop_before_pixels=True)


def json_of_instance(pixels: Pixels, instance: Instance, *, url: str) -> dict[str, Any]:
    """The data set of an instance; `url` is its own, below which its bulk data are."""
    found = dict(_elements(head_of(pixels, instance), f"{url}/bulkdata/"))
    if instance.pixel_offset is not None:
        vr = "OW" if instance.bits_allocated > 8 and instance.is_native else "OB"
        found[PIXEL_DATA] = {"vr": vr, "BulkDataURI": f"{url}/bulkdata/{PIXEL_DATA}"}
    return found


def _elements(ds: Dataset, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for element in ds:
        name = f"{element.tag:08X}"
        if element.VR == "SQ":
            items = [dict(_elements(item, f"{path}{name}.{n}.")) for n, item in enumerate(element.value)]
            yield name, {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
        elif element.VR in _BINARY and isinstance(element.value, bytes) and len(element.value) > _INLINE_BYTES:
            yield name, {"vr": element.VR, "BulkDataURI": f"{path}{name}"}
        else:
            yield name, _finite(element.to_json_dict(None, 0))


def _finite(element: dict[str, Any]) -> dict[str, Any]:
    """JSON has no numbers that are not finite: they are told as texts, which DICOM readers know (fo-dicom, pydicom)."""
    if any(isinstance(value, float) and not math.isfinite(value) for value in element.get("Value", ())):
        element["Value"] = [_NOT_FINITE.get(str(value), value) for value in element["Value"]]
    return element
