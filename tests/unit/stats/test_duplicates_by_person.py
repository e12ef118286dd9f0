"""Exams come by person whatever the files look like, and every row group is read once."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from radlake.contracts import load_table
from radlake.lake import Lake, parquet
from radlake.stats.duplicates import by_person, unsorted
from radlake.stats.duplicates.by_person import Numbers, exams_by_person, row_groups
from radlake.stats.duplicates.codes import code_rows
from radlake.stats.duplicates.sequence import ranges_of_persons
from radlake.stats.duplicates.unsorted import repeats_unsorted
from radlake.synth.rows.write import Plan, write_chunk, write_province
from support.rows import rows

EXAM = "core.exam"
PLAN = Plan(n_exams=12_000, n_hospitals=12, seed=11)


def offsets(keys: np.ndarray) -> np.ndarray:
    return keys % 365 * -86_400


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("by_person")
    lake = Lake(url=str(folder / "lake"), restricted=folder / "restricted")
    chunks = (write_chunk(lake, PLAN, chunk, date_offsets=offsets) for chunk in range(PLAN.n_chunks))
    write_province(lake, PLAN, chunks=chunks)
    return lake


def numbers_of(lake: Lake) -> Numbers:
    exams, hospitals = (parquet.scan(load_table(name), lake.tables.files(name)) for name in (EXAM, "ref.hospital"))
    with parquet.new_connection(threads=1) as connection:
        return Numbers.of(code_rows(connection, exams=exams, hospitals=hospitals))


def write_small(file: Any, rows: pa.Table, **options: Any) -> None:
    pq.write_table(rows, file, row_group_size=100, **options)


def shuffled(rows: pa.Table) -> pa.Table:
    return rows.take(np.random.default_rng(5).permutation(len(rows)))


def timed_in(unit: str):
    """Rows with the time of study in another unit."""

    def changed(rows: pa.Table) -> pa.Table:
        column = rows.schema.get_field_index("study_at")
        return rows.set_column(column, "study_at", rows["study_at"].cast(pa.timestamp(unit), safe=False))

    return changed


def test_each_range_has_the_dated_exams_of_its_persons_and_no_row_group_is_read_twice(lake, tmp_path, monkeypatch):
    files, expected, reads = [], [], Counter()
    for number, file in enumerate(lake.tables.files(EXAM)):
        exams = pq.ParquetFile(file).read()
        write_small(str(tmp_path / f"{number}.parquet"), exams)
        files.append(str(tmp_path / f"{number}.parquet"))
        expected += zip(exams["patient_key"].to_pylist(), exams["study_at"].to_pylist(), strict=True)
    is_undated = [at is None for _, at in expected]
    assert any(is_undated)
    read = by_person._exams

    def counted(group: by_person.RowGroup, **how: Any) -> by_person.Exams:
        reads[group.file, group.number] += 1
        return read(group, **how)

    monkeypatch.setattr(by_person, "_exams", counted)
    groups = row_groups(files)
    ranges = ranges_of_persons(
        len(expected), least=groups[0].least, greatest=max(group.greatest for group in groups), n_rows=700
    )
    assert len(ranges) == 18
    found = list(exams_by_person(groups, ranges, numbers=numbers_of(lake)))
    assert reads == {(group.file, group.number): 1 for group in groups}
    assert len(groups) > 2 * len(files)
    for (low, high), exams in zip(ranges, found, strict=True):
        of_range = sorted((key, at) for key, at in expected if low <= key < high and at is not None)
        at = exams.at.astype("datetime64[s]").tolist()
        assert sorted(zip(exams.key.tolist(), at, strict=True)) == [
            (key, value.replace(microsecond=0)) for key, value in of_range
        ]

    reads.clear()
    half = list(exams_by_person(groups, ranges[9:], numbers=numbers_of(lake)))
    assert len(reads) < len(groups)
    assert set(reads.values()) == {1}
    assert [len(exams) for exams in half] == [len(exams) for exams in found[9:]]


@pytest.mark.parametrize(
    ("lay_out", "options"),
    [
        (lambda rows: rows, {}),
        (shuffled, {}),
        (lambda rows: rows, {"write_statistics": False}),
        (shuffled, {"write_statistics": False}),
        (lambda rows: rows, {"use_dictionary": False}),
        (timed_in("ns"), {}),
        (timed_in("ms"), {}),
    ],
    ids=[
        "small row groups",
        "in any order",
        "without statistics",
        "in any order without statistics",
        "plain texts",
        "nanoseconds",
        "milliseconds",
    ],
)
def test_files_that_others_laid_out_give_the_same_counts(lake, monkeypatch, lay_out, options):
    monkeypatch.setattr(unsorted, "_ROWS_AT_ONCE", 1_000)
    expected = repeats_unsorted(lake, date_offsets=offsets, window_days=30)
    store, files = MemoryFileSystem(), []  # a store of objects, as S3 is one
    for number, file in enumerate(lake.tables.files(EXAM)):
        files.append(f"memory://by_person/{number}.parquet")
        with store.open(files[-1], "wb") as target:
            write_small(target, lay_out(pq.ParquetFile(file).read()), **options)
    groups = row_groups(files, filesystem=store)
    read = by_person._exams
    monkeypatch.setattr(unsorted, "row_groups", lambda *_, **__: groups)
    monkeypatch.setattr(by_person, "_exams", lambda group, numbers, **_: read(group, numbers=numbers, filesystem=store))
    found = repeats_unsorted(lake, date_offsets=offsets, window_days=30)
    store.rm("memory://by_person", recursive=True)
    assert found.equals(expected)
    assert sum(found["n_repeats"].to_pylist()) > 100


def test_pseudonyms_at_both_ends_and_ranges_without_a_person(tmp_path, monkeypatch):
    monkeypatch.setattr(unsorted, "_ROWS_AT_ONCE", 1)
    lake = Lake(url=str(tmp_path / "lake"), restricted=tmp_path / "restricted")
    keys = [0, 0, 1, 2**63 - 2, 2**63 - 1, 2**63 - 1]
    days = [1, 9, 1, 3, 4, 5]
    given = [
        {
            "exam_pseudo_id": f"e{number}",
            "patient_key": key,
            "study_at": datetime(2026, 3, day, 8),
            "study_month": 202603,
            "modality_group": "CT",
            "body_part_code": "CHEST",
        }
        for number, (key, day) in enumerate(zip(keys, days, strict=True))
    ]
    lake.tables.commit_batch(EXAM, rows(EXAM, *given), batch_id="b1")
    found = repeats_unsorted(lake, date_offsets=np.zeros_like, window_days=30)
    assert [tuple(row.values()) for row in found.to_pylist()] == [(202603, "UNKNOWN", "UNKNOWN", "CT", 6, 2)]
