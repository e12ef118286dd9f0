"""Frames of encapsulated pixels (PS3.5 A.4): where each lies is found out once for an instance, then each is one read.

The Basic Offset Table tells it, or the Extended Offset Table of the header; without either the heads of all fragments
are read. What is known of an instance stays true, because objects are named by their content.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any

from pydicom.encaps import generate_fragments, generate_frames, parse_basic_offsets

from radlake.web.dicomweb.catalogue import Instance
from radlake.web.dicomweb.metadata import head_of
from radlake.web.dicomweb.pixels import Pixels
from radlake.web.dicomweb.refusals import NotAcceptable

__all__ = ["encapsulated_frame"]

_BUFFER = 64 << 10
_HEAD = struct.Struct("<HHL")  # of an item: group, element and length
_ITEM = (0xFFFE, 0xE000)

_Place = tuple[int, int]  # begin and length of the items of a frame


def encapsulated_frame(pixels: Pixels, instance: Instance, number: int) -> bytes:
    """The bytes of one frame, counted from 1.

    Raises
    ------
    NotAcceptable
        If nothing tells where it lies.
    """
    assert instance.pixel_offset is not None
    try:
        if instance.n_frames > 1 and (places := _places(pixels, instance)):
            begin, length = places[number - 1]
            items = pixels.read(instance.path, instance.offset + begin, length)
            return b"".join(generate_fragments(items))
        length = instance.n_bytes - instance.pixel_offset
        content = pixels.read(instance.path, instance.offset + instance.pixel_offset, length)
        frames = generate_frames(content, number_of_frames=instance.n_frames)
        return next(islice(frames, number - 1, None))
    except (ValueError, IndexError, StopIteration, struct.error) as exc:
        raise NotAcceptable("The frames of this instance cannot be told apart. Ask for the whole instance.") from exc


@lru_cache(maxsize=32)
def _places(pixels: Pixels, instance: Instance) -> tuple[_Place, ...]:
    """Where each frame lies in the instance; nothing when it does not say which fragments make one."""
    assert instance.pixel_offset is not None
    ranges = io.BufferedReader(_Ranges(pixels, instance), _BUFFER)
    ranges.seek(instance.pixel_offset)
    basic = parse_basic_offsets(ranges)
    first = ranges.tell()
    if len(basic) == instance.n_frames and sorted(basic) == basic:
        return tuple((first + begin, end - begin) for begin, end in pairwise([*basic, instance.n_bytes - first]))
    if extended := _extended(pixels, instance):
        return tuple((first + begin, _HEAD.size + length) for begin, length in extended)
    items = tuple(_items(ranges))
    return items if len(items) == instance.n_frames else ()


def _extended(pixels: Pixels, instance: Instance) -> list[_Place]:
    """Offset and length of each frame by the Extended Offset Table (PS3.3 C.7.6.3.1.8); nothing without one."""
    head = head_of(pixels, instance)
    tables = [head.get(name) or b"" for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
    if any(len(table) != 8 * instance.n_frames for table in tables):
        return []
    offsets, lengths = (struct.unpack(f"<{instance.n_frames}Q", table) for table in tables)
    return list(zip(offsets, lengths, strict=True))


def _items(ranges: io.BufferedReader[_Ranges]) -> Iterator[_Place]:
    """Where each fragment lies, from its head."""
    begin = ranges.tell()
    while len(head := ranges.read(_HEAD.size)) == _HEAD.size:
        group, element, length = _HEAD.unpack(head)
        if (group, element) != _ITEM:
            return
        yield begin, _HEAD.size + length
        begin += _HEAD.size + length
        ranges.seek(begin)


class _Ranges(io.RawIOBase):
    """An instance as a file, of which only what is asked for is read."""

    def __init__(self, pixels: Pixels, instance: Instance) -> None:
        self._pixels, self._instance, self._at = pixels, instance, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._instance.n_bytes}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = max(0, min(len(buffer), self._instance.n_bytes - self._at))
        if length:
            buffer[:length] = self._pixels.read(self._instance.path, self._instance.offset + self._at, length)
            self._at += length
        return length
