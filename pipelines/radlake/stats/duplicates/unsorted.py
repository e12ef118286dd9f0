"""Repeats within any window straight from core.exam as it lies, by month: when no sequence was built, and to check it.

A range of persons at a time comes from `by_person`, is sorted and compared as arrays. It shares nothing with `layout`
and `pairs` but the numbers of `codes`. Encounters are in other tables and are not looked at: an exam on another day of
the same stay counts here, and links of persons are not followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from radlake.contracts import load_table
from radlake.errors import ContractBroken
from radlake.lake import Lake, parquet
from radlake.sqlrun.date_offsets import DateOffsets
from radlake.stats.duplicates.by_person import LEFT, RIGHT, Exams, Numbers, RowGroup, exams_by_person, row_groups
from radlake.stats.duplicates.codes import code_rows
from radlake.stats.duplicates.packs import load_windows
from radlake.stats.duplicates.places import told_apart
from radlake.stats.duplicates.sequence import ranges_of_persons

__all__ = ["earlier_exams", "in_order", "repeats_unsorted"]

_EXAM = "core.exam"
_DAY = 86_400
_ROWS_AT_ONCE = 400_000  # more would need more memory and save little
_NUMBER_BITS = 63


@dataclass(frozen=True)
class _Job:
    groups: Sequence[RowGroup]
    numbers: Numbers
    n_cells: int
    first_day: int
    cell_of_day: np.ndarray
    window_days: int
    max_person_exams: int
    date_offsets: DateOffsets
    filesystem: Any

    def count_ranges(self, ranges: Sequence[tuple[int, int]]) -> np.ndarray:
        """Exams and repeats by month, place and modality, of the persons of ranges that follow each other."""
        counts = np.zeros((2, self.n_cells), np.int64)
        for exams in exams_by_person(self.groups, ranges, numbers=self.numbers, filesystem=self.filesystem):
            self._count(in_order(exams), counts)
        return counts

    def _count(self, exams: Exams, counts: np.ndarray) -> None:
        key, kind = exams.key, exams.kind
        is_first = np.append(True, key[1:] != key[:-1])
        begins = np.flatnonzero(is_first)
        n_of_person = np.diff(np.append(begins, len(key)))
        day = (exams.at - np.repeat(self.date_offsets(key[begins]), n_of_person)) // _DAY
        is_alone = is_first | np.append(True, kind[1:] != kind[:-1]) | (kind & 1).astype(bool)
        if n_of_person.max() > self.max_person_exams:
            is_alone |= np.repeat(n_of_person > self.max_person_exams, n_of_person)
        earlier = earlier_exams(is_alone, exams.tie & (LEFT | RIGHT))
        later = np.flatnonzero(earlier >= 0)
        gap = day[later] - day[earlier[later]]
        repeats = later[(gap >= 1) & (gap <= self.window_days)]
        cell = self.cell_of_day[day - self.first_day] + exams.place
        for number, cells in enumerate((cell, cell[repeats])):
            counts[number] += np.bincount(cells, minlength=self.n_cells)


def repeats_unsorted(lake: Lake, *, date_offsets: DateOffsets, window_days: int, workers: int = 2) -> pa.Table:
    """Rows as `places.repeats_by_place` gives them, encounters and links apart.

    Raises
    ------
    ContractBroken
        If there is no exam.
    """
    files = lake.tables.files(_EXAM)
    if not files:
        raise ContractBroken(table=_EXAM, problems=["there is no exam; run `radlake build` first"])
    filesystem: Any = lake.tables.filesystem
    with parquet.new_connection(threads=workers, filesystem=filesystem) as connection:
        exams = parquet.scan(load_table(_EXAM), files)
        hospitals = parquet.scan(load_table("ref.hospital"), lake.tables.files("ref.hospital"))
        codes = code_rows(connection, exams=exams, hospitals=hospitals)
    groups = row_groups(files, filesystem=filesystem)
    numbers = Numbers.of(codes)
    months = np.array([int(row["label"]) for row in codes.to_pylist() if row["code_kind"] == "month"])
    n_of_month = numbers.n_places * numbers.n_modalities
    first_day, month_of_day = _months_of_days(months)
    job = _Job(
        groups=groups,
        numbers=numbers,
        n_cells=len(months) * n_of_month,
        first_day=first_day,
        cell_of_day=month_of_day * n_of_month,
        window_days=window_days,
        max_person_exams=load_windows().max_person_exams,
        date_offsets=date_offsets,
        filesystem=filesystem,
    )
    ranges = ranges_of_persons(
        sum(group.n_rows for group in groups),
        least=groups[0].least,
        greatest=max(group.greatest for group in groups),
        n_rows=_ROWS_AT_ONCE,
    )
    each = -(-len(ranges) // workers)
    with ThreadPoolExecutor(workers) as pool:
        parts = pool.map(job.count_ranges, [ranges[start : start + each] for start in range(0, len(ranges), each)])
        n_exams, n_repeats = np.sum(list(parts), axis=0)
    return told_apart(n_exams, n_repeats, codes=codes)


def _months_of_days(months: np.ndarray) -> tuple[int, np.ndarray]:
    """The first day of months (yyyymm, ascending) since 1970, and the place of the month of each day from it."""
    starts = ((months // 100 - 1970) * 12 + months % 100 - 1).astype("datetime64[M]")
    days = np.arange(starts[0], starts[-1] + 1, dtype="datetime64[D]")
    return int(days[0].astype(int)), np.searchsorted(starts, days, side="right") - 1


def in_order(exams: Exams) -> Exams:
    """Exams by person, kind, time and tie; fastest if they come in runs of persons and kinds, the earlier runs first.

    A stable sort by person and kind merges runs, as files of months are, and leaves the exams of a group in the order
    of time. Where that is not so, the group is sorted by itself.
    """
    low = exams.key.min()
    kind_bits = int(exams.kind.max()).bit_length()
    dropped_bits = max(0, int(exams.key.max() - low).bit_length() + kind_bits - _NUMBER_BITS)
    exams = exams[np.argsort((exams.key - low) >> dropped_bits << kind_bits | exams.kind, kind="stable")]
    key, kind, at, tie = exams.key, exams.kind, exams.at, exams.tie
    if (key[1:] < key[:-1]).any():  # two persons who differ in the bits that were dropped alone
        return exams[np.lexsort((tie, at, kind, key))]
    is_same = (key[1:] == key[:-1]) & (kind[1:] == kind[:-1])
    is_late = is_same & (at[1:] <= at[:-1])
    if not is_late.any():
        return exams
    group = np.cumsum(np.append(False, ~is_same))
    is_mixed = np.zeros(group[-1] + 1, bool)
    is_mixed[group[1:][is_late]] = True
    rows, order = np.flatnonzero(is_mixed[group]), np.arange(len(key))
    order[rows] = rows[np.lexsort((tie[rows], at[rows], group[rows]))]
    return exams[order]


def earlier_exams(begins: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Place of the latest earlier exam of a compatible side in the same group, or -1; `begins` tells groups."""
    earlier = np.arange(len(side)) - 1
    earlier[begins] = -1
    rows = np.flatnonzero((side != 0) & ~begins)
    while len(rows := rows[side[rows] + side[earlier[rows]] == LEFT + RIGHT]):
        before = earlier[rows]
        earlier[rows] = np.where(begins[before], -1, before - 1)
        rows = rows[~begins[before]]
    return earlier
