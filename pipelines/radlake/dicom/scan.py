"""Where the elements of a header lie: offsets only; nothing is decoded and nothing is judged (PS3.5 section 7.1).

For bytes that the strict reader accepted, or will: a scan alone says nothing about a file.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from radlake.dicom.reader import LONG_FORM

__all__ = ["FILE_META", "FIRST_PIXELS", "Span", "file_meta_spans", "sequence_end", "spans"]

FIRST_PIXELS = 0x7FE00008  # Float Pixel Data; Double Float and Pixel Data follow

FILE_META = 132  # behind preamble and prefix
_UNDEFINED = 0xFFFFFFFF
_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
_ITEM_END = (0xFFFE, 0xE00D)
_EXPLICIT, _IMPLICIT, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<HHL"), struct.Struct("<L")


class Span(NamedTuple):
    """One top-level element: header from `start`, value from `value` to `end`.

    `vr` is empty in implicit VR. Of pixel data, `end` is `value`: what follows is not looked at.
    """

    tag: int
    vr: bytes
    start: int
    value: int
    end: int


def spans(data: bytes, pos: int, *, is_implicit: bool = False) -> list[Span]:
    """Top-level elements from `pos`, little endian, up to and with the first pixel data.

    Raises
    ------
    ValueError, struct.error
        If the bytes end before.
    """
    found: list[Span] = []
    while pos < len(data):
        tag, vr, value, length = _element(data, pos, is_implicit=is_implicit)
        if tag >= FIRST_PIXELS:
            found.append(Span(tag, vr, pos, value, value))
            return found
        end = _end(data, vr, value, length, is_implicit=is_implicit)
        found.append(Span(tag, vr, pos, value, end))
        pos = end
    if pos > len(data):
        raise ValueError("an element is longer than the bytes")
    return found


def _element(data: bytes, pos: int, *, is_implicit: bool) -> tuple[int, bytes, int, int]:
    """Tag, VR, where the value begins, and its length."""
    if is_implicit:
        group, element, length = _IMPLICIT.unpack_from(data, pos)
        return group << 16 | element, b"", pos + 8, length
    group, element, vr, length = _EXPLICIT.unpack_from(data, pos)
    value = pos + 8
    if vr in LONG_FORM:
        (length,) = _LENGTH.unpack_from(data, value)
        value += 4
    return group << 16 | element, vr, value, length


def _end(data: bytes, vr: bytes, value: int, length: int, *, is_implicit: bool) -> int:
    if length != _UNDEFINED:
        return value + length
    return sequence_end(data, value, is_implicit=is_implicit or vr == b"UN")


def sequence_end(data: bytes, pos: int, *, is_implicit: bool) -> int:
    """Behind the delimiter of a sequence of undefined length whose value begins at `pos`."""
    while True:
        group, element, length = _IMPLICIT.unpack_from(data, pos)
        tag = group << 16 | element
        pos += 8
        if tag == _SEQUENCE_END:
            return pos
        if tag != _ITEM:
            raise ValueError("no item")
        if length != _UNDEFINED:
            pos += length
            continue
        while True:
            if _IMPLICIT.unpack_from(data, pos)[:2] == _ITEM_END:
                pos += 8
                break
            _, vr, value, inner = _element(data, pos, is_implicit=is_implicit)
            pos = _end(data, vr, value, inner, is_implicit=is_implicit)


def file_meta_spans(data: bytes) -> list[Span]:
    """Elements of the file meta information, which is always explicit VR (PS3.10 7.1)."""
    found: list[Span] = []
    pos = FILE_META
    while data[pos : pos + 2] == b"\x02\x00":
        tag, vr, value, length = _element(data, pos, is_implicit=False)
        found.append(Span(tag, vr, pos, value, value + length))
        pos = value + length
    return found
