"""What can be searched for and what a search returns, by level (PS3.18 Tables 10.6.1-5 and 10.6.3-3 to -5).

Attributes without SQL have no value in any object of the lake: de-identification empties or removes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from pydicom.datadict import dictionary_VR, tag_for_keyword

__all__ = ["ATTRIBUTES", "OF_SEQUENCES", "Attribute", "Kind", "Level"]


class Level(IntEnum):
    STUDY = 0
    SERIES = 1
    INSTANCE = 2

    @property
    def uid(self) -> str:
        """Keyword of the UID that names a resource of this level."""
        return ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")[self]


class Kind(StrEnum):
    """How values are matched, and written in DICOM JSON."""

    UID = "uid"
    TEXT = "text"
    TEXTS = "texts"  # joined by a backslash in the table; one that matches is enough
    DATE = "date"  # of a timestamp
    TIME = "time"
    NUMBER = "number"
    PERSON_KEY = "person_key"  # 16 hexadecimal digits in the objects, a number in the tables


@dataclass(frozen=True)
class Attribute:
    """One attribute of a level.

    Attributes
    ----------
    sql : str
        Over rows of the tables of the level; empty when no object of the lake has a value.
    gathers : {"min", "max", "sum"}
        How rows of one study or series (of several hospitals or harvests) become one value.
    """

    keyword: str
    level: Level
    kind: Kind
    sql: str = ""
    gathers: str = "min"
    is_default: bool = True

    @property
    def tag(self) -> int:
        return tag_for_keyword(self.keyword) or 0

    @property
    def vr(self) -> str:
        return dictionary_VR(self.tag)


def _study(keyword: str, kind: Kind, column: str = "", gathers: str = "min", *, is_default: bool = True) -> Attribute:
    return Attribute(keyword, Level.STUDY, kind, column and f"study.{column}", gathers, is_default)


def _series(keyword: str, kind: Kind, column: str = "", gathers: str = "min", *, is_default: bool = True) -> Attribute:
    return Attribute(keyword, Level.SERIES, kind, column and f"series.{column}", gathers, is_default)


def _instance(keyword: str, kind: Kind, column: str, *, is_default: bool = True) -> Attribute:
    return Attribute(keyword, Level.INSTANCE, kind, f"instance.{column}", is_default=is_default)


_AVAILABILITY = "CASE series.residency WHEN 'central' THEN 'ONLINE' ELSE 'NEARLINE' END"  # of a study see `catalogue`

_ALL = (
    _study("StudyDate", Kind.DATE, "study_at"),
    _study("StudyTime", Kind.TIME, "study_at"),
    _study("AccessionNumber", Kind.TEXT),
    _study("ModalitiesInStudy", Kind.TEXTS, "modalities_in_study", "max"),
    _study("ReferringPhysicianName", Kind.TEXT),
    _study("StudyDescription", Kind.TEXT, "study_description"),
    _study("PatientName", Kind.PERSON_KEY, "patient_key"),
    _study("PatientID", Kind.PERSON_KEY, "patient_key"),
    _study("PatientBirthDate", Kind.DATE),
    Attribute("PatientSex", Level.STUDY, Kind.TEXT, "nullif(study.patient_sex, 'UNKNOWN')"),
    _study("StudyInstanceUID", Kind.UID, "study_instance_uid"),
    _study("StudyID", Kind.TEXT),
    _study("NumberOfStudyRelatedSeries", Kind.NUMBER, "n_series", "max"),
    _study("NumberOfStudyRelatedInstances", Kind.NUMBER, "n_instances", "max"),
    _series("SeriesInstanceUID", Kind.UID, "series_instance_uid"),
    _series("Modality", Kind.TEXT, "modality"),
    _series("SeriesNumber", Kind.NUMBER, "series_number"),
    _series("SeriesDescription", Kind.TEXT, "series_description"),
    _series("SeriesDate", Kind.DATE, "series_at", is_default=False),
    _series("SeriesTime", Kind.TIME, "series_at", is_default=False),
    _series("BodyPartExamined", Kind.TEXT, "body_part_examined", is_default=False),
    _series("Laterality", Kind.TEXT, "laterality", is_default=False),
    _series("PatientPosition", Kind.TEXT, "patient_position", is_default=False),
    _series("NumberOfSeriesRelatedInstances", Kind.NUMBER, "n_instances", "sum"),
    Attribute("InstanceAvailability", Level.SERIES, Kind.TEXT, _AVAILABILITY),
    _series("RequestAttributesSequence", Kind.TEXT),
    _series("PerformedProcedureStepStartDate", Kind.DATE),
    _series("PerformedProcedureStepStartTime", Kind.TIME),
    _instance("SOPInstanceUID", Kind.UID, "sop_instance_uid"),
    _instance("SOPClassUID", Kind.UID, "sop_class_uid"),
    _instance("InstanceNumber", Kind.NUMBER, "instance_number"),
    _instance("Rows", Kind.NUMBER, "rows"),
    _instance("Columns", Kind.NUMBER, "columns"),
    _instance("BitsAllocated", Kind.NUMBER, "bits_allocated"),
    Attribute("NumberOfFrames", Level.INSTANCE, Kind.NUMBER, "nullif(instance.n_frames, 0)"),
    _instance("AvailableTransferSyntaxUID", Kind.UID, "transfer_syntax_uid"),
)

ATTRIBUTES: Mapping[str, Attribute] = {attribute.keyword: attribute for attribute in _ALL}

# Attributes of items that are searched for, and that of the sequence (PS3.18 Table 10.6.1-5).
OF_SEQUENCES = {
    f"RequestAttributesSequence.{keyword}": "RequestAttributesSequence"
    for keyword in ("ScheduledProcedureStepID", "RequestedProcedureID")
}
