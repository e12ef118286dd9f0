"""Exams of core.exam as columns of numbers, one range of persons after the other, every row group read once.

A file holds exams of one month in the order of persons. A row group is read when the first of its persons comes; what
it has of later ranges waits in memory: 28 bytes an exam of every row group that holds one person, so one row group of
each month, and more where months are not compacted. How exams are sorted and compared is in `unsorted`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["LEFT", "RIGHT", "Exams", "Numbers", "RowGroup", "exam_columns", "exams_by_person", "row_groups"]

LEFT, RIGHT, _BOTH = 1, 2, 4
_MOST = 2**63 - 1
_NAMES = ("hospital_id", "modality_group", "body_part_code", "laterality_code")


def exam_columns() -> tuple[str, ...]:
    """What is read of core.exam: a plain scan of these is what the count is measured against."""
    return "patient_key", "study_at", "is_patient_known", *_NAMES


@dataclass(frozen=True)
class Exams:
    """Dated exams; each column has one number of each.

    Attributes
    ----------
    key : np.ndarray
        patient_key.
    at : np.ndarray
        Moved time, seconds since 1970.
    kind : np.ndarray
        Modality and body part; odd when the body part or the person is not known, so that nothing is repeated.
    tie : np.ndarray
        Order of exams of one second: hospital, whether of both sides, and the side in the two lowest bits.
    place : np.ndarray
        Place and modality.
    """

    key: np.ndarray
    at: np.ndarray
    kind: np.ndarray
    tie: np.ndarray
    place: np.ndarray

    def __len__(self) -> int:
        return len(self.key)

    def __getitem__(self, rows: Any) -> Exams:
        return Exams(self.key[rows], self.at[rows], self.kind[rows], self.tie[rows], self.place[rows])

    @classmethod
    def joined(cls, parts: Sequence[Exams]) -> Exams:
        columns = ([getattr(part, name) for part in parts] for name in cls.__dataclass_fields__)
        return cls(*map(np.concatenate, columns))


@dataclass(frozen=True)
class Numbers:
    """What is put in the place of the names of core.exam; sums of these are the columns of `Exams`."""

    n_places: int
    n_modalities: int
    modality: Mapping[str, int]
    modality_kind: Mapping[str, int]
    part_kind: Mapping[str, int]
    place: Mapping[str, int]
    site_tie: Mapping[str, int]
    side_tie: Mapping[str, int]

    @classmethod
    def of(cls, codes: pa.Table) -> Numbers:
        """Numbers of the rows of core.sequence_code."""
        of_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in codes.to_pylist():
            of_kind[row["code_kind"]].append(row)
        modalities, parts = ([row["label"] for row in of_kind[kind]] for kind in ("modality", "body_part"))
        places = {(row["region_code"], row["hospital_level"]): row["code"] for row in of_kind["place"]}
        sites = of_kind["site"]
        return cls(
            n_places=len(places),
            n_modalities=len(modalities),
            modality={name: number for number, name in enumerate(modalities)},
            modality_kind={name: number * len(parts) * 2 for number, name in enumerate(modalities)},
            part_kind={name: number * 2 + (name == "UNKNOWN") for number, name in enumerate(parts)},
            place={row["label"]: places[row["region_code"], row["hospital_level"]] * len(modalities) for row in sites},
            site_tie={row["label"]: row["code"] << 3 for row in sites},
            side_tie=defaultdict(int, L=LEFT, R=RIGHT, B=_BOTH),
        )


@dataclass(frozen=True, order=True)
class RowGroup:
    """A row group, with the least and the greatest patient_key that may be in it."""

    least: int
    greatest: int
    file: str
    number: int
    n_rows: int


def row_groups(files: Sequence[str], *, filesystem: Any = None) -> list[RowGroup]:
    """The row groups of files of core.exam, in the order of their least patient_key."""
    found = []
    for name in files:
        metadata = pq.read_metadata(name, filesystem=filesystem)
        column = metadata.schema.names.index("patient_key")
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            told = group.column(column).statistics
            limits = (told.min, told.max) if told and told.has_min_max else (0, _MOST)
            found.append(RowGroup(*limits, name, number, group.num_rows))
    return sorted(found)


def exams_by_person(
    groups: Sequence[RowGroup], ranges: Sequence[tuple[int, int]], *, numbers: Numbers, filesystem: Any = None
) -> Iterator[Exams]:
    """Exams of each range of persons that has any, of one row group after the other.

    Parameters
    ----------
    groups : sequence of RowGroup
        As `row_groups` gives them.
    ranges : sequence of (int, int)
        First patient_key of a range, and the first that is no more in it; ranges follow each other.
    """
    first, end = ranges[0][0], ranges[-1][1]
    coming = [group for group in reversed(groups) if group.greatest >= first and group.least < end]
    waiting: dict[tuple[str, int], Exams] = {}
    for low, high in ranges:
        while coming and coming[-1].least < high:
            group = coming.pop()
            exams = _exams(group, numbers=numbers, filesystem=filesystem)
            waiting[group.file, group.number] = exams[exams.key.searchsorted(low) :]
        parts = []
        for where in sorted(waiting):
            exams = waiting.pop(where)
            n = exams.key.searchsorted(high - 1, side="right")  # `high` itself may be more than 64 bits hold
            if n:
                parts.append(exams[:n])
            if n < len(exams):
                waiting[where] = exams[n:]
        if parts:
            yield Exams.joined(parts)


def _exams(group: RowGroup, *, numbers: Numbers, filesystem: Any) -> Exams:
    # To open a file for each of its row groups is cheap; to keep thousands open is not allowed everywhere.
    with pq.ParquetFile(
        group.file, filesystem=filesystem, read_dictionary=list(_NAMES), pre_buffer=filesystem is not None
    ) as file:
        rows = file.read_row_group(group.number, columns=list(exam_columns()), use_threads=False)
    key, at, is_known = (rows[name].to_numpy() for name in ("patient_key", "study_at", "is_patient_known"))
    place, site_tie = _numbers_of(rows["hospital_id"], numbers.place, numbers.site_tie)
    modality, modality_kind = _numbers_of(rows["modality_group"], numbers.modality, numbers.modality_kind)
    [part_kind] = _numbers_of(rows["body_part_code"], numbers.part_kind)
    [side_tie] = _numbers_of(rows["laterality_code"], numbers.side_tie)
    exams = Exams(
        key=key,
        at=at.astype("datetime64[s]").astype(np.int64),
        kind=modality_kind + (part_kind | ~is_known),
        tie=site_tie | side_tie,
        place=place + modality,
    )
    if rows["study_at"].null_count:
        exams = exams[~np.isnat(at)]
    if (exams.key[1:] < exams.key[:-1]).any():  # not written by us
        exams = exams[np.argsort(exams.key, kind="stable")]
    return exams


def _numbers_of(names: pa.ChunkedArray, *numbers: Mapping[str, int]) -> Iterator[np.ndarray]:
    """For each mapping, the numbers of all names; each name is looked up once, in the dictionary of Parquet."""
    column: Any = names.combine_chunks()
    known, indices = column.dictionary.to_pylist(), column.indices.to_numpy().astype(np.intp)
    return (np.array([of_name[name] for name in known], np.int32).take(indices) for of_name in numbers)
