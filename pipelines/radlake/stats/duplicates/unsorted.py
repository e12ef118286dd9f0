"""Repeats within any window straight from core.exam as it lies, by month: when no sequence was built, and to check it.

A range of persons at a time is read from the files that may hold it, sorted and compared as arrays. It shares nothing
with `layout` and `pairs` but the numbers of `codes`. Encounters are in other tables and are not looked at: an exam on
another day of the same stay counts here, and links of persons are not followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from radlake.contracts import load_table
from radlake.errors import ContractBroken
from radlake.lake import Lake, parquet
from radlake.sqlrun.date_offsets import DateOffsets
from radlake.stats.duplicates.codes import code_rows
from radlake.stats.duplicates.packs import load_windows
from radlake.stats.duplicates.places import told_apart
from radlake.stats.duplicates.sequence import person_ranges

__all__ = ["earlier_exams", "exam_columns", "exam_order", "repeats_unsorted"]

_EXAM = "core.exam"
_DAY = 86_400
_ROWS_AT_ONCE = 3_000_000  # fewer would read more row groups twice, more would need more memory
_NO_KIND = 0
_LEFT, _RIGHT = 1, 2
_NUMBER_BITS = 63
_ROWS = """
SELECT
    exam.patient_key,
    CASE WHEN exam.is_patient_known AND exam.body_part_code <> 'UNKNOWN'
        THEN modality.code * {n_parts} + part.code + 1 ELSE {no_kind} END::INTEGER AS kind,
    epoch_us(exam.study_at) // 1000000 AS moved_at,
    (place.code * {n_modalities} + modality.code)::INTEGER AS place,
    CASE exam.laterality_code WHEN 'L' THEN {left} WHEN 'R' THEN {right} ELSE 0 END::TINYINT AS side,
    (place.site * 2 + (exam.laterality_code = 'B')::INTEGER) * 4 + side AS tie
