"""The exams that a number counts, as the lake knows them: de-identified, dates shifted. Nothing is calculated again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from radlake.config import Settings
from radlake.contracts import load_table
from radlake.contracts.periods import is_of_period
from radlake.ingest.offsets import date_offsets
from radlake.lake import Lake, duck
from radlake.lineage.exams import ExamId, counted_exams
from radlake.lineage.number import Number, NumberInvalid, shown
from radlake.lineage.rerun import build_of

__all__ = ["ListedExams", "listed_exams"]

_COLUMNS = (
    "hospital_id", "exam_pseudo_id", "study_at", "modality_group", "body_part_code", "laterality_code", "patient_sex",
    "patient_age_years", "n_studies", "n_instances", "exam_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class ListedExams:
    """Exams of a number.

    Attributes
    ----------
    n_exams : int
        All of them.
    exams : tuple of mapping
        The first of them: columns of core.exam by name.
    """

    number: Number
    value: object
    n_exams: int
    exams: tuple[Mapping[str, object], ...]


def listed_exams(settings: Settings, text: str, *, limit: int) -> ListedExams:
    """List the exams of a number by its name.

    Raises
    ------
    NumberInvalid
        If it counts no exams, or those of one calendar month or year: the true month beside a shifted date would tell
        by how much it is shifted.
    CellMasked, SnapshotGone, KeyMissing, KeyMismatch
    """
    lake, number = Lake.from_settings(settings), Number.from_text(text)
    if is_of_period(str(number)):
        reason = "the true month beside shifted dates would tell by how much they are shifted; leave the period out"
        raise NumberInvalid(number=str(number), reason=reason)
    found = shown(lake, number)
    build = build_of(lake, found.number.table, found.version)
    counted = None
    if build is not None and build.query and found.number.table.disclosure is not None:
        with date_offsets(settings) as offsets:
            counted = counted_exams(lake, found, build, date_offsets=offsets, limit=limit)
    if build is None or counted is None:
        raise NumberInvalid(number=str(found.number), reason="it counts no exams that could be listed")
    exams = _exams(lake, counted.first, version=build.inputs.get(load_table("core.exam").full_name))
    return ListedExams(found.number, found.value, counted.n_exams, exams)


def _exams(lake: Lake, wanted: tuple[ExamId, ...], *, version: int | None) -> tuple[Mapping[str, object], ...]:
    table = load_table("core.exam")
    snapshot = {} if version is None else {table.full_name: version}
    with duck.connect(lake, snapshot=snapshot, tables=[table.full_name]) as connection:
        rows = connection.execute(
            f"""
            SELECT {", ".join(_COLUMNS)}
            FROM {table.full_name}
            WHERE list_contains(?::STRUCT(h VARCHAR, e VARCHAR)[], {{'h': hospital_id, 'e': exam_pseudo_id}})
            ORDER BY ALL
            """,
            [[{"h": hospital, "e": exam} for hospital, exam in wanted]],
        ).fetchall()
    return tuple(dict(zip(_COLUMNS, row, strict=True)) for row in rows)
