"""The tokenizer: bytes of a data set to elements, strict about structure (PS3.5 section 7).

pydicom's reader is made to get something out of any file. A data platform must know that it got everything: a length
that runs over its end, a VR that does not exist, a tag out of order or twice is the trace of a truncated, overwritten
or mislabelled file, and what would be read behind it is noise. So all that is refused here, with a reason. Elements
come out in the form that `part10` promises; values stay bytes until somebody looks at them.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping
from functools import cache, lru_cache, partial
from mmap import mmap
from typing import NamedTuple, NoReturn, cast

from pydicom.datadict import dictionary_VR, private_dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, empty_value_for_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from radlake.dicom.charset import choose_decoder, is_defined_term, is_foreign, readable_terms
from radlake.errors import QuarantineError

__all__ = [
    "LAYOUT",
    "LONG_FORM",
    "OTHER",
    "TEXT",
    "VR_NAMES",
    "WIDTHS",
    "WORDS",
    "Tokenizer",
    "bulk_vr",
    "observed_encoding",
    "swapped",
]

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_CHARACTER_SET, _PIXEL_REPRESENTATION, _PIXEL_DATA, _PADDING = 0x00080005, 0x00280103, 0x7FE00010, 0xFFFCFFFC
_FIRST_PIXELS = 0x7FE00008  # Float Pixel Data
LAYOUT = frozenset({0x00080001, _PADDING})  # they, and group lengths, describe bytes that are written anew
_IMPOSSIBLE_GROUPS = frozenset({0x0000, 0x0002, 0xFFFE, 0xFFFF})
_BITS, _WAVEFORM_BITS = 0x00280100, 0x54001004  # allocated
_MAX_DEPTH = 100
_BULK = 1 << 16  # bytes

_VRS = b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
VR_NAMES = {vr: vr.decode() for vr in _VRS}
LONG_FORM = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
TEXT = frozenset(["LO", "LT", "PN", "SH", "ST", "UC", "UT"])
OTHER = frozenset(["OB", "OW"])
# Bytes of one value (PS3.5 table 6.2-1); AT is a pair of 2-byte numbers for the byte order, one value for the length.
WIDTHS = {"AT": 4, "FD": 8, "FL": 4, "SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8}
WORDS = {**WIDTHS, "AT": 2, "OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2}
_ARRAY_CODES = {2: "H", 4: "I", 8: "Q"}

_EXPLICIT = {False: struct.Struct("<HH2sH"), True: struct.Struct(">HH2sH")}
_IMPLICIT = struct.Struct("<HHL")
_LENGTH = {False: struct.Struct("<L"), True: struct.Struct(">L")}
_ITEM_HEADER = {False: struct.Struct("<HHL"), True: struct.Struct(">HHL")}

_Elements = dict[BaseTag, RawDataElement | DataElement]


class _Around(NamedTuple):
    """What an element must know about the data sets around it."""

    is_implicit: bool
    depth: int = 0
    charset: tuple[str, ...] = ()
    is_signed: bool = False


def observed_encoding(data: bytes | mmap, pos: int, *, first_group: int = 0x0004) -> tuple[bool, bool] | None:
    """(is_implicit, is_big_endian) that the first element of a data set shows; None when it looks like no element."""
    if len(data) - pos < 8:
        return None
    little, big = struct.unpack_from("<H", data, pos)[0], struct.unpack_from(">H", data, pos)[0]
    group = min(little, big)
    if not first_group <= group <= 0x7FE0:
        return None
    is_big_endian = big < little
    if data[pos + 4 : pos + 6] in VR_NAMES:
        return False, is_big_endian
    length = _LENGTH[is_big_endian].unpack_from(data, pos + 4)[0]
    return (True, is_big_endian) if length <= len(data) - pos or length == _UNDEFINED else None


@lru_cache(maxsize=16384)
def _standard_vr(tag: int) -> str | None:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return None


@cache
def _empty(vr: str) -> bytes | None:
    return empty_value_for_VR(vr, raw=True)  # pyright: ignore[reportReturnType]


# The fields of RawDataElement in their order; its own constructor takes keywords and twice the time.
_raw = partial(tuple.__new__, RawDataElement)


class Tokenizer:
    """Reads one data set out of `data`, once. The value of large pixel data is a view of `data`, all others are bytes.

    Parameters
    ----------
    stop_after : int
        Last tag of interest at top level.

    Attributes
    ----------
    notes : list of str
        Deviations that were accepted, without values.
    """

    def __init__(
        self, data: bytes | mmap, *, is_implicit: bool, is_big_endian: bool, stop_after: int | None = None
    ) -> None:
        self.data = data
        self._view = memoryview(data)
        self.notes: list[str] = []
        self._stop = stop_after or _ITEM_END
        self._is_implicit = is_implicit
        self._is_big = is_big_endian
        self._charsets: list[tuple[_Elements, tuple[str, ...]]] = []
        self._foreign: dict[tuple[str, ...], list[tuple[_Elements, RawDataElement]]] = {}

    def read(self, pos: int) -> Dataset:
        """The data set from `pos` to the end of the bytes."""
        elements, end = self._elements(pos, len(self.data), _Around(self._is_implicit), until_delimiter=False)
        if end < len(self.data) and self._stop == _ITEM_END:
            self._note(f"{len(self.data) - end} bytes after the data set")
        self._recode_text(elements)
        return _dataset(elements)

    def _elements(self, pos: int, end: int, around: _Around, *, until_delimiter: bool) -> tuple[_Elements, int]:
        """Elements from `pos` to `end`, or to an item delimiter; and where they ended."""
        is_implicit, depth, charset, is_signed = around
        data, is_big = self.data, self._is_big
        explicit, long_length = _EXPLICIT[is_big], _LENGTH[is_big]
        elements: _Elements = {}
        last, stop = 0, _ITEM_END if depth else self._stop
        vr: str | None
        while pos < end:
            if end - pos < 8:
                if self._is_tail(pos, last, depth):
                    return elements, pos
                self._fail_end(pos + 8, end, last)
            if is_implicit:
                group, element, length = _IMPLICIT.unpack_from(data, pos)
                tag = group << 16 | element
                vr, value_at = None, pos + 8
            else:
                group, element, code, length = explicit.unpack_from(data, pos)
                tag = group << 16 | element
                value_at = pos + 8
                vr = VR_NAMES.get(code)
                if vr is not None and code in LONG_FORM:
                    if end - pos < 12:
                        self._fail_end(pos + 12, end, tag)
                    length = long_length.unpack_from(data, value_at)[0]
                    value_at += 4
            if tag == _ITEM_END and until_delimiter:
                return elements, pos + 8
            if tag > stop:
                return elements, pos
            if tag <= last or group in _IMPOSSIBLE_GROUPS or (vr is None and not is_implicit):
                if tag != last and self._is_tail(pos, last, depth):
                    return elements, pos
                self._fail_header(tag, last, pos)
            last = tag
            is_undefined = length == _UNDEFINED
            value_end = end if is_undefined else value_at + length
            if value_end > end:
                if tag == _PADDING:
                    return elements, pos
                self._fail_end(value_end, end, tag)
            if element == 0 or tag in LAYOUT:
                pos = value_end
                continue

            key = BaseTag(tag)
            is_implicit_value = is_implicit
            if vr is None or vr == "UN":
                is_implicit_value = is_implicit or vr == "UN"  # UN holds implicit VR little endian (PS3.5 6.2.2 note 2)
                vr = self._known_vr(key, elements, is_signed=is_signed)
                if is_undefined and vr not in OTHER:
                    vr = "SQ"
                elif vr == "SQ" and group & 1 and length and data[value_at : value_at + 4] != b"\xfe\xff\x00\xe0":
                    vr = "UN"
            if (vr == "SQ") != (_standard_vr(tag) == "SQ") and not group & 1 and _standard_vr(tag):
                self._fail("vr_invalid", tag, pos, f"{vr} of an attribute that is {_standard_vr(tag)}")
            if vr == "SQ":
                inside = _Around(is_implicit_value, depth + 1, charset, is_signed)
                items, pos = self._items(value_at, value_end, inside, is_undefined=is_undefined)
                elements[key] = DataElement(key, "SQ", Sequence(items), already_converted=True)
                continue

            if is_undefined:
                if vr not in OTHER:
                    self._fail("dataset_unreadable", tag, pos, "undefined length")
                value_end, pos = self._fragments(value_at, end, tag)
            else:
                pos = value_end
                if length & 1:
                    self._note("odd length", tag)
            # Large pixel data are not read before somebody asks for them: an object may be larger than memory.
            is_bulk = tag >= _FIRST_PIXELS and value_end - value_at >= _BULK and not depth and not is_big
            value: bytes = data[value_at:value_end] if not is_bulk else cast(bytes, self._view[value_at:value_end])
            if len(value) % WIDTHS.get(vr, 1):
                if not group & 1:
                    self._fail("value_length_invalid", tag, value_at, f"{len(value)} bytes of {vr}")
                self._note(f"length that is not one of {vr}", tag)
                vr = self._known_vr(key, elements, is_signed=is_signed)
                vr = "UN" if vr == "SQ" or len(value) % WIDTHS.get(vr, 1) else vr
            if is_big and not is_implicit_value and vr in WORDS:
                value = swapped(value, 4 if tag == _PIXEL_DATA and _number(elements, _BITS) == 32 else WORDS[vr])
            if vr in OTHER:
                vr = "OB" if is_undefined else bulk_vr(tag, vr, elements)
            raw = _raw((key, vr, length, value or _empty(vr), value_at, False, True, True, False))
            elements[key] = raw
            if tag == _CHARACTER_SET:
                charset = tuple(term.strip(" \0") for term in value.decode("ascii", errors="replace").split("\\"))
                self._charsets.append((elements, charset))
            elif tag == _PIXEL_REPRESENTATION:
                is_signed = value[:1] == b"\1"
            elif vr in TEXT and is_foreign(value):
                self._foreign.setdefault(charset, []).append((elements, raw))
        if until_delimiter:
            self._fail_end(pos + 8, end, last)
        return elements, pos

    def _items(self, pos: int, end: int, around: _Around, *, is_undefined: bool) -> tuple[list[Dataset], int]:
        """Items of a sequence (PS3.5 7.5)."""
        if around.depth > _MAX_DEPTH:
            raise QuarantineError(reason="dataset_unreadable", detail=f"sequences nested deeper than {_MAX_DEPTH}")
        data, header = self.data, _ITEM_HEADER[self._is_big and not around.is_implicit]
        items: list[Dataset] = []
        while pos < end or is_undefined:
            if end - pos < 8:
                self._fail_end(pos + 8, end, _ITEM)
            group, element, length = header.unpack_from(data, pos)
            tag = group << 16 | element
            start = pos + 8
            if tag == _SEQUENCE_END and (is_undefined or start == end):
                return items, start
            if tag != _ITEM:
                self._fail("dataset_unreadable", tag, pos, "where an item should be")
            item_end = end if length == _UNDEFINED else start + length
            if item_end > end:
                self._fail_end(item_end, end, _ITEM)
            seen = None if self._is_implicit or self._is_big or not length else observed_encoding(data, start)
            inside = around._replace(is_implicit=seen[0]) if seen else around
            if inside != around:
                self._note("an item in the other VR encoding")
            elements, pos = self._elements(start, item_end, inside, until_delimiter=length == _UNDEFINED)
            items.append(_dataset(elements))
        return items, pos

    def _fragments(self, pos: int, end: int, tag: int) -> tuple[int, int]:
        """Where the fragments of an encapsulated value end, without and with the delimiter (PS3.5 A.4)."""
        while True:
            if end - pos < 8:
                self._fail_end(pos + 8, end, tag)
            group, element, length = _ITEM_HEADER[False].unpack_from(self.data, pos)
            item = group << 16 | element
            if item == _SEQUENCE_END:
                return pos, pos + 8
            if item != _ITEM or length == _UNDEFINED:
                reason = "pixel_data_corrupt" if tag == _PIXEL_DATA else "dataset_unreadable"
                self._fail(reason, tag, pos, "no fragment")
            pos += 8 + length
            if pos > end:
                self._fail_end(pos, end, tag)

    def _known_vr(self, tag: BaseTag, elements: _Elements, *, is_signed: bool) -> str:
        """VR of an element that came without one: from the dictionaries, ambiguous ones decided (PS3.5 Annex A.1)."""
        if tag.is_private:
            if tag.is_private_creator:
                return "LO"
            creator = elements.get(BaseTag(tag.group << 16 | tag.element >> 8))
            name = creator.value if creator else None
            try:
                vr = private_dictionary_VR(tag, name.decode("ascii").strip(" \0")) if name else "UN"
            except (KeyError, UnicodeDecodeError):
                return "UN"
        else:
            vr = _standard_vr(tag) or "UN"
        if vr == "US or SS":
            return "SS" if is_signed else "US"
        return "OW" if " or " in vr else vr

    def _recode_text(self, root: _Elements) -> None:
        """Write all text as UTF-8, if any of it is not ASCII or no reader could understand the declared set."""
        undefined = [charset for _, charset in self._charsets if not all(map(is_defined_term, charset))]
        for charset, found in self._foreign.items():
            decoder = choose_decoder(charset, (raw.value or b"" for _, raw in found))
            for elements, raw in found:
                value = decoder(raw.value or b"").encode("utf-8")
                elements[raw.tag] = raw._replace(value=value, length=len(value))
            if decoder.codec != "utf-8" or charset != ("ISO_IR 192",):
                self._note(f"text recoded from {decoder.codec}, declared as {readable_terms(charset)}")
            if decoder.n_lost:
                self._note(f"{decoder.n_lost} characters cannot be decoded")
        if undefined:
            self._note("undefined term in Specific Character Set")
        if self._foreign or undefined:
            tag = BaseTag(_CHARACTER_SET)
            utf8 = RawDataElement(tag, "CS", 10, b"ISO_IR 192", 0, False, True)
            for elements in (root, *(elements for elements, _ in self._charsets)):
                elements[tag] = utf8

    def _is_tail(self, pos: int, last: int, depth: int) -> bool:
        """Whether nothing of the data set can follow: zeros to the end, or whatever stands behind the pixels."""
        return depth == 0 and (last >= _FIRST_PIXELS or not self.data[pos:].strip(b"\0"))

    def _fail_header(self, tag: int, last: int, pos: int) -> NoReturn:
        if tag == last:
            self._fail("duplicate_element", tag, pos)
        if tag < last and tag >> 16 >= 0x0008:
            self._fail("elements_out_of_order", tag, pos)
        if not self._is_implicit and 0x0008 <= tag >> 16 < 0xFFFE:
            self._fail("vr_invalid", tag, pos)
        self._fail("dataset_unreadable", tag, pos, "not an element")

    def _fail_end(self, needed: int, end: int, tag: int) -> NoReturn:
        if needed > len(self.data) or end == len(self.data):
            self._fail("part10_truncated", tag, len(self.data), f"{needed - len(self.data)} bytes are missing")
        self._fail("dataset_unreadable", tag, end, "longer than the item around it")

    def _fail(self, reason: str, tag: int, pos: int, what: str = "") -> NoReturn:
        where = f"({tag >> 16:04X},{tag & 0xFFFF:04X}) at byte {pos}"
        raise QuarantineError(reason=reason, detail=f"{where}: {what}" if what else where)

    def _note(self, what: str, tag: int | None = None) -> None:
        note = what if tag is None else f"{what} of ({tag >> 16:04X},{tag & 0xFFFF:04X})"
        if note not in self.notes:
            self.notes.append(note)


def _dataset(elements: _Elements) -> Dataset:
    ds = Dataset(elements)
    ds.set_original_encoding(False, True, ["utf8"])
    return ds


def bulk_vr(tag: int, vr: str, elements: Mapping[BaseTag, RawDataElement | DataElement] | Dataset) -> str:
    """One VR where the standard leaves the choice between OB and OW: by the bits of pixels and waveforms, else OW."""
    if tag >> 16 == 0x7FE0:
        return "OW" if _number(elements, _BITS) > 8 else "OB"
    if _standard_vr(tag) != "OB or OW":
        return vr
    return "OB" if tag >> 16 == 0x5400 and _number(elements, _WAVEFORM_BITS) <= 8 else "OW"


def _number(elements: Mapping[BaseTag, RawDataElement | DataElement] | Dataset, tag: int) -> int:
    """A US value beside the element that needs it, 0 when absent."""
    found = elements.get(BaseTag(tag))
    value = found.value if found else None
    if isinstance(value, bytes):
        return int.from_bytes(value[:2], "little")
    return value if isinstance(value, int) else 0


def swapped(value: bytes, width: int) -> bytes:
    usable = len(value) - len(value) % width
    words = array(_ARRAY_CODES[width], value[:usable])
    words.byteswap()
    return words.tobytes() + value[usable:]
