"""Rows of dicom.study, dicom.series and dicom.instance, from the headers that are stored.

Only values that the contracts in schemas/dicom/ name; a value that cannot be read becomes NULL, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from pydicom import Dataset

from radlake.dicom.values import date_from_text, texts
from radlake.ingest.fields import Fields, integer, number, numbers, tag_of, text
from radlake.lake.objects import PackedMember, PackedSeries
from radlake.vocab import Evidence, clean_description, decide, evidence_to_json, manufacturer_group

__all__ = ["InstanceColumns", "age_in_years", "moment", "month_of", "place_of_instance", "series_row", "study_row"]

UNDATED_MONTH = 190001
_SMALL = 2**15 - 1  # SMALLINT
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_DATETIME = re.compile(r"(\d{8})(\d{0,6})")
_TIME = re.compile(r"(\d{2})(\d{2})?(\d{2})?")


def _acquired_at(fields: Fields) -> datetime | None:
    at = moment_of(
        text(fields, "AcquisitionDateTime"), text(fields, "AcquisitionDate"), text(fields, "AcquisitionTime")
    )
    return at or moment_of(None, text(fields, "ContentDate"), text(fields, "ContentTime"))


def _n_frames(fields: Fields) -> int:
    return (integer(fields, "NumberOfFrames") or 1) if tag_of("Rows") in fields else 0


def _spacing(fields: Fields, *, axis: int) -> float | None:
    found = numbers(fields, "PixelSpacing") or numbers(fields, "ImagerPixelSpacing")
    return found[axis] if len(found) == 2 else None


def _modality(fields: Fields) -> str:
    return text(fields, "Modality") or "UNKNOWN"


@dataclass(frozen=True, slots=True)
class _Column:
    """A column, and the attributes that it is read from."""

    name: str
    keywords: tuple[str, ...]
    value: Callable[[Fields], Any]


def _plain(name: str, keyword: str, read: Callable[..., Any], **options: Any) -> _Column:
    return _Column(name, (keyword,), partial(read, keyword=keyword, **options))


_SPACING = ("PixelSpacing", "ImagerPixelSpacing")
_INSTANCE = (
    _plain("series_instance_uid", "SeriesInstanceUID", text),
    _plain("sop_instance_uid", "SOPInstanceUID", text),
    _plain("sop_class_uid", "SOPClassUID", text),
    _plain("transfer_syntax_uid", "TransferSyntaxUID", text),
    _Column("modality", ("Modality",), _modality),
    _plain("instance_number", "InstanceNumber", integer),
    _Column(
        "acquired_at",
        ("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime"),
        _acquired_at,
    ),
    _plain("image_type", "ImageType", text),
    _plain("rows", "Rows", integer),
    _plain("columns", "Columns", integer),
    _Column("n_frames", ("Rows", "NumberOfFrames"), _n_frames),
    _plain("samples_per_pixel", "SamplesPerPixel", integer, limit=_SMALL),
    _plain("photometric_interpretation", "PhotometricInterpretation", text),
    _plain("bits_allocated", "BitsAllocated", integer, limit=_SMALL),
    _plain("bits_stored", "BitsStored", integer, limit=_SMALL),
    _plain("slice_thickness_mm", "SliceThickness", number),
    _Column("pixel_spacing_row_mm", _SPACING, partial(_spacing, axis=0)),
    _Column("pixel_spacing_column_mm", _SPACING, partial(_spacing, axis=1)),
    _plain("kvp", "KVP", number),
    _plain("ctdi_vol_mgy", "CTDIvol", number),
    _plain("magnetic_field_t", "MagneticFieldStrength", number),
)


class InstanceColumns:
    """The columns of dicom.instance that are read from a header, or those of them that some attributes decide.

    Attributes
    ----------
    tags : frozenset of int
        The attributes that they are read from.

    Parameters
    ----------
    tags : iterable of int, optional
        Only columns that are read from one of these attributes.
    """

    def __init__(self, tags: Iterable[int] | None = None) -> None:
        chosen = None if tags is None else frozenset(tags)
        columns = [
            column for column in _INSTANCE if chosen is None or not chosen.isdisjoint(map(tag_of, column.keywords))
        ]
        self.tags = frozenset(tag_of(keyword) for column in columns for keyword in column.keywords)
        self._columns = [(column.name, column.value) for column in columns]

    def of(self, fields: Fields) -> dict[str, Any]:
        """Column name to value."""
        return {name: value(fields) for name, value in self._columns}


def place_of_instance(*, pixel_offset: int | None, member: PackedMember) -> dict[str, Any]:
    """The columns of dicom.instance that say where in the series object it lies.

    Parameters
    ----------
    pixel_offset : int or None
        Byte offset of the value of Pixel Data in the stored Part-10 file.
    """
    return {
        "object_offset": member.offset,
        "instance_bytes": member.length,
        "pixel_offset": pixel_offset,
        "digest": member.digest,
    }


def series_row(fields: Fields, *, place: dict[str, Any], packed: PackedSeries, residency: str) -> dict[str, Any]:
    """One row of dicom.series, from the first header of the series object."""
    return place | {
        "series_instance_uid": text(fields, "SeriesInstanceUID"),
        "series_at": moment_of(None, text(fields, "SeriesDate"), text(fields, "SeriesTime")),
        "modality": _modality(fields),
        "series_number": integer(fields, "SeriesNumber"),
        "series_description": clean_description(text(fields, "SeriesDescription") or ""),
        "body_part_examined": text(fields, "BodyPartExamined"),
        "laterality": text(fields, "ImageLaterality") or text(fields, "Laterality"),
        "patient_position": text(fields, "PatientPosition"),
        "manufacturer": manufacturer_group(text(fields, "Manufacturer") or ""),
        "sop_class_uid": text(fields, "SOPClassUID"),
        "n_instances": len(packed.members),
        "series_bytes": sum(member.length for member in packed.members),
        "object_bytes": packed.n_bytes,
        "residency": residency,
    }


def study_row(fields: Fields, *, place: dict[str, Any], evidence: Evidence, age_years: int | None) -> dict[str, Any]:
    """One row of dicom.study without its time, counts and exam, from any stored header of the study.

    Parameters
    ----------
    evidence : Evidence
        Coded statements that were read from the identified headers (vocab).
    age_years : int or None
        Age at the exam, from `age_in_years` of the identified header.
    """
    sex = (text(fields, "PatientSex") or "").upper()
    return {
        **place,
        **decide(evidence).columns,
        "exam_evidence": evidence_to_json(evidence),
        "patient_sex": sex if sex in ("F", "M", "O") else "UNKNOWN",
        "patient_age_years": age_years,
        "study_description": clean_description(text(fields, "StudyDescription") or ""),
    }


def month_of(at: datetime | None) -> int:
    """The partition: yyyymm of a study, 190001 when it has no date."""
    return at.year * 100 + at.month if at else UNDATED_MONTH


def age_in_years(ds: Dataset) -> int | None:
    """Completed years at the exam, 90 for 90 and over: PatientAge (PS3.5 AS), else birth date and study date."""
    found = _AGE.fullmatch(_said(ds, "PatientAge").upper())
    if found:
        years = int(found[1]) // {"Y": 1, "M": 12, "W": 52, "D": 365}[found[2]]
        return min(years, 90)
    born, seen = (date_from_text(_said(ds, keyword)) for keyword in ("PatientBirthDate", "StudyDate"))
    if born is None or seen is None or seen < born:
        return None
    return min(seen.year - born.year - ((seen.month, seen.day) < (born.month, born.day)), 90)


def moment(ds: Dataset) -> datetime | None:
    """Local wall-clock time of the study, from an identified header."""
    return moment_of(None, _said(ds, "StudyDate"), _said(ds, "StudyTime"))


def moment_of(at: str | None, day: str | None, time: str | None) -> datetime | None:
    """Local wall-clock time from a DT, else from a DA and a TM (PS3.5 6.2)."""
    if at and (found := _DATETIME.match(at)):
        return _at(found[1], found[2])
    return _at(day or "", (time or "").replace(":", ""))


def _said(ds: Dataset, keyword: str) -> str:
    """Text of an identified header; several values with the backslash between them."""
    return "\\".join(texts(ds, tag_of(keyword)))


def _at(day: str, time: str) -> datetime | None:
    start = date_from_text(day)
    if start is None:
        return None
    found = _TIME.match(time)
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    if hours > 23 or minutes > 59:
        hours = minutes = seconds = 0
    return datetime(start.year, start.month, start.day, hours, minutes, min(seconds, 59))
