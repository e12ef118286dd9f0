"""A row of dicom.instance against its object: place, digest, and every column with a DICOM keyword."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import xxhash
from pydicom.datadict import tag_for_keyword

from radlake.contracts import load_table
from radlake.referee.finding import Finding
from radlake.referee.instance import Instance, Unreadable, read

__all__ = ["row_findings"]

# The keyword whose value stands where that of the contract does not (schemas/dicom/instance_v1.yaml tells them).
_OTHERWISE = {"pixel_spacing_row_mm": "ImagerPixelSpacing", "pixel_spacing_column_mm": "ImagerPixelSpacing"}
_PART = {"pixel_spacing_row_mm": 0, "pixel_spacing_column_mm": 1}
_ABSENT = {"modality": "UNKNOWN"}


def row_findings(row: Mapping[str, Any], data: bytes, *, where: str) -> Iterator[Finding]:
    """Columns that do not equal the object.

    Parameters
    ----------
    data : bytes
        The object store's bytes at the row's offset and length.
    """
    if len(data) != row["instance_bytes"] or xxhash.xxh3_128_hexdigest(data) != row["digest"]:
        yield Finding("row-differs", where, "column digest")
        return
    try:
        instance = read(data)
    except Unreadable:
        return  # a finding of its own
    layout = instance.layout
    if layout is not None and row["pixel_offset"] is not None and row["pixel_offset"] != layout.pixels[0]:
        yield Finding("row-differs", where, "column pixel_offset")
    if instance.text(0x00100020) != f"{row['patient_key']:016x}":
        yield Finding("row-differs", where, "column patient_key")
    for column in load_table("dicom.instance").columns:
        if column.keyword and not _agrees(row[column.name], instance, column.name, column.type, column.keyword):
            yield Finding("row-differs", where, f"column {column.name}")


def _agrees(value: Any, instance: Instance, name: str, kind: str, keyword: str) -> bool:
    """Whether a column holds what the object says; NULL agrees with a value that is no value of its type."""
    text = _text(instance, keyword) or _text(instance, _OTHERWISE.get(name, ""))
    if name == "acquired_at":
        return value is None or value in _moments(instance)
    if name == "n_frames":
        expected = int(_number(text) or 1) if _text(instance, "Rows") else 0
        return value == expected
    if kind == "VARCHAR":
        return (value or "") == (text or _ABSENT.get(name, ""))
    number = _number(text.split("\\")[_PART[name]] if name in _PART and "\\" in text else text)
    if value is None or number is None:
        return value is None
    return abs(float(value) - number) < 1e-9 + abs(number) * 1e-12


def _text(instance: Instance, keyword: str) -> str:
    tag = tag_for_keyword(keyword) if keyword else None
    if tag is None:
        return ""
    value = instance.top.get(tag)
    if value is None:
        return ""
    if value.vr in ("US", "SS", "UL", "SL"):
        order = "big" if instance.ds.original_encoding == (False, False) else "little"
        return str(int.from_bytes(value.data or b"", order, signed=value.vr[0] == "S"))
    if value.vr in ("FD", "FL"):
        return str(instance.ds[tag].value)
    return "\\".join(part.strip() for part in value.text.split("\\"))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _moments(instance: Instance) -> set[datetime]:
    """Every time of acquisition that the object tells."""
    moments = set()
    if found := re.match(r"(\d{8})(\d{0,6})", _text(instance, "AcquisitionDateTime")):
        moments.add(_moment(found[1], found[2]))
    for name in ("Acquisition", "Content"):
        moments.add(_moment(_text(instance, f"{name}Date"), _text(instance, f"{name}Time")))
    return {moment for moment in moments if moment is not None}


def _moment(day: str, time: str) -> datetime | None:
    found = re.match(r"(\d{2})(\d{2})?(\d{2})?", time)
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    if hours > 23 or minutes > 59:
        hours = minutes = seconds = 0
    try:
        at = datetime.strptime(day, "%Y%m%d")
    except ValueError:
        return None
    return at + timedelta(hours=hours, minutes=minutes, seconds=min(seconds, 59))
