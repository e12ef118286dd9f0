"""Values of a canonical header by attribute, read from the bytes that are stored.

A value that cannot be read as what it should be is None: the row says NULL, the object keeps the bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from functools import cache
from typing import TypeAlias

from pydicom.datadict import tag_for_keyword

from radlake.dicom.reader import LONG_FORM
from radlake.dicom.scan import FILE_META, spans

__all__ = ["Fields", "field_of", "fields_of", "integer", "number", "numbers", "tag_of", "text"]

Fields: TypeAlias = Mapping[int, tuple[bytes, bytes]]
"""Tag to VR and value."""

_BINARY = {b"US": "H", b"SS": "h", b"UL": "L", b"SL": "l", b"UV": "Q", b"SV": "q", b"FL": "f", b"FD": "d"}
_LARGEST = 2**31 - 1


def fields_of(head: bytes) -> dict[int, tuple[bytes, bytes]]:
    """Top-level elements of canonical Part 10 bytes up to the value of the pixel data."""
    return {span.tag: (span.vr, head[span.value : span.end]) for span in spans(head, FILE_META)}


def field_of(element: bytes) -> tuple[bytes, bytes]:
    """VR and value of the bytes of one canonical element."""
    vr = element[4:6]
    return vr, element[12 if vr in LONG_FORM else 8 :]


@cache
def tag_of(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag


def text(fields: Fields, keyword: str) -> str | None:
    """The text without padding, several values with the backslash between them; None when there is none."""
    _, value = fields.get(tag_of(keyword), (b"", b""))
    if not value:
        return None
    decoded = value.decode("utf-8", "replace")
    if "\\" not in decoded:
        return decoded.strip(" \0") or None
    return "\\".join(part.strip(" \0") for part in decoded.split("\\"))


def numbers(fields: Fields, keyword: str) -> list[float]:
    """Finite numbers, whether binary or text; none when one of them cannot be read."""
    vr, value = fields.get(tag_of(keyword), (b"", b""))
    code = _BINARY.get(vr)
    try:
        if code:
            found = [float(item) for (item,) in struct.iter_unpack(f"<{code}", value)]
        else:
            found = [float(part) for part in value.decode("ascii").strip("\0").split("\\") if part.strip()]
    except (ValueError, struct.error):
        return []
    return found if all(map(math.isfinite, found)) else []


def number(fields: Fields, keyword: str) -> float | None:
    """The first number."""
    return next(iter(numbers(fields, keyword)), None)


def integer(fields: Fields, keyword: str, *, limit: int = _LARGEST) -> int | None:
    """The first number when it is whole and within ±limit."""
    found = number(fields, keyword)
    return int(found) if found is not None and found == int(found) and abs(found) <= limit else None
