"""Rows of dicom.study, dicom.series and dicom.instance from de-identified data sets.

Only values that the contracts in schemas/dicom/ name; a value that cannot be read becomes NULL, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue

from radlake.dicom.values import date_from_text
from radlake.lake.objects import PackedMember, PackedSeries
from radlake.vocab import ExamFacts, clean_description, manufacturer_group

__all__ = ["age_in_years", "instance_row", "moment", "month_of", "series_row", "study_row"]

UNDATED_MONTH = 190001
_SMALL = 2**15 - 1  # SMALLINT
_AGE = re.compile(r"(\d{1,3})([DWMY])")


def instance_row(
    ds: Dataset, *, place: dict[str, Any], pixel_offset: int | None, member: PackedMember
) -> dict[str, Any]:
    """One row of dicom.instance.

    Parameters
    ----------
    ds : Dataset
        The de-identified data set.
    place : dict
        hospital_id, study_instance_uid, patient_key, study_month, object_path of the instance.
    pixel_offset : int or None
        Byte offset of the value of Pixel Data in the stored Part-10 file.
    member : PackedMember
        Where the file lies in the series object.
    """
    spacing = _numbers(ds, "PixelSpacing") or _numbers(ds, "ImagerPixelSpacing")
    has_pixels = "Rows" in ds
    return place | {
        "series_instance_uid": _text(ds, "SeriesInstanceUID"),
        "sop_instance_uid": _text(ds, "SOPInstanceUID"),
        "sop_class_uid": _text(ds, "SOPClassUID"),
        "transfer_syntax_uid": str(ds.file_meta.TransferSyntaxUID),
        "modality": _text(ds, "Modality") or "UNKNOWN",
        "instance_number": _integer(ds, "InstanceNumber"),
        "acquired_at": moment(ds, "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime")
        or moment(ds, None, "ContentDate", "ContentTime"),
        "image_type": _text(ds, "ImageType"),
        "rows": _integer(ds, "Rows"),
        "columns": _integer(ds, "Columns"),
        "n_frames": (_integer(ds, "NumberOfFrames") or 1) if has_pixels else 0,
        "samples_per_pixel": _integer(ds, "SamplesPerPixel", limit=_SMALL),
        "photometric_interpretation": _text(ds, "PhotometricInterpretation"),
        "bits_allocated": _integer(ds, "BitsAllocated", limit=_SMALL),
        "bits_stored": _integer(ds, "BitsStored", limit=_SMALL),
        "slice_thickness_mm": _number(ds, "SliceThickness"),
        "pixel_spacing_row_mm": spacing[0] if len(spacing) == 2 else None,
        "pixel_spacing_column_mm": spacing[1] if len(spacing) == 2 else None,
        "kvp": _number(ds, "KVP"),
        "ctdi_vol_mgy": _number(ds, "CTDIvol"),
        "magnetic_field_t": _number(ds, "MagneticFieldStrength"),
        "object_offset": member.offset,
        "instance_bytes": member.length,
        "pixel_offset": pixel_offset,
        "digest": member.digest,
    }


def series_row(ds: Dataset, *, place: dict[str, Any], packed: PackedSeries) -> dict[str, Any]:
    """One row of dicom.series, from the first data set of the series object."""
    return place | {
        "series_instance_uid": _text(ds, "SeriesInstanceUID"),
        "series_at": moment(ds, None, "SeriesDate", "SeriesTime"),
        "modality": _text(ds, "Modality") or "UNKNOWN",
        "series_number": _integer(ds, "SeriesNumber"),
        "series_description": clean_description(_text(ds, "SeriesDescription") or ""),
        "body_part_examined": _text(ds, "BodyPartExamined"),
        "laterality": _text(ds, "ImageLaterality") or _text(ds, "Laterality"),
        "patient_position": _text(ds, "PatientPosition"),
        "manufacturer": manufacturer_group(_text(ds, "Manufacturer") or ""),
        "sop_class_uid": _text(ds, "SOPClassUID"),
        "n_instances": len(packed.members),
        "series_bytes": sum(member.length for member in packed.members),
        "object_bytes": packed.n_bytes,
    }


def study_row(ds: Dataset, *, place: dict[str, Any], facts: ExamFacts, age_years: int | None) -> dict[str, Any]:
    """One row of dicom.study without its time, counts and exam, from any de-identified data set of the study.

    Parameters
    ----------
    facts : ExamFacts
        Coded facts that were read from the identified headers (vocab).
    age_years : int or None
        Age at the exam, from `age_in_years` of the identified header.
    """
    sex = (_text(ds, "PatientSex") or "").upper()
    return place | {
        "modality_group": facts.modality_group,
        "modalities_in_study": facts.modalities_in_study,
        "body_part_code": facts.body_part_code,
        "body_part_source": facts.body_part_source,
        "laterality_code": facts.laterality_code,
        "has_contrast": facts.has_contrast,
        "patient_sex": sex if sex in ("F", "M", "O") else "UNKNOWN",
        "patient_age_years": age_years,
        "study_description": clean_description(_text(ds, "StudyDescription") or ""),
    }


def month_of(at: datetime | None) -> int:
    """The partition: yyyymm of a study, 190001 when it has no date."""
    return at.year * 100 + at.month if at else UNDATED_MONTH


def age_in_years(ds: Dataset) -> int | None:
    """Completed years at the exam, 90 for 90 and over: PatientAge (PS3.5 AS), else birth date and study date."""
    found = _AGE.fullmatch((_text(ds, "PatientAge") or "").strip().upper())
    if found:
        years = int(found[1]) // {"Y": 1, "M": 12, "W": 52, "D": 365}[found[2]]
        return min(years, 90)
    born, seen = (date_from_text(_text(ds, keyword) or "") for keyword in ("PatientBirthDate", "StudyDate"))
    if born is None or seen is None or seen < born:
        return None
    return min(seen.year - born.year - ((seen.month, seen.day) < (born.month, born.day)), 90)


def moment(ds: Dataset, at: str | None, day: str, time: str) -> datetime | None:
    """Local wall-clock time from a DT attribute, else from a DA and a TM attribute (PS3.5 6.2)."""
    if at and (found := re.match(r"(\d{8})(\d{0,6})", _text(ds, at) or "")):
        return _at(found[1], found[2])
    return _at(_text(ds, day) or "", (_text(ds, time) or "").replace(":", ""))


def _at(day: str, time: str) -> datetime | None:
    start = date_from_text(day)
    if start is None:
        return None
    found = re.match(r"(\d{2})(\d{2})?(\d{2})?", time)
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    if hours > 23 or minutes > 59:
        hours = minutes = seconds = 0
    return datetime(start.year, start.month, start.day) + timedelta(
        hours=hours, minutes=minutes, seconds=min(seconds, 59)
    )


def _value(ds: Dataset, keyword: str) -> Any:
    try:
        return ds.get(keyword)
    except Exception:  # a value that pydicom cannot decode: the row says NULL, the object keeps the bytes
        return None


def _text(ds: Dataset, keyword: str) -> str | None:
    value = _value(ds, keyword)
    if value is None:
        return None
    parts: Sequence[Any] = value if isinstance(value, (MultiValue, list, tuple)) else [value]
    text = "\\".join(str(part).strip() for part in parts)
    return text.encode("utf-8", "replace").decode("utf-8") or None


def _numbers(ds: Dataset, keyword: str) -> list[float]:
    value = _value(ds, keyword)
    parts = value if isinstance(value, (MultiValue, list, tuple)) else [value]
    try:
        return [float(part) for part in parts if part is not None and str(part).strip()]
    except (TypeError, ValueError):
        return []


def _number(ds: Dataset, keyword: str) -> float | None:
    numbers = _numbers(ds, keyword)
    return numbers[0] if numbers else None


def _integer(ds: Dataset, keyword: str, *, limit: int = 2**31 - 1) -> int | None:
    number = _number(ds, keyword)
    return int(number) if number is not None and number == int(number) and abs(number) <= limit else None
