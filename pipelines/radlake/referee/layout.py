"""Where things lie in a Part-10 file: a scanner of its own that skips values, so that nothing it did not see can hide.

It knows no attribute but Pixel Data, follows lengths only (PS3.5 7.1, 7.5) and says where the data set ends.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

__all__ = ["Layout", "LayoutBroken", "scan"]

_LONG = frozenset([b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"])
_UNDEFINED = 0xFFFF_FFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = frozenset([0x7FE00008, 0x7FE00009, 0x7FE00010])
_IMPLICIT, _BIG, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"


class LayoutBroken(ValueError):
    """The lengths lead nowhere."""


@dataclass(frozen=True)
class Layout:
    """Offsets into `data`, the file itself or, for a deflated one, file meta and inflated data set.

    Attributes
    ----------
    end : int
        First byte behind the last element; `len(data)` when nothing follows.
    pixels : tuple of int
        First byte and first byte behind the value of Pixel Data; (0, 0) without pixels.
    fragments : list of (int, int)
        First byte and first byte behind each item of encapsulated Pixel Data; the offset table comes first.
    is_ascending : bool
        Whether the tags of the data set ascend, as PS3.5 7.1 demands.
    """

    data: bytes
    transfer_syntax: str
    meta_end: int
    end: int
    pixels: tuple[int, int]
    fragments: list[tuple[int, int]]
    is_ascending: bool
    inflated_tail: bytes = b""


def scan(data: bytes) -> Layout:
    """Scan a Part-10 file.

    Raises
    ------
    LayoutBroken
        If it is none, or an element reaches behind the end.
    """
    if data[128:132] != b"DICM":
        raise LayoutBroken("no Part-10 file")
    position, syntax = 132, _IMPLICIT
    while position + 8 <= len(data) and data[position : position + 2] == b"\x02\0":
        tag, start, length = _header(data, position, "<", is_explicit=True)
        if tag == 0x00020010:
            syntax = data[start : start + length].decode("ascii", "replace").rstrip("\0 ")
        position = start + length
    meta_end, tail = position, b""
    if syntax == _DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            inflated = inflater.decompress(data[meta_end:])
        except zlib.error as exc:
            raise LayoutBroken("not deflated") from exc
        data, tail = data[:meta_end] + inflated, inflater.unused_data.lstrip(b"\0")
    order, is_explicit = ">" if syntax == _BIG else "<", syntax != _IMPLICIT
    pixels, fragments, last, is_ascending = (0, 0), [], -1, True
    while position + 8 <= len(data):
        tag, start, length = _header(data, position, order, is_explicit=is_explicit)
        if length == _UNDEFINED:
            items: list[tuple[int, int]] = []
            position = _skip_items(data, start, order, is_explicit=is_explicit, items=items, is_bulk=tag in _PIXELS)
            if tag in _PIXELS:
                pixels, fragments = (start, position), items
        else:
            position = start + length
            if position > len(data):
                raise LayoutBroken("an element reaches behind the end")
            if tag in _PIXELS:
                pixels = (start, position)
        is_ascending &= tag > last
        last = tag
    return Layout(data, syntax, meta_end, position, pixels, fragments, is_ascending, tail)


def _header(data: bytes, position: int, order: str, *, is_explicit: bool) -> tuple[int, int, int]:
    """Tag, first byte of the value, length."""
    try:
        group, element = struct.unpack_from(f"{order}HH", data, position)
        vr = data[position + 4 : position + 6]
        if group == 0xFFFE or not is_explicit:
            return group << 16 | element, position + 8, struct.unpack_from(f"{order}I", data, position + 4)[0]
        if vr in _LONG:
            return group << 16 | element, position + 12, struct.unpack_from(f"{order}I", data, position + 8)[0]
        return group << 16 | element, position + 8, struct.unpack_from(f"{order}H", data, position + 6)[0]
    except struct.error as exc:
        raise LayoutBroken("an element ends in its header") from exc


def _skip_items(
    data: bytes, position: int, order: str, *, is_explicit: bool, items: list[tuple[int, int]], is_bulk: bool
) -> int:
    """First byte behind the Sequence Delimitation Item of a value of undefined length."""
    while position + 8 <= len(data):
        tag, start, length = _header(data, position, order, is_explicit=is_explicit)
        if tag == _SEQUENCE_END:
            return start
        if tag != _ITEM:
            raise LayoutBroken("no item where one must be")
        if length != _UNDEFINED:
            position = start + length
            if position > len(data):
                raise LayoutBroken("an item reaches behind the end")
            if is_bulk:
                items.append((start, position))
            continue
        position = start
        while True:
            tag, start, length = _header(data, position, order, is_explicit=is_explicit)
            if tag == _ITEM_END:
                position = start
                break
            if length == _UNDEFINED:
                # A sequence sent as UN is implicit VR inside (PS3.5 6.2.2, note); its items look the same from here.
                inner_explicit = is_explicit and data[position + 4 : position + 6] != b"UN"
                position = _skip_items(data, start, order, is_explicit=inner_explicit, items=[], is_bulk=False)
            else:
                position = start + length
            if position > len(data):
                raise LayoutBroken("an element of an item reaches behind the end")
    raise LayoutBroken("a sequence does not end")
