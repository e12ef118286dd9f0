"""The canonical writer: equal content gives equal bytes, whichever way it came.

C-GET, C-MOVE, WADO-RS and files of one instance differ in file meta information, sequence length style, group lengths,
padding and sometimes in the transfer syntax. None of that is content, so none of it is kept: our own file meta, a zero
preamble, explicit VR little endian, definite lengths, values padded as PS3.5 6.2 says, text in UTF-8 as soon as any of
it is not ASCII. Pixel data are bit-identical; encapsulated ones keep their fragments and their offset table.
"""

from __future__ import annotations

import codecs
import struct
from functools import cache
from typing import Any, NamedTuple, cast

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import writers

from radlake.dicom import reader
from radlake.dicom.charset import is_defined_term, is_foreign
from radlake.dicom.uids import EXPLICIT_VR_LITTLE_ENDIAN, is_uid, transfer_syntax
from radlake.dicom.values import first_text, texts
from radlake.errors import QuarantineError

__all__ = [
    "IMPLEMENTATION_CLASS_UID",
    "IMPLEMENTATION_VERSION_NAME",
    "Encoded",
    "encode_ascii",
    "encode_element",
    "encode_meta",
    "encode_parts",
]

# They name this canonical form, not a release of the software: new releases must write the same bytes.
IMPLEMENTATION_CLASS_UID = "2.25.113948027188662995620911127581547830503"
IMPLEMENTATION_VERSION_NAME = "RADLAKE_1"

_CHARACTER_SET, _PIXEL_DATA = 0x00080005, 0x7FE00010
_UTF8 = "ISO_IR 192"
_ITEM_TAG = b"\xfe\xff\x00\xe0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"
_UNDEFINED = 0xFFFFFFFF
_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2s2xL")
_ITEM = struct.Struct("<4sL")
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, _PIXEL_DATA})
_CODES = {vr: (code, code in reader.LONG_FORM) for code, vr in reader.VR_NAMES.items()}
_BYTES = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "UN"])
_NUMBERS = frozenset(["AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"])
# Spaces that PS3.5 6.2 calls insignificant at every value; elsewhere only the last value is padded.
_STRIPPED = {"DS": bytes.strip, "IS": bytes.strip, "LO": bytes.rstrip, "SH": bytes.rstrip, "UC": bytes.rstrip}


class Encoded(NamedTuple):
    """Canonical Part 10 bytes in three parts: all up to the value of the pixel data, that value, and what follows.

    The value is a view when that of the data set is one. Without pixel data everything is `head`.
    """

    head: bytes
    pixels: bytes | memoryview = b""
    tail: bytes = b""


def encode_parts(ds: Dataset) -> Encoded:
    """Canonical Part 10 bytes; the pixel data are Pixel Data, Float or Double Float Pixel Data.

    The transfer syntax is that of `ds.file_meta` when it encapsulates pixel data. Implicit VR, big endian and deflated
    data sets are written as Explicit VR Little Endian: no value changes by that, and one form less has to be read.
    Elements that nobody looked at are copied without being decoded.

    Raises
    ------
    QuarantineError
        `transfer_syntax_unknown`, `transfer_syntax_mismatch`, `uid_missing`, `uid_invalid`, and `dataset_unreadable`
        if a value cannot be written.
    """
    syntax = transfer_syntax(first_text(ds.file_meta, 0x00020010))
    if syntax is None:
        raise QuarantineError(reason="transfer_syntax_unknown", detail="none that can be written")
    declared = texts(ds, _CHARACTER_SET)
    is_utf8 = _UTF8 in declared or not all(map(is_defined_term, declared))
    options = {"is_encapsulated": syntax.is_encapsulated, "is_big_endian": syntax.is_big_endian}
    writer = _Writer(**options, is_utf8=is_utf8)
    pieces = writer.elements(ds)
    if writer.has_foreign_text and not is_utf8:
        writer = _Writer(**options, is_utf8=True)
        pieces = writer.elements(ds)
    meta = _meta(ds, syntax.uid if syntax.is_encapsulated else EXPLICIT_VR_LITTLE_ENDIAN)
    at = writer.pixel_piece
    if not at:
        return Encoded(b"".join((meta, *pieces)))
    return Encoded(b"".join((meta, *pieces[:at])), pieces[at], b"".join(pieces[at + 1 :]))


