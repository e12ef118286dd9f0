"""A list of de-identified exams: what `radlake trace --list` tells of each, as a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from radlake.web.grid import Column, Grid

__all__ = ["listing"]

_COLUMNS = {
    "exam_pseudo_id": Column("exam", "text"),
    "hospital_id": Column("hospital", "hospital"),
    "study_at": Column("shifted_date", "text"),
    "modality_group": Column("modality", "modality"),
    "body_part_code": Column("body_part", "part"),
    "laterality_code": Column("side", "side"),
    "patient_sex": Column("sex", "sex"),
    "patient_age_years": Column("age_years", "count"),
    "n_studies": Column("exam_studies", "count"),
    "n_instances": Column("exam_instances", "count"),
    "exam_bytes": Column("exam_bytes", "bytes"),
}


def listing(exams: Sequence[Mapping[str, str | int | None]]) -> Grid:
    """A row an exam; of its shifted time only the day."""
    rows = [tuple(_cell(exam[name], name) for name in _COLUMNS) for exam in exams]
    return Grid([*_COLUMNS.values()], rows)


def _cell(value: str | int | None, name: str) -> str | int | None:
    return f"{datetime.fromisoformat(str(value)):%Y-%m-%d}" if name == "study_at" and value is not None else value
