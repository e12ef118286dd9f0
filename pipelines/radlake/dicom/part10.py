"""DICOM Part 10 files: read what hospitals send, write one canonical form (PS3.10 section 7).

Inside radlake a data set has one form, whatever it came in: explicit VR little endian or an encapsulated transfer
syntax, text in UTF-8 as soon as any of it is not ASCII, no group lengths, no padding. Getting there changes no content;
what was unusual on the way is in `notes`. What an instance must hold to be stored is decided in `radlake.validate`.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from radlake.dicom.reader import LONG_FORM, VR_NAMES, Tokenizer, observed_encoding
from radlake.dicom.uids import EXPLICIT_VR_LITTLE_ENDIAN, MEDIA_DIRECTORY, TransferSyntax, is_uid, transfer_syntax
from radlake.dicom.values import date_from_text, first_text
from radlake.dicom.writer import encode_parts
from radlake.errors import QuarantineError, SourceMissing

__all__ = [
    "Header",
    "NotDicom",
    "add_notes",
    "encode_instance",
    "encode_parts",
    "notes",
    "read_bytes",
    "read_header",
    "read_instance",
]

_PREFIX_END = 132
_TRANSFER_SYNTAX_UID, _SERIES_INSTANCE_UID, _PIXEL_DATA = 0x00020010, 0x0020000E, 0x7FE00010
_MEDIA_SOP_CLASS_UID = 0x00020002
_UNDEFINED = 0xFFFFFFFF
_DICOM_ROOT = b"1.2.840.10008."  # a UID of the standard: something of DICOM was here (PS3.6 annex A)
_HEADER_BYTES = (16 * 1024, 1024 * 1024)  # then all of it
_MAPPED = 1 << 20  # bytes; a smaller file is read faster than it is mapped
_MAX_INFLATED = 1 << 31


class NotDicom(QuarantineError):
    """The file has nothing to do with DICOM; a folder walk counts it and goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What is needed to sort files into studies; a missing attribute is an empty text."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    modality: str
    study_date: date | None