def _meta(ds: Dataset, syntax_uid: str) -> bytes:
    uids = ["\\".join(texts(ds, tag)) for tag in (0x00080016, 0x00080018)]
    if not all(uids):
        raise QuarantineError(reason="uid_missing", detail="SOPClassUID or SOPInstanceUID")
    if not all(map(is_uid, uids)):
        raise QuarantineError(reason="uid_invalid", detail="SOPClassUID or SOPInstanceUID")
    return encode_meta(sop_class_uid=uids[0], sop_instance_uid=uids[1], transfer_syntax_uid=syntax_uid)


def encode_meta(*, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble and file meta information (PS3.10 7.1)."""
    body = b"".join(
        (
            encode_element(0x00020001, "OB", b"\0\1"),
            encode_element(0x00020002, "UI", sop_class_uid.encode("ascii")),
            encode_element(0x00020003, "UI", sop_instance_uid.encode("ascii")),
            encode_element(0x00020010, "UI", transfer_syntax_uid.encode("ascii")),
            encode_element(0x00020012, "UI", IMPLEMENTATION_CLASS_UID.encode("ascii")),
            encode_element(0x00020013, "SH", IMPLEMENTATION_VERSION_NAME.encode("ascii")),
        )
    )
    return b"\0" * 128 + b"DICM" + encode_element(0x00020000, "UL", struct.pack("<L", len(body))) + body


def encode_element(tag: int, vr: str, value: bytes) -> bytes:
    """One element with a value that is not a sequence, as the canonical form has it."""
    if vr not in _BYTES and vr not in _NUMBERS:
        value = _stripped(vr, value)
    return _header(tag, vr, len(value) + len(value) % 2) + value + _padding(vr, value)


def encode_ascii(ds: Dataset) -> bytes | None:
    """The elements of a data set alone; None when any text of it is not ASCII."""
    writer = _Writer(is_encapsulated=False, is_big_endian=False, is_utf8=False)
    pieces = writer.elements(ds)
    return None if writer.has_foreign_text else b"".join(pieces)


def _header(tag: int, vr: str, length: int) -> bytes:
    """Tag, VR and length (PS3.5 7.1.2); a value too long for the VR's length field is UN (6.2.2)."""
    code, is_long = _CODES[vr]
    if is_long:
        return _LONG.pack(tag >> 16, tag & 0xFFFF, code, length)
    if length > 0xFFFF:
        return _LONG.pack(tag >> 16, tag & 0xFFFF, b"UN", length)
    return _SHORT.pack(tag >> 16, tag & 0xFFFF, code, length)


def _padding(vr: str, value: bytes) -> bytes:
    return (b"\0" if vr in _BYTES or vr == "UI" else b" ") if len(value) & 1 else b""


class _Writer:
    def __init__(self, *, is_encapsulated: bool, is_big_endian: bool, is_utf8: bool) -> None:
        self.has_foreign_text = False
        self.pixel_piece = 0
        self._is_encapsulated = is_encapsulated
        self._is_big = is_big_endian
        self._is_utf8 = is_utf8

    def elements(self, ds: Dataset, *, depth: int = 0) -> list[bytes]:
        """The elements of a data set or item, in pieces."""
        parts: list[bytes] = []
        is_utf8_bytes = _is_utf8_encoding(ds)
        elements = list(ds.values())
        if self._is_utf8 and depth == 0 and _CHARACTER_SET not in ds:
            elements.append(DataElement(_CHARACTER_SET, "CS", _UTF8))
        for element in sorted(elements, key=_tag_number):
            tag = int(element.tag)
            if tag & 0xFFFF == 0 or tag in reader.LAYOUT:
                continue
            try:
                pieces = self._element_parts(element, tag, ds, depth, is_utf8_bytes)
            except (ValueError, TypeError, AttributeError, KeyError, OSError, OverflowError, struct.error) as exc:
                where = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
                raise QuarantineError(reason="dataset_unreadable", detail=f"{where} cannot be written") from exc
            if tag in _PIXELS and depth == 0:
                self.pixel_piece = len(parts) + 1
            parts += pieces
        return parts

    def _element_parts(
        self, element: DataElement | RawDataElement, tag: int, ds: Dataset, depth: int, is_utf8_bytes: bool
    ) -> tuple[bytes, ...]:
        """Header, value and what follows of one element."""
        if isinstance(element, RawDataElement) and not _is_house_form(element, is_utf8_bytes):
            element = ds[element.tag]
        vr: Any = element.VR
        if isinstance(element, RawDataElement):
            value, is_undefined = element.value or b"", element.length == _UNDEFINED
            self.has_foreign_text |= vr in reader.TEXT and not value.isascii()
        elif vr == "SQ":
            return self._sequence_parts(element, tag, depth)
        else:
            value, is_undefined = self._value(element, vr), element.is_undefined_length
        if tag == _CHARACTER_SET and self._is_utf8:
            value = _UTF8.encode("ascii")
        if vr in _BYTES:
            if tag == _PIXEL_DATA and depth == 0:
                is_fragmented = value[:4] == _ITEM_TAG if self._is_encapsulated else is_undefined
                if is_fragmented != self._is_encapsulated:
                    raise QuarantineError(reason="transfer_syntax_mismatch", detail="native or encapsulated Pixel Data")
                is_undefined = is_fragmented
            if is_undefined:
                return _header(tag, "OB", _UNDEFINED), value, _SEQUENCE_END
            if vr in reader.OTHER:
                vr = reader.bulk_vr(tag, vr, ds)
        elif vr not in _NUMBERS:
            value = _stripped(vr, value)
        pad = _padding(vr, value)
        return _header(tag, vr, len(value) + len(pad)), value, pad

    def _sequence_parts(self, element: DataElement, tag: int, depth: int) -> tuple[bytes, ...]:
        """A sequence with definite lengths (PS3.5 7.5.1)."""
        parts: list[bytes] = []
        for item in cast("list[Dataset]", element.value or []):
            content = b"".join(self.elements(item, depth=depth + 1))
            parts += (_ITEM.pack(_ITEM_TAG, len(content)), content)
        return _header(tag, "SQ", sum(map(len, parts))), *parts

    def _value(self, element: DataElement, vr: str) -> bytes:
        """Encode a decoded value."""
        value: Any = element.value
        if value is None:
            return b""
        if vr in reader.TEXT:
            text = "\\".join(map(str, _values(value)))
            self.has_foreign_text |= not text.isascii()
            return text.encode("utf-8")
        if vr in _BYTES:
            if not isinstance(value, (bytes, bytearray, memoryview)):
                raise TypeError("no bytes")
            data = bytes(value)
            return reader.swapped(data, reader.WORDS[vr]) if self._is_big and vr in reader.WORDS else data
        if element.is_empty:
            return b""
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write, code = writers[vr]  # pyright: ignore[reportArgumentType]
        write(buffer, element, code) if code else write(buffer, element)  # pyright: ignore
        return buffer.getvalue()


def _is_house_form(raw: RawDataElement, is_utf8_bytes: bool) -> bool:
    """Whether the bytes of an undecoded element can be copied."""
    if raw.VR is None or raw.is_implicit_VR or not raw.is_little_endian:
        return False
    return is_utf8_bytes or raw.VR not in reader.TEXT or not raw.value or not is_foreign(raw.value)


def _tag_number(element: DataElement | RawDataElement) -> int:
    return int(element.tag)


def _values(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) or not hasattr(value, "append") else list(value)


def _stripped(vr: str, value: bytes) -> bytes:
    """Without insignificant spaces and zeros."""
    value = value.rstrip(b" \0")
    if vr == "PN":  # empty component groups at the end
        return b"\\".join(part.rstrip(b"=") for part in value.split(b"\\")) if b"=" in value else value
    strip = _STRIPPED.get(vr)
    if strip is None or b" " not in value:
        return value
    return b"\\".join(strip(part, b" \0") for part in value.split(b"\\"))


def _is_utf8_encoding(ds: Dataset) -> bool:
    encodings = ds.original_character_set
    return _is_utf8_name(encodings if isinstance(encodings, str) else "".join(encodings))


@cache
def _is_utf8_name(name: str) -> bool:
    try:
        return codecs.lookup(name).name == "utf-8"
    except LookupError:
        return False
