"""What the headers of a series have in common: constant bytes, and between them the elements that vary.

One instance that the strict reader accepted, and the headers that a scan finds to have the same elements, show which of
them vary. A header matches when all constant bytes are equal, which is a comparison of memory, and when the varying
elements have the tag and VR that they had. One element more or less, another order or another length of the pixels, and
it does not match and is read in full.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from pydicom import Dataset

from radlake.dicom.reader import LAYOUT, LONG_FORM
from radlake.dicom.scan import Span, file_meta_spans, sequence_end, spans
from radlake.dicom.uids import transfer_syntax
from radlake.dicom.values import first_text

__all__ = [
    "Exemplar",
    "HeaderTemplate",
    "Match",
    "Scanned",
    "exemplar_of",
    "read_start",
    "scan_header",
    "varying_tags",
]

_TRANSFER_SYNTAX, _CHARSET, _PIXEL_DATA = 0x00020010, 0x00080005, 0x7FE00010
_SERIES, _NUMBER = 0x0020000E, 0x00200013
_DATASET = 0x00030000  # file meta information is below
_UNDEFINED = 0xFFFFFFFF
_HEADER_BYTES = 32 * 1024
_ROOM = 1024  # by which a header may be longer than that of the exemplar
# File meta information that is written anew and taken to vary: the SOP Instance UID, and with it the length.
_FREE_META = frozenset({0x00020000, 0x00020003})


@dataclass(frozen=True)
class Scanned:
    """Where the elements of a header lie: all bytes up to the value of Pixel Data.

    `spans` are its elements without Pixel Data.
    """

    header: bytes
    spans: tuple[Span, ...]
    n_bytes: int
    is_implicit: bool
    is_encapsulated: bool

    @cached_property
    def elements(self) -> dict[int, Span]:
        return {span.tag: span for span in self.spans}

    def whole(self, tag: int) -> bytes:
        """The bytes of an element."""
        span = self.elements[tag]
        return self.header[span.start : span.end]

    def value(self, tag: int) -> bytes:
        """The bytes of its value; none when it is absent."""
        span = self.elements.get(tag)
        return self.header[span.value : span.end] if span else b""


@dataclass(frozen=True)
class Exemplar(Scanned):
    """The header of an instance that was read in full; `ds` is without Pixel Data."""

    ds: Dataset

    @cached_property
    def series_uid(self) -> str:
        return first_text(self.ds, _SERIES)

    @cached_property
    def instance_number(self) -> str:
        return first_text(self.ds, _NUMBER)

    def vr(self, tag: int) -> str:
        """As the reader understood it."""
        elem = self.ds.get_item(tag)
        return str(elem.VR) if elem is not None else "UN"


class Match(NamedTuple):
    """The varying elements of a matching header (the value, or the whole element), and where the pixels begin."""

    values: tuple[bytes, ...]
    pixels_at: int


class _Part(NamedTuple):
    """Constant bytes up to and with tag and VR of a varying element, and where its length stands behind them."""

    lead: bytes
    n_reserved: int
    n_length: int
    n_head: int  # of the element, where all of it is wanted: bytes of `lead` that are its tag and VR


def read_start(path: Path, *, n_bytes: int = _HEADER_BYTES) -> tuple[bytes, int]:
    """The first bytes of a file, and its size."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(file, n_bytes, 0), os.fstat(file).st_size
    finally:
        os.close(file)


def scan_header(start: bytes, n_bytes: int) -> Scanned | None:
    """Scan the first bytes of a file of `n_bytes`; None when a template would not pay or not be safe.

    Only little endian files that end with their Pixel Data, and whose header is not excessively long.
    """
    try:
        meta = file_meta_spans(start)
        syntax_uid = next((start[span.value : span.end] for span in meta if span.tag == _TRANSFER_SYNTAX), b"")
        syntax = transfer_syntax(syntax_uid.rstrip(b"\0 ").decode("ascii", "replace"))
        if not meta or syntax is None or syntax.is_big_endian or syntax.is_deflated:
            return None
        elements = spans(start, meta[-1].end, is_implicit=syntax.is_implicit)
    except (ValueError, struct.error):
        return None
    if not elements or elements[-1].tag != _PIXEL_DATA:
        return None
    *elements, pixels = elements
    header = start[: pixels.value]
    n_pixels = int.from_bytes(header[-4:], "little")
    if n_pixels != _UNDEFINED and (n_pixels & 1 or pixels.value + n_pixels != n_bytes):
        return None
    return Scanned(header, (*meta, *elements), n_bytes, syntax.is_implicit, n_pixels == _UNDEFINED)


