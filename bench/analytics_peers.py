"""Analytics, what repeats are compared with: plain scans, sorted windows, pandas, Dask dataframe, Dask workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.analytics_ours import WINDOW_DAYS, WORKERS, answer, digest, each, lake_of, numbers_of, sequence_files
from bench.measure import Done

__all__ = ["dask_threads", "dask_workers", "in_pandas", "scan_exams", "scan_sequence", "sorted_window"]

_PANDAS_ROW_BYTES = 150  # of a frame, its shifted copy, masks and keys together


def scan_sequence(folder: Path, _: Path) -> Callable[[], Done]:
    """A sum of hashes: every value of every column that the pass reads is decoded and looked at."""
    from radlake.stats.duplicates.places import sequence_columns

    files, columns = sequence_files(folder), ", ".join(sequence_columns())

    def run() -> Done:
        each(files, lambda file: f"SELECT sum(hash({columns})) FROM read_parquet('{file}')")
        return Done(0)

    return run


def scan_exams(folder: Path, _: Path) -> Callable[[], Done]:
    from radlake.stats.duplicates.by_person import exam_columns

    files, columns = lake_of(folder).tables.files("core.exam"), ", ".join(exam_columns())

    def run() -> Done:
        each([files[::2], files[1::2]], lambda part: f"SELECT sum(hash({columns})) FROM read_parquet({part})")
        return Done(0)

    return run


def sorted_window(folder: Path, _: Path) -> Callable[[], Done]:
    """The reference: the same window with its order spelled out, one query for each range of persons."""
    from radlake.stats.duplicates.pairs import repeats

    files = sequence_files(folder)

    def run() -> Done:
        found = each(files, lambda file: repeats(f"read_parquet('{file}')", window_days=WINDOW_DAYS, is_streamed=False))
        return Done(0, look=lambda: answer(folder, found))

    return run


def in_pandas(folder: Path, _: Path) -> Callable[[], Done]:
    """Whole in memory: as many files as fit into half of what is free."""
    import pandas as pd
    import pyarrow.parquet as pq

    from radlake.stats.duplicates.places import count_repeats, sequence_columns

    room = _available_bytes() // 2 // _PANDAS_ROW_BYTES
    rows = [(file, pq.read_metadata(file).num_rows) for file in sequence_files(folder)]
    files = [file for (file, _), total in zip(rows, np.cumsum([n for _, n in rows]), strict=True) if total <= room]
    columns = list(sequence_columns())

    def run() -> Done:
        frame = pd.concat([pd.read_parquet(file, columns=columns) for file in files], ignore_index=True)
        found, n = _frame_counts(frame).reset_index(), len(frame)
        return Done(n, look=lambda: same(found))

    def same(found: Any) -> str:
        theirs = answer(folder, [found])
        ours = count_repeats(files, window_days=WINDOW_DAYS, workers=WORKERS)
        if theirs != digest(numbers_of(folder), *ours):
            raise ValueError("pandas and the pass differ over the same files")
        return theirs

    return run


def dask_threads(folder: Path, _: Path) -> Callable[[], Done]:
    """Dask dataframe in this process, on two threads."""
    frame = _dask_counts(folder)

    def run() -> Done:
        found = frame.compute(scheduler="threads", num_workers=WORKERS)
        return Done(0, look=lambda: answer(folder, [found]))

    return run


def dask_workers(folder: Path, _: Path) -> Callable[[], Done]:
    """The same on two worker processes, which read the files that the Delta log lists; their start is told apart."""
    from distributed import Client, LocalCluster

    frame = _dask_counts(folder)

    def run() -> Done:
        with (
            LocalCluster(
                n_workers=WORKERS, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
            ) as cluster,
            Client(cluster),
        ):
            found = frame.compute()
        return Done(0, look=lambda: answer(folder, [found]))

    return run


def _dask_counts(folder: Path) -> Any:
    """A partition is a file, which holds whole persons."""
    import dask.dataframe as dd

    from radlake.stats.duplicates.places import sequence_columns

    frame = dd.read_parquet(sequence_files(folder), columns=list(sequence_columns()), split_row_groups=False)  # pyright: ignore[reportArgumentType]
    meta = dict.fromkeys(("cell_code", "n_exams", "n_repeats"), "int64")
    return frame.map_partitions(lambda part: _frame_counts(part).reset_index().astype("int64"), meta=meta)


def _frame_counts(frame: Any) -> Any:
    """The same numbers by pandas, of rows in the order of the sequence."""
    before = frame[["patient_key", "exam_code", "person_day", "encounter_code"]].shift()
    gap = frame["person_day"] - before["person_day"]
    is_repeat = (
        (before["patient_key"] == frame["patient_key"])
        & (before["exam_code"] == frame["exam_code"])
        & (gap >= 1)
        & (gap <= WINDOW_DAYS)
        & ((frame["encounter_code"] != before["encounter_code"]) | (frame["encounter_code"] == 0))
    )
    return is_repeat.groupby(frame["cell_code"]).agg(n_exams="size", n_repeats="sum")


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo does not tell MemAvailable")
