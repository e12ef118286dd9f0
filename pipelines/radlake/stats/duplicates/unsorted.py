"""Repeats within any window straight from core.exam as it lies, by month: when no sequence was built, and to check it.

A range of persons at a time is read from the files that may hold it, sorted, and compared by arrays. It shares nothing
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

__all__ = ["earlier_exams", "exam_columns", "repeats_unsorted"]

_EXAM = "core.exam"
_DAY = 86_400
_ROWS_AT_ONCE = 3_000_000  # fewer would read more row groups twice, more would need more memory
_NO_KIND = 0
_LEFT, _RIGHT = 1, 2
# The texts are few and joins with few rows are nearly free; sorting is what costs.
_SORTED = """
SELECT
    exam.patient_key,
    CASE WHEN exam.is_patient_known AND exam.body_part_code <> 'UNKNOWN'
        THEN modality.code * 65536 + part.code + 1 ELSE {no_kind} END AS kind,
    epoch_us(exam.study_at) // 1000000 AS moved_at,
    (place.code * {n_modalities} + modality.code)::INTEGER AS place,
    CASE exam.laterality_code WHEN 'L' THEN {left} WHEN 'R' THEN {right} ELSE 0 END::TINYINT AS side
FROM (SELECT {columns} FROM read_parquet({files}, hive_partitioning = false)) AS exam
INNER JOIN modality ON exam.modality_group = modality.label
INNER JOIN part ON exam.body_part_code = part.label
INNER JOIN place ON exam.hospital_id = place.label
WHERE exam.study_at IS NOT NULL AND exam.patient_key >= {low} AND exam.patient_key < {high}
ORDER BY patient_key, kind, moved_at, place.site, exam.laterality_code = 'B', side
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
    window_days: int
    max_person_exams: int
    date_offsets: DateOffsets
    workers: int

    def count(self, low: int, high: int, files: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Exams and repeats by month, place and modality, of the persons from `low` to before `high`."""
        n_cells = len(self.months) * self.n_places * self.n_modalities
        rows = self._rows(low, high, files)
        key, kind, at, side = (rows[name].to_numpy() for name in ("patient_key", "kind", "moved_at", "side"))
        if not len(key):
            return np.zeros(n_cells, np.int64), np.zeros(n_cells, np.int64)
        is_first = np.append(True, key[1:] != key[:-1])
        begins = np.flatnonzero(is_first)
        n_of_person = np.diff(np.append(begins, len(key)))
        day = (at - np.repeat(self.date_offsets(key[begins]), n_of_person)) // _DAY
        earlier = earlier_exams(is_first | np.append(True, kind[1:] != kind[:-1]), side)
        gap = day - day[earlier]
        is_person = np.repeat(n_of_person <= self.max_person_exams, n_of_person)
        is_repeat = (earlier >= 0) & (gap >= 1) & (gap <= self.window_days) & (kind != _NO_KIND) & is_person
        cell = self._month_numbers(day) * (self.n_places * self.n_modalities) + rows["place"].to_numpy()
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
            query = _SORTED.format(
                columns=", ".join(exam_columns()), files=f"[{listed}]", low=low, high=high,
                n_modalities=self.n_modalities, no_kind=_NO_KIND, left=_LEFT, right=_RIGHT,
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
        window_days=window_days,
        max_person_exams=load_windows().max_person_exams,
        date_offsets=date_offsets,
        workers=workers,
    )

    def count(low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        return job.count(low, high, snapshot.files(where=f"patient_key >= {low} AND patient_key < {high}"))

    n_exams, n_repeats = np.sum([count(low, high) for low, high in ranges], axis=0)
    return told_apart(n_exams, n_repeats, codes=codes)


def earlier_exams(begins: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Place of the latest earlier exam of a compatible side in the same group, or -1; `begins` tells groups."""
    place = np.arange(len(side))
    earlier = place - 1
    for mine, other in ((_LEFT, _RIGHT), (_RIGHT, _LEFT)):
        latest = np.maximum.accumulate(np.where(side != other, place, -1))
        is_mine = np.flatnonzero(side[1:] == mine) + 1
        earlier[is_mine] = latest[is_mine - 1]
    first = np.maximum.accumulate(np.where(begins, place, 0))
    return np.where(earlier >= first, earlier, -1)
