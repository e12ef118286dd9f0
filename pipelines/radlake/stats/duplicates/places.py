"""Repeats within any window by month, prefecture, level and modality: the shortest way over core.exam_sequence.

All repeats, before exclusions and without the guards of windows: for those, and by rule pack, see `rates`. Exams are
grouped by one number (`cell_code`) that lies dense, so DuckDB counts in an array; it is told apart here.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import duckdb
import numpy as np
import pyarrow as pa

from radlake.errors import ContractBroken
from radlake.lake import Lake, parquet
from radlake.stats.duplicates.pairs import repeats
from radlake.stats.duplicates.sequence import TABLE, sequence_codes
from radlake.stats.duplicates.streamed import in_order

__all__ = ["SCHEMA", "count_repeats", "repeats_by_place", "sequence_columns", "told_apart"]

SCHEMA = pa.schema(
    [
        ("exam_month", pa.int32()),
        ("region_code", pa.string()),
        ("hospital_level", pa.string()),
        ("modality_group", pa.string()),
        ("n_exams", pa.int64()),
        ("n_repeats", pa.int64()),
    ]
)
_DENSE_BITS = 22  # so many numbers of cells, as powers of two, get a place in an array; more are hashed
_COUNTED, _UNMATCHABLE = 0, 1  # status of a row; 2 is not counted


def sequence_columns() -> tuple[str, ...]:
    """What is read of core.exam_sequence: a plain scan of these is what the count is measured against."""
    return "patient_key", "exam_code", "person_day", "encounter_code", "cell_code"


def repeats_by_place(lake: Lake, *, window_days: int, workers: int = 2) -> pa.Table:
    """Exams, and those of them that repeat one of the last `window_days` days, by all that `SCHEMA` names.

    Raises
    ------
    ContractBroken
        If the sequence was not built, or by a version without `cell_code`.
    """
    files = lake.restricted_tables.files(TABLE)
    if not files:
        raise ContractBroken(table=TABLE, problems=["there is none; run `radlake duplicates build`"])
    return told_apart(*count_repeats(files, window_days=window_days, workers=workers), codes=sequence_codes(lake))


def count_repeats(files: Sequence[str], *, window_days: int, workers: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Rows and repeats of every cell, several files at once; a file whose rows came out of order is sorted."""

    def count(file: str) -> tuple[np.ndarray, ...]:
        relation = f"read_parquet({parquet.text(file)})"
        with parquet.new_connection(threads=1) as connection:
            connection.execute(f"SET perfect_ht_threshold = {_DENSE_BITS}")
            try:
                found = in_order(connection, partial(repeats, relation, window_days=window_days))
            except duckdb.BinderException as exc:
                problem = "was made by an older version; run `radlake duplicates build`"
                raise ContractBroken(table=TABLE, problems=[problem]) from exc
            return tuple(found[name].to_numpy() for name in ("cell_code", "n_exams", "n_repeats"))

    n_rows = n_repeats = np.zeros(0, np.int64)
    with ThreadPoolExecutor(workers) as pool:
        for cells, *counts in pool.map(count, files):
            size = max(len(n_rows), int(cells.max(initial=-1)) + 1)
            n_rows, n_repeats = (
                np.pad(total, (0, size - len(total))) + np.bincount(cells, weights=n, minlength=size).astype(np.int64)
                for total, n in zip((n_rows, n_repeats), counts, strict=True)
            )
    return n_rows, n_repeats


def told_apart(n_rows: np.ndarray, n_repeats: np.ndarray, *, codes: pa.Table) -> pa.Table:
    """Counts by cell as rows of `SCHEMA`, in order; `codes` are the rows of core.sequence_code by kind and number."""
    of_kind: dict[str, list[dict[str, str]]] = {"month": [], "place": [], "modality": []}
    for row in codes.to_pylist():
        of_kind.setdefault(row["code_kind"], []).append(row)
    months, places, modalities = (of_kind[kind] for kind in ("month", "place", "modality"))
    n_cells = len(months) * len(places) * len(modalities)
    by_status = [np.pad(n, (0, 3 * n_cells - len(n))).reshape(3, n_cells) for n in (n_rows, n_repeats)]
    n_exams = by_status[0][_COUNTED] + by_status[0][_UNMATCHABLE]
    shown = np.flatnonzero(n_exams)
    rest, modality = np.divmod(shown, len(modalities))
    month, place = np.divmod(rest, len(places))
    return pa.table(
        [
            np.array([int(row["label"]) for row in months])[month],
            pa.array([row["region_code"] for row in places]).take(pa.array(place)),
            pa.array([row["hospital_level"] for row in places]).take(pa.array(place)),
            pa.array([row["label"] for row in modalities]).take(pa.array(modality)),
            n_exams[shown],
            by_status[1][_COUNTED][shown],
        ],
        names=SCHEMA.names,
    ).cast(SCHEMA)