def read_instance(path: Path) -> Dataset:
    """Read a Part 10 file as a whole.

    Values stay encoded until they are looked at. Large pixel data stay in the file, the data set holds a view of them:
    memory is that of a header whatever the size of the object. File meta information is that of the file, with the
    transfer syntax of the data set as it is now: implicit VR, big endian and deflated files become Explicit VR Little
    Endian.

    Raises
    ------
    NotDicom
        `not_dicom`.
    QuarantineError
        `empty_file`, `part10_missing`, `part10_truncated`, `transfer_syntax_unknown`, `transfer_syntax_mismatch`,
        `dataset_unreadable`, `vr_invalid`, `elements_out_of_order`, `duplicate_element`, `value_length_invalid`,
        `pixel_data_corrupt`, `charset_unknown`. The detail names tags and offsets, never a value.
    SourceMissing
        If the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            is_large = os.fstat(file.fileno()).st_size > _MAPPED
            data = mmap(file.fileno(), 0, access=ACCESS_READ) if is_large else file.read()
    except OSError as exc:
        raise SourceMissing(path=f"A file ({exc.strerror})") from exc  # a path may name a patient
    return read_bytes(data)


def read_bytes(data: bytes | mmap) -> Dataset:
    """`read_instance` for bytes that are already here."""
    meta, pos = _read_meta(data)
    ds, syntax, found = _read_dataset(data, pos, meta)
    if syntax.is_implicit or syntax.is_big_endian or syntax.is_deflated:
        found.append(f"read from transfer syntax {syntax.uid}")
        meta.TransferSyntaxUID = UID(EXPLICIT_VR_LITTLE_ENDIAN)
    ds.file_meta = meta
    ds.notes = tuple(found)
    return ds


def notes(ds: Dataset) -> tuple[str, ...]:
    """Deviations that were accepted when the data set was read."""
    return getattr(ds, "notes", ())


def add_notes(ds: Dataset, found: Iterable[str]) -> None:
    """Record further deviations."""
    ds.notes = (*notes(ds), *found)


def read_header(path: Path) -> Header:
    """Read no more of a file than its identifying UIDs need.

    Raises
    ------
    NotDicom, QuarantineError, SourceMissing
        As `read_instance`, as far as the damage shows in the part that is read.
    """
    try:
        with path.open("rb") as file:
            data = b""
            for n_bytes in _HEADER_BYTES:
                data += file.read(n_bytes)
                try:
                    header = _header_from_bytes(data)
                except QuarantineError as exc:
                    if exc.reason != "part10_truncated":
                        raise
                else:
                    if header.series_instance_uid:  # the last one of interest
                        return header
            return _header_from_bytes(data + file.read())
    except OSError as exc:
        raise SourceMissing(path=f"A file ({exc.strerror})") from exc  # a path may name a patient


def encode_instance(ds: Dataset) -> bytes:
    """Write the one canonical Part 10 form of a data set; see `encode_parts`."""
    return b"".join(encode_parts(ds))


def _header_from_bytes(data: bytes) -> Header:
    meta, pos = _read_meta(data)
    if first_text(meta, _MEDIA_SOP_CLASS_UID) == MEDIA_DIRECTORY:
        raise QuarantineError(reason="media_directory", detail="Media Storage Directory")
    syntax_uid = first_text(meta, _TRANSFER_SYNTAX_UID)
    ds, _, _ = _read_dataset(data, pos, meta, stop_after=_SERIES_INSTANCE_UID)

    text = partial(first_text, ds)
    return Header(
        study_instance_uid=text(0x0020000D),
        series_instance_uid=text(0x0020000E),
        sop_instance_uid=text(0x00080018),
        sop_class_uid=text(0x00080016),
        transfer_syntax_uid=syntax_uid,
        modality=text(0x00080060),
        study_date=date_from_text(text(0x00080020)),
    )


def _read_meta(data: bytes | mmap) -> tuple[FileMetaDataset, int]:
    """File meta information (PS3.10 7.1) and where the data set begins; its own length is not believed."""
    if not data:
        raise QuarantineError(reason="empty_file", detail="0 bytes")
    if data[128:_PREFIX_END] != b"DICM":
        if data[:4] == b"DICM" or _looks_like_dataset(data) or _DICOM_ROOT in data[: _HEADER_BYTES[0]]:
            raise QuarantineError(reason="part10_missing", detail="no DICM prefix")
        raise NotDicom(reason="not_dicom", detail=f"{len(data)} bytes")
    elements: dict[BaseTag, RawDataElement | DataElement] = {}
    pos = _PREFIX_END
    while data[pos : pos + 2] == b"\x02\x00":
        header = data[pos : pos + 12]
        vr = VR_NAMES.get(header[4:6])
        if vr is None and len(header) == 12:
            raise QuarantineError(reason="dataset_unreadable", detail=f"file meta information at byte {pos}")
        is_long = header[4:6] in LONG_FORM
        length = int.from_bytes(header[8:12] if is_long else header[6:8], "little")
        value_at = pos + (12 if is_long else 8)
        tag = BaseTag(0x00020000 | int.from_bytes(header[2:4], "little"))
        pos = value_at + length
        if vr is None or pos > len(data):
            raise QuarantineError(reason="part10_truncated", detail="inside file meta information")
        elements[tag] = RawDataElement(tag, vr, length, data[value_at:pos], value_at, False, True)
    if not elements:
        raise QuarantineError(reason="part10_missing", detail="no file meta information")
    return FileMetaDataset(elements), pos


def _looks_like_dataset(data: bytes | mmap) -> bool:
    """A data set without its wrapping begins with a low group, little or big endian."""
    first = {int.from_bytes(data[:2], "little"), int.from_bytes(data[:2], "big")}
    return not first.isdisjoint((0x0002, 0x0004, 0x0008)) and observed_encoding(data, 0, first_group=0x0002) is not None


def _read_dataset(
    data: bytes | mmap, pos: int, meta: FileMetaDataset, *, stop_after: int | None = None
) -> tuple[Dataset, TransferSyntax, list[str]]:
    syntax_uid = first_text(meta, _TRANSFER_SYNTAX_UID)
    syntax = transfer_syntax(syntax_uid)
    if syntax is None:
        raise QuarantineError(
            reason="transfer_syntax_unknown", detail=syntax_uid if is_uid(syntax_uid) else "none declared"
        )
    seen = observed_encoding(data, pos)
    if syntax.is_deflated:
        data, pos = _inflated(data[pos:], is_plain=seen is not None), 0
        seen = observed_encoding(data, 0)
    declared = (syntax.is_implicit, syntax.is_big_endian)
    if seen is not None and seen != declared:
        detail = f"declared {syntax_uid}, found {'implicit' if seen[0] else 'explicit'} VR"
        raise QuarantineError(
            reason="transfer_syntax_mismatch", detail=f"{detail}, {'big' if seen[1] else 'little'} endian"
        )
    tokenizer = Tokenizer(data, is_implicit=declared[0], is_big_endian=declared[1], stop_after=stop_after)
    ds = tokenizer.read(pos)
    pixels = ds.get_item(_PIXEL_DATA) if _PIXEL_DATA in ds else None
    if isinstance(pixels, RawDataElement) and (pixels.length == _UNDEFINED) != syntax.is_encapsulated:
        found = "native" if syntax.is_encapsulated else "encapsulated"
        raise QuarantineError(
            reason="transfer_syntax_mismatch", detail=f"declared {syntax_uid}, found {found} Pixel Data"
        )
    return ds, syntax, tokenizer.notes


def _inflated(data: bytes, *, is_plain: bool) -> bytes:
    """Undo Deflated Explicit VR Little Endian (PS3.5 A.5)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(data, _MAX_INFLATED)
    except zlib.error as exc:
        reason = "transfer_syntax_mismatch" if is_plain else "dataset_unreadable"
        raise QuarantineError(reason=reason, detail="the deflated stream is broken") from exc
    if not inflater.eof:
        raise QuarantineError(reason="part10_truncated", detail="the deflated stream does not end")
    return plain
