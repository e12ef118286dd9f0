"""Analytics, what repeats are compared with: plain scans and groups, the month layout as it lies, pandas, Dask."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.analytics_ours import WORKERS, answer, each, lake_of, sequence_files
from bench.measure import Done

__all__ = ["by_month", "dask", "group_only", "in_pandas", "scan_exams", "scan_sequence"]

_COLUMNS = ("patient_key", "exam_code", "person_day", "exam_month", "site_code", "is_counted")
_PANDAS_ROWS = 12_000_000
_GROUPS = """
SELECT exam_month, site_code >> 12 AS place, exam_code >> 16 AS modality, count(*) FILTER (is_counted) AS n_exams,
    max(patient_key), max(person_day)
FROM {relation}
GROUP BY ALL
"""
# The same numbers from core.exam as it lies, without tracks of sides: the latest of either side by two windows.
_EVERYDAY = """
WITH told AS (
    SELECT
        patient_key, hospital_id, modality_group, body_part_code, laterality_code,
        study_at - to_seconds(seconds) AS exam_at,
        exam_at::DATE AS exam_date,
        is_patient_known AND body_part_code <> 'UNKNOWN'
        AND patient_key NOT IN (SELECT patient_key FROM exams GROUP BY patient_key HAVING count(*) > 1000)
            AS is_matchable
    FROM exams INNER JOIN offsets USING (patient_key)
),
looked AS (
    SELECT
        *,
        max(exam_date) FILTER (laterality_code <> 'R') OVER earlier AS not_right,
        max(exam_date) FILTER (laterality_code <> 'L') OVER earlier AS not_left
    FROM told
    WINDOW earlier AS (
        PARTITION BY patient_key, modality_group, body_part_code ORDER BY exam_at
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
)
SELECT
    (year(exam_date) * 100 + month(exam_date))::INTEGER AS exam_month,
    site.code >> 12 AS place,
    modality.code AS modality,
    count(*) AS n_exams,
    count(*) FILTER (
        is_matchable AND exam_date - CASE laterality_code WHEN 'L' THEN not_right WHEN 'R' THEN not_left
        ELSE greatest(not_right, not_left) END BETWEEN 1 AND 30
    ) AS n_repeats,
    0 AS n_out_of_order
FROM looked
INNER JOIN codes AS site ON site.code_kind = 'site' AND site.label = hospital_id
INNER JOIN codes AS modality ON modality.code_kind = 'modality' AND modality.label = modality_group
GROUP BY ALL
"""
_EXAM_COLUMNS = (
    "patient_key", "hospital_id", "modality_group", "body_part_code", "laterality_code", "study_at", "is_patient_known",
)  # fmt: skip


def scan_sequence(folder: Path, _: Path) -> Callable[[], Done]:
    files, columns = sequence_files(folder), ", ".join(_COLUMNS)

    def run() -> Done:
        each(files, lambda file: f"SELECT sum(hash({columns})) FROM read_parquet('{file}')")
        return Done(0)

    return run


def group_only(folder: Path, _: Path) -> Callable[[], Done]:
    """The same groups without looking back: what is left is the price of a repeat."""
    files = sequence_files(folder)

    def run() -> Done:
        each(files, lambda file: _GROUPS.format(relation=f"read_parquet('{file}')"))
        return Done(0)

    return run


def _ranges(folder: Path) -> list[tuple[int, int, list[str]]]:
    """Ranges of persons, and the files of core.exam that may hold them, as its log tells."""
    from radlake.contracts import load_table
    from radlake.lake import parquet
    from radlake.stats.duplicates.sequence import person_ranges

    tables = lake_of(folder).tables
    with parquet.new_connection(threads=1) as connection:
        ranges = person_ranges(connection, parquet.scan(load_table("core.exam"), tables.files("core.exam")))
    where = "patient_key >= {} AND patient_key < {}"
    return [(low, high, tables.files("core.exam", where=where.format(low, high))) for low, high in ranges]


def scan_exams(folder: Path, _: Path) -> Callable[[], Done]:
    whole = sorted({file for *_, files in _ranges(folder) for file in files})
    columns = ", ".join(_EXAM_COLUMNS)

    def run() -> Done:
        each([whole[::2], whole[1::2]], lambda files: f"SELECT sum(hash({columns})) FROM read_parquet({files})")
        return Done(0)

    return run


def by_month(folder: Path, _: Path) -> Callable[[], Done]:
    """One query for each range of persons; offsets are derived for each and forgotten. They are the part."""
    import pyarrow as pa

    from radlake.config import Settings
    from radlake.contracts import load_table
    from radlake.ingest.offsets import date_offsets
    from radlake.lake import parquet

    stored = lake_of(folder).restricted_tables.files("core.sequence_code")
    codes = parquet.scan(load_table("core.sequence_code"), stored)
    columns = ", ".join(_EXAM_COLUMNS)

    def run() -> Done:
        found: list[Any] = []
        spent = 0.0
        with (
            date_offsets(Settings(lake=str(folder))) as offsets,
            parquet.new_connection(threads=WORKERS) as connection,
        ):
            connection.execute(f"CREATE TABLE codes AS FROM {codes}")
            for low, high, files in _ranges(folder):
                if not files:
                    continue
                connection.execute(
                    f"CREATE OR REPLACE TABLE exams AS SELECT {columns} FROM read_parquet({files})"
                    f" WHERE study_at IS NOT NULL AND patient_key >= {low} AND patient_key < {high}"
                )
                asked = connection.sql("SELECT DISTINCT patient_key FROM exams").to_arrow_table()
                keys = asked["patient_key"].to_numpy()
                before = time.thread_time()
                moved = offsets(keys)
                spent += time.thread_time() - before
                connection.register("offsets", pa.table({"patient_key": keys, "seconds": moved}))
                found.append(connection.sql(_EVERYDAY).to_arrow_table())
        return Done(0, look=lambda: answer(found), part_cpu=spent)

    return run


def _frame_counts(frame: Any) -> Any:
    """The same numbers by pandas, of rows in the order of the sequence."""
    before = frame[["patient_key", "exam_code", "person_day"]].shift()
    gap = frame["person_day"] - before["person_day"]
    same = (before["patient_key"] == frame["patient_key"]) & (before["exam_code"] == frame["exam_code"])
    is_repeat = same & ((frame["exam_code"] & 3) != 3) & (gap >= 1) & (gap <= 30) & frame["is_counted"]
    keys = {
        "exam_month": frame["exam_month"],
        "place": frame["site_code"] // 4096,
        "modality": frame["exam_code"] // 65536,
    }
    counted = frame.assign(**keys, n_exams=frame["is_counted"].astype("int64"), n_repeats=is_repeat.astype("int64"))
    counted["n_out_of_order"] = 0
    return counted.groupby(list(keys))[["n_exams", "n_repeats", "n_out_of_order"]].sum().reset_index()


def in_pandas(folder: Path, _: Path) -> Callable[[], Done]:
    """Whole in memory: as many rows as fit."""
    import pandas as pd
    import pyarrow.parquet as pq

    files, n = [], 0
    for file in sequence_files(folder):
        if n + pq.read_metadata(file).num_rows > _PANDAS_ROWS and files:
            break
        files.append(file)
        n += pq.read_metadata(file).num_rows

    def run() -> Done:
        frame = pd.concat([pd.read_parquet(file, columns=list(_COLUMNS)) for file in files], ignore_index=True)
        _frame_counts(frame)
        return Done(n)

    return run


def dask(folder: Path, _: Path) -> Callable[[], Done]:
    """A partition is a file, which holds whole persons; the list of files comes from the Delta log."""
    import dask.dataframe as dd
    import pyarrow as pa
    from distributed import Client, LocalCluster

    files = sequence_files(folder)

    def run() -> Done:
        with (
            LocalCluster(
                n_workers=WORKERS, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
            ) as cluster,
            Client(cluster),
        ):
            frame = dd.read_parquet(files, columns=list(_COLUMNS), split_row_groups=False)  # pyright: ignore[reportArgumentType]
            meta = dict.fromkeys(("exam_month", "place", "modality", "n_exams", "n_repeats", "n_out_of_order"), "int64")
            found = frame.map_partitions(_frame_counts, meta=meta).compute()
        return Done(0, look=lambda: answer([pa.Table.from_pandas(found, preserve_index=False)]))

    return run
