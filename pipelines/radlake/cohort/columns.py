"""What a release tells: its tables and their columns, described by the contracts of the lake where they come from.

Rows are in the order of the release's own pseudonyms: the order of the lake would join two releases by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from radlake.contracts import load_table

__all__ = ["RELEASED", "ReleasedColumn", "identities"]


@dataclass(frozen=True)
class ReleasedColumn:
    """A column of a release; `privacy` is a class of contracts."""

    name: str
    type: str
    privacy: str
    description: str


def _of(table: str, *names: str) -> tuple[ReleasedColumn, ...]:
    columns = load_table(table)
    return tuple(
        ReleasedColumn(column.name, column.type, column.privacy, column.description)
        for column in (columns.column(name) for name in names)
    )


_PERSON = ReleasedColumn("person_pseudo_id", "VARCHAR", "pseudonym", "Pseudonym of the person in this project alone.")
_EXAM = ReleasedColumn("exam_pseudo_id", "VARCHAR", "pseudonym", "Pseudonym of the exam in this project alone.")
_SITE = ReleasedColumn("site_pseudo_id", "VARCHAR", "pseudonym", "Pseudonym of the hospital in this project alone.")

RELEASED: Mapping[str, tuple[ReleasedColumn, ...]] = {
    "person": (
        _PERSON,
        ReleasedColumn("patient_sex", "VARCHAR", "quasi_identifier",
                       "Sex as recorded at the first index exam; of a control, at the exam that was drawn."),
        ReleasedColumn("age_from_years", "SMALLINT", "quasi_identifier",
                       "First completed year of the age band at the first index exam; NULL when it is not told."),
        ReleasedColumn("age_to_years", "SMALLINT", "quasi_identifier", "Last completed year of the age band."),
        ReleasedColumn("region_code", "VARCHAR", "quasi_identifier",
                       "GB/T 2260 code of the place of the first index exam, as coarse as its class needs."),
    ),
    "exam": (
        _EXAM, _PERSON, _SITE,
        ReleasedColumn("role", "VARCHAR", "technical", "index, follow_up of an index exam, or control."),
        *_of("core.exam", "study_at", "modality_group", "body_part_code", "laterality_code", "contrast_code",
             "confidence_code", "loinc_code"),
    ),
    "follow_up": (
        ReleasedColumn("index_exam_pseudo_id", "VARCHAR", "pseudonym", "The index exam."),
        _EXAM, _PERSON,
        ReleasedColumn("days_after", "BIGINT", "clinical", "Days from the index exam, on the true calendar."),
    ),
    "control": (
        ReleasedColumn("index_exam_pseudo_id", "VARCHAR", "pseudonym", "The index exam of the case."),
        _EXAM, _PERSON,
    ),
    "finding": (_EXAM, _PERSON, *_of("core.finding", "finding_code", "certainty_code")),
    "series": (
        _PERSON, _EXAM, *_of("dicom.series", "study_instance_uid", "series_instance_uid", "series_at", "modality",
        "series_number", "series_description", "body_part_examined", "laterality", "patient_position", "manufacturer",
        "sop_class_uid", "n_instances"),
        ReleasedColumn("object_path", "VARCHAR", "pseudonym", "Series object below `objects` of the release."),
        ReleasedColumn("object_bytes", "BIGINT", "technical", "Bytes of the series object."),
        ReleasedColumn("object_digest", "VARCHAR", "pseudonym", "XXH3-128 of the series object."),
    ),
    "instance": (
        _PERSON, *_of("dicom.instance", "study_instance_uid", "series_instance_uid", "sop_instance_uid",
        "sop_class_uid", "transfer_syntax_uid", "modality", "instance_number", "acquired_at", "image_type", "rows",
        "columns", "n_frames", "samples_per_pixel", "photometric_interpretation", "bits_allocated", "bits_stored",
        "slice_thickness_mm", "pixel_spacing_row_mm", "pixel_spacing_column_mm", "kvp", "ctdi_vol_mgy",
        "magnetic_field_t", "object_path", "object_offset", "instance_bytes", "pixel_offset", "digest"),
    ),
}  # fmt: skip

_NEVER_COMMON = ("pseudonym", "shifted_date")


def identities(table: str) -> list[str]:
    """Columns whose values are a project's own: two releases must have none in common."""
    own = {"digest"} if table == "instance" else set()
    return [c.name for c in RELEASED[table] if c.privacy in _NEVER_COMMON or c.name in own]
