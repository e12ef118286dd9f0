"""Values that metadata link to, by the path of their attribute: `00282000`, or `00081140.0.00091010` in a sequence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from radlake.web.dicomweb.catalogue import Instance
from radlake.web.dicomweb.frames import OCTETS, frame_type, frames_of, stored_frame
from radlake.web.dicomweb.media import Wish
from radlake.web.dicomweb.metadata import PIXEL_DATA, head_of
from radlake.web.dicomweb.pixels import Pixels
from radlake.web.dicomweb.refusals import NotFound

__all__ = ["bulk_type", "bulk_values"]

_PATH = re.compile(r"[0-9A-F]{8}(\.\d{1,6}\.[0-9A-F]{8})*")
_STORED = Wish("*/*", is_multipart=False, syntax="*", quality=1)


def bulk_type(instance: Instance, path: str) -> str:
    """Media type of the values."""
    is_pixels = path == PIXEL_DATA and instance.pixel_offset is not None
    return (frame_type(instance, _STORED) if is_pixels else None) or OCTETS


def bulk_values(pixels: Pixels, instance: Instance, path: str) -> Iterator[bytes]:
    """The value, or every frame of pixels.

    Raises
    ------
    NotFound
    """
    if path == PIXEL_DATA and instance.pixel_offset is not None:
        return (stored_frame(pixels, instance, number) for number in frames_of(instance))
    return iter([_value(pixels, instance, path)])


def _value(pixels: Pixels, instance: Instance, path: str) -> bytes:
    found: Any = None
    if _PATH.fullmatch(path):
        tag, *rest = path.split(".")
        try:
            found = head_of(pixels, instance)[int(tag, 16)].value
            for number, name in zip(rest[::2], rest[1::2], strict=True):
                found = found[int(number)][int(name, 16)].value
        except (AttributeError, KeyError, IndexError, TypeError):
            found = None
    if not isinstance(found, bytes):
        raise NotFound("This instance has no bulk data of that name; its metadata say which it has.")
    return found