FROM (SELECT {columns} FROM read_parquet({files}, hive_partitioning = false)) AS exam
INNER JOIN modality ON exam.modality_group = modality.label
INNER JOIN part ON exam.body_part_code = part.label
INNER JOIN place ON exam.hospital_id = place.label
WHERE exam.study_at IS NOT NULL AND exam.patient_key >= {low} AND exam.patient_key < {high}
"""


def exam_columns() -> tuple[str, ...]:
    """What is read of core.exam: a plain scan of these is what the count is measured against."""
    return (
        *("patient_key", "hospital_id", "modality_group", "body_part_code", "laterality_code", "study_at"),
        "is_patient_known",
    )


@dataclass(frozen=True)
class _Job:
    codes: pa.Table
    months: np.ndarray
    n_places: int
    n_modalities: int
    n_parts: int
    window_days: int
    max_person_exams: int
    date_offsets: DateOffsets
    workers: int

    def count(self, low: int, high: int, files: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Exams and repeats by month, place and modality, of the persons from `low` to before `high`."""
        n_cells = len(self.months) * self.n_places * self.n_modalities
        rows = self._rows(low, high, files)
        if not rows.num_rows:
            return np.zeros(n_cells, np.int64), np.zeros(n_cells, np.int64)
        order = exam_order(*(rows[name].to_numpy() for name in ("patient_key", "kind", "moved_at", "tie")))
        key, kind, at, side, place = (
            rows[name].to_numpy()[order] for name in ("patient_key", "kind", "moved_at", "side", "place")
        )
        is_first = np.append(True, key[1:] != key[:-1])
        begins = np.flatnonzero(is_first)
        n_of_person = np.diff(np.append(begins, len(key)))
        day = (at - np.repeat(self.date_offsets(key[begins]), n_of_person)) // _DAY
        is_shared = np.repeat(n_of_person > self.max_person_exams, n_of_person)
        is_alone = is_first | np.append(True, kind[1:] != kind[:-1]) | (kind == _NO_KIND) | is_shared
        earlier = earlier_exams(is_alone, side)
        gap = day - day[earlier]
        is_repeat = (earlier >= 0) & (gap >= 1) & (gap <= self.window_days)
        cell = self._month_numbers(day) * (self.n_places * self.n_modalities) + place
        return np.bincount(cell, minlength=n_cells), np.bincount(cell[is_repeat], minlength=n_cells)

    def _month_numbers(self, day: np.ndarray) -> np.ndarray:
        """Number of the month of each day since 1970, looked up in a table of all days that occur."""
        low = int(day.min())
        months = np.arange(low, int(day.max()) + 1).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
        numbers = np.searchsorted(self.months, (months // 12 + 1970) * 100 + months % 12 + 1)
        return numbers[day - low]

    def _rows(self, low: int, high: int, files: Sequence[str]) -> pa.Table:
        with parquet.new_connection(threads=self.workers) as connection:
            connection.register("codes", self.codes)
            for table, kind in (("modality", "modality"), ("part", "body_part")):
                connection.execute(
                    f"CREATE TABLE {table} AS SELECT label, code FROM codes WHERE code_kind = '{kind}'"  # fixed names
                )
            connection.execute(
                "CREATE TABLE place AS SELECT site.label, site.code AS site, place.code"
                " FROM codes AS site INNER JOIN codes AS place"
                " USING (region_code, hospital_level) WHERE site.code_kind = 'site' AND place.code_kind = 'place'"
            )
            listed = ", ".join(parquet.text(file) for file in files)
            query = _ROWS.format(
                columns=", ".join(exam_columns()), files=f"[{listed}]", low=low, high=high,
                n_modalities=self.n_modalities, n_parts=self.n_parts, no_kind=_NO_KIND, left=_LEFT, right=_RIGHT,
            )  # fmt: skip
            return connection.sql(query).to_arrow_table().combine_chunks()


def repeats_unsorted(lake: Lake, *, date_offsets: DateOffsets, window_days: int, workers: int = 2) -> pa.Table:
    """Rows as `places.repeats_by_place` gives them, encounters and links apart.

    Raises
    ------
    ContractBroken
        If there is no exam.
    """
    snapshot = lake.tables.snapshot(_EXAM)
    files = snapshot.files() if snapshot else []
    if snapshot is None or not files:
        raise ContractBroken(table=_EXAM, problems=["there is no exam; run `radlake build` first"])
    with parquet.new_connection(threads=workers, filesystem=lake.tables.filesystem) as connection:
        exams = parquet.scan(load_table(_EXAM), files)
        hospitals = parquet.scan(load_table("ref.hospital"), lake.tables.files("ref.hospital"))
        codes = code_rows(connection, exams=exams, hospitals=hospitals)
        ranges = person_ranges(connection, exams, n_rows=_ROWS_AT_ONCE)
    of_kind: dict[str, list[str]] = {}
    for row in codes.to_pylist():
        of_kind.setdefault(row["code_kind"], []).append(row["label"])
    job = _Job(
        codes=codes,
        months=np.array([int(month) for month in of_kind["month"]]),
        n_places=len(of_kind["place"]),
        n_modalities=len(of_kind["modality"]),
        n_parts=len(of_kind["body_part"]),
        window_days=window_days,
        max_person_exams=load_windows().max_person_exams,
        date_offsets=date_offsets,
        workers=workers,
    )

    def count(low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        return job.count(low, high, snapshot.files(where=f"patient_key >= {low} AND patient_key < {high}"))

    n_exams, n_repeats = np.sum([count(low, high) for low, high in ranges], axis=0)
    return told_apart(n_exams, n_repeats, codes=codes)


def exam_order(key: np.ndarray, kind: np.ndarray, at: np.ndarray, tie: np.ndarray) -> np.ndarray:
    """Places of the rows in the order of all four; fastest if `key` ascends in a few runs, as in files of months.

    A stable sort by person uses the runs; then all but ties is one number for each row, nearly in order.
    """
    order = np.argsort(key, kind="stable")
    persons = np.cumsum(np.append(False, key[order[1:]] != key[order[:-1]]))
    parts = (persons, kind[order], at[order] - at.min())
    widths = [int(part.max()).bit_length() for part in parts]
    if sum(widths) > _NUMBER_BITS:  # a clock was wrong by centuries
        return np.lexsort((tie, at, kind, key))
    number = ((parts[0] << widths[1] | parts[1]) << widths[2]) | parts[2]
    inner = np.argsort(number, kind="stable")
    order, number = order[inner], number[inner]
    is_same = number[1:] == number[:-1]
    tied = np.flatnonzero(np.append(is_same, False) | np.append(False, is_same))
    order[tied] = order[tied][np.lexsort((tie[order[tied]], number[tied]))]
    return order


def earlier_exams(begins: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Place of the latest earlier exam of a compatible side in the same group, or -1; `begins` tells groups."""
    earlier = np.arange(len(side)) - 1
    earlier[begins] = -1
    rows = np.flatnonzero((side != 0) & ~begins)
    while len(rows := rows[side[rows] + side[earlier[rows]] == _LEFT + _RIGHT]):
        before = earlier[rows]
        earlier[rows] = np.where(begins[before], -1, before - 1)
        rows = rows[~begins[before]]
    return earlier