def exemplar_of(scan: Scanned, ds: Dataset) -> Exemplar | None:
    """The exemplar of a header that was read as `ds`; None when scan and reader do not find the same elements."""
    tags = {span.tag for span in scan.spans if span.tag > _DATASET and span.tag & 0xFFFF and span.tag not in LAYOUT}
    if tags | {_CHARSET} != {*map(int, ds.keys()), _CHARSET}:  # which the reader may have added
        return None
    return Exemplar(scan.header, scan.spans, scan.n_bytes, scan.is_implicit, scan.is_encapsulated, ds)


class HeaderTemplate:
    """Matches headers that differ from an exemplar in the elements `varying` only.

    Attributes
    ----------
    tags : tuple of int
        The varying elements, in the order of `Match.values`.
    own_values : tuple of bytes
        What `match` gives for the exemplar.
    whole : frozenset of int
        Those of them whose whole element `match` gives.
    """

    def __init__(self, exemplar: Exemplar, varying: Iterable[int], *, whole: frozenset[int]) -> None:
        self.exemplar = exemplar
        self.varying = frozenset(varying)
        self.whole = whole
        tags: list[int] = []
        parts: list[_Part] = []
        constant_from = 0
        for span in exemplar.spans:
            if span.tag not in self.varying:
                continue
            tags.append(span.tag)
            n_head = 6 if span.vr else 4  # implicit VR has none
            n_length = 4 if span.vr in LONG_FORM or not span.vr else 2
            lead = exemplar.header[constant_from : span.start + n_head]
            n_reserved = span.value - span.start - n_head - n_length
            parts.append(_Part(lead, n_reserved, n_length, n_head if span.tag in whole else 0))
            constant_from = span.end
        self.tags = tuple(tags)
        self._parts = tuple(parts)
        self._rest = exemplar.header[constant_from:]
        self._n_pixels = exemplar.n_bytes - len(exemplar.header)
        self.own_values = tuple(exemplar.whole(tag) if tag in whole else exemplar.value(tag) for tag in self.tags)

    @property
    def n_bytes(self) -> int:
        """How much of a file to read for `match`."""
        return len(self.exemplar.header) + _ROOM

    def match(self, start: bytes, n_bytes: int) -> Match | None:
        """Match the first bytes of a file of `n_bytes`; of encapsulated pixel data, nothing is known yet then."""
        pos = 0
        values: list[bytes] = []
        for lead, n_reserved, n_length, n_head in self._parts:
            if not start.startswith(lead, pos):
                return None
            pos += len(lead)
            value = pos + n_reserved + n_length
            length = int.from_bytes(start[value - n_length : value], "little")
            begin = pos - n_head if n_head else value
            pos = value + length
            if length == _UNDEFINED:
                try:
                    pos = sequence_end(start, value, is_implicit=self.exemplar.is_implicit)
                except (ValueError, struct.error):
                    return None
            values.append(start[begin:pos])
        if not start.startswith(self._rest, pos):
            return None
        pos += len(self._rest)
        if not self.exemplar.is_encapsulated and n_bytes - pos != self._n_pixels:
            return None
        return Match(tuple(values), pos)


def varying_tags(one: Scanned, other: Scanned) -> frozenset[int] | None:
    """Elements whose bytes differ, or may; None when the headers have not the same elements in the same form."""
    if (one.is_implicit, one.is_encapsulated) != (other.is_implicit, other.is_encapsulated):
        return None
    if [span[:2] for span in one.spans] != [span[:2] for span in other.spans]:
        return None
    if one.header[:132] != other.header[:132] or one.header[-8:] != other.header[-8:]:
        return None
    differing = {tag for tag in one.elements if one.whole(tag) != other.whole(tag)}
    if any(tag >> 16 == 2 and tag not in _FREE_META for tag in differing):
        return None
    return frozenset(differing | (_FREE_META & one.elements.keys()))
