"""A small encoder of synthetic data sets: attributes by keyword in, elements as bytes out (PS3.5 clause 7).

It knows the value representations that `headers` uses, and is an order of magnitude faster than a general one, which
is what makes a province affordable. It is no way to write anything else: the lake's own files are made by
`radlake.dicom.part10`.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword

__all__ = ["Attributes", "Encoder", "Key", "Value", "file_meta"]

# A keyword of PS3.6, or tag and value representation of a private element.
Key: TypeAlias = "str | tuple[int, str]"
Value: TypeAlias = "str | int | float | bytes | Sequence[str] | Sequence[Attributes]"
Attributes: TypeAlias = "dict[Key, Value]"

_LONG = frozenset({"OB", "OW", "SQ", "UN", "UT"})
_BINARY = {"US": "<H", "SS": "<h", "UL": "<I", "FD": "<d"}
_TEXT = frozenset({"SH", "LO", "ST", "LT", "PN", "UC", "UT"})


@functools.cache
def _tag_and_vr(key: Key) -> tuple[int, str]:
    if isinstance(key, tuple):
        return key
    tag = tag_for_keyword(key)
    if tag is None:
        raise KeyError(key)
    # Pixel Data may be OB too (PS3.5 A.2), but 8 bit pixels may be written as OW as well.
    vr = dictionary_VR(tag)
    return int(tag), "OW" if vr == "OB or OW" else vr


@dataclass(frozen=True, slots=True)
class Encoder:
    """Little-endian elements, with explicit or implicit value representation."""

    charset: str
    is_implicit: bool

    def elements(self, attributes: Mapping[Key, Value]) -> dict[int, bytes]:
        """Encode each attribute."""
        encoded = {}
        for key, value in attributes.items():
            tag, vr = _tag_and_vr(key)
            encoded[tag] = self._element(tag, vr, value)
        return encoded

    def _element(self, tag: int, vr: str, value: Value) -> bytes:
        body = self._body(vr, value)
        head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
        if self.is_implicit:
            return head + struct.pack("<I", len(body)) + body
        if vr in _LONG:
            return head + vr.encode() + b"\0\0" + struct.pack("<I", len(body)) + body
        return head + vr.encode() + struct.pack("<H", len(body)) + body

    def _body(self, vr: str, value: Value) -> bytes:
        if vr in _BINARY:
            return struct.pack(_BINARY[vr], value)
        if vr == "SQ":
            assert not isinstance(value, (str, bytes, int, float))
            return b"".join(self._item(item) for item in value if isinstance(item, dict))
        if isinstance(value, bytes):
            return value if len(value) % 2 == 0 else value + b"\0"
        text = (
            value if isinstance(value, str) else "\\".join(map(str, value)) if isinstance(value, list) else str(value)
        )
        body = text.encode(python_encoding[self.charset] if vr in _TEXT else "ascii")
        return body if len(body) % 2 == 0 else body + (b"\0" if vr == "UI" else b" ")

    def _item(self, attributes: Attributes) -> bytes:
        body = join(self.elements(attributes))
        return struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body


def join(elements: Mapping[int, bytes]) -> bytes:
    """Elements in the order of their tags."""
    return b"".join(elements[tag] for tag in sorted(elements))


def file_meta(attributes: Mapping[Key, Value]) -> bytes:
    """Preamble, prefix and file meta information with its group length (PS3.10 7.1)."""
    encoder = Encoder(charset="ISO_IR 6", is_implicit=False)
    body = join(encoder.elements({"FileMetaInformationVersion": b"\0\1", **attributes}))
    return bytes(128) + b"DICM" + join(encoder.elements({"FileMetaInformationGroupLength": len(body)})) + body
