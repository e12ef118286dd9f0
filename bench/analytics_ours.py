"""Analytics, our side: a province of synthetic rows, its sequence, and repeats counted over it in one pass."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import Done

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from radlake.lake import Lake

__all__ = [
    "WINDOW_DAYS",
    "WORKERS",
    "all_rules",
    "answer",
    "build",
    "by_month",
    "digest",
    "each",
    "lake_of",
    "lay_out_without_newest",
    "link",
    "make",
    "newest_month",
    "numbers_of",
    "one_pass",
    "one_pass_without_stays",
    "order_entry",
    "questions",
    "sequence_files",
]

WORKERS = 2
WINDOW_DAYS = 30
_PERIOD = date(2024, 1, 1), date(2026, 12, 31)
_BEFORE = "before-newest.json"  # of what the sequence without the last month was made


def lake_of(folder: Path) -> Lake:
    from radlake.config import Settings
    from radlake.lake import Lake

    return Lake.from_settings(Settings(lake=str(folder)))


def make(folder: Path, _: Path, *, n_exams: int, seed: int) -> Callable[[], Done]:
    """Write the province."""
    from radlake.cli.init import ensure_key
    from radlake.config import Settings
    from radlake.ingest.offsets import date_offsets
    from radlake.synth.rows.write import Plan, write_chunk, write_province

    def run() -> Done:
        settings, lake = Settings(lake=str(folder)), lake_of(folder)
        ensure_key(settings)
        plan = Plan(n_exams=n_exams, seed=seed, start=_PERIOD[0], end=_PERIOD[1])
        with date_offsets(settings) as offsets:
            chunks = (write_chunk(lake, plan, chunk, date_offsets=offsets) for chunk in range(plan.n_chunks))
            write_province(lake, plan, chunks=chunks)
        return Done(n_exams)

    return run


def link(folder: Path, *, share: float) -> int:
    """Link a share of all pseudonyms, each with the one before it; returns how many. Chance decides, by a hash."""
    from radlake.contracts import load_table
    from radlake.lake import parquet

    lake = lake_of(folder)
    table = load_table("core.person_link")
    with parquet.new_connection(threads=WORKERS) as connection:
        exams = parquet.scan(load_table("core.exam"), lake.tables.files("core.exam"))
        rows = connection.sql(
            "SELECT patient_key, person_key FROM ("
            "    SELECT patient_key, lag(patient_key) OVER (ORDER BY patient_key) AS person_key"
            f"    FROM (SELECT DISTINCT patient_key FROM {exams} WHERE is_patient_known)"
            ") WHERE person_key IS NOT NULL AND hash(patient_key) % 10000 < $limit"
            " AND hash(person_key) % 10000 >= $limit",
            params={"limit": round(share * 10_000)},
        ).to_arrow_table()
    lake.tables.overwrite(table, rows.cast(table.arrow_schema()), batch_id=f"bench-{share}")
    return rows.num_rows


def build(folder: Path, _: Path) -> Callable[[], Done]:
    """Lay the exams out; the part is the offsets of persons. Counts all rates too, which is told by itself."""
    from radlake.config import Settings
    from radlake.ingest.offsets import date_offsets
    from radlake.lake import parquet
    from radlake.stats.duplicates.rates import RATES, repeat_rates
    from radlake.stats.duplicates.sequence import TABLE, Observed, build_sequence

    lake = _started(folder)

    def run() -> Done:
        begun, before_all = time.perf_counter(), time.process_time()
        with date_offsets(Settings(lake=str(folder))) as offsets:
            timed = _Timed(offsets)
            build_sequence(lake, date_offsets=timed, observed=Observed(*_PERIOD), workers=WORKERS)
        built, laid = time.perf_counter() - begun, time.process_time() - before_all
        rates = repeat_rates(lake, workers=WORKERS)
        more = {"rates_cpu": time.process_time() - before_all - laid}
        lake.restricted_tables.overwrite(RATES, rates, batch_id=f"bench-{time.time_ns()}")
        with parquet.new_connection() as connection:
            files = lake.restricted_tables.files(TABLE)
            [(n,)] = connection.execute("SELECT count(*) FILTER (is_counted) FROM read_parquet(?)", [files]).fetchall()
        return Done(n, part_cpu=timed.cpu, cpu=laid, seconds=built, more=more)

    return run


class _Timed:
    """A function of arrays, and the CPU seconds of all its calls."""

    def __init__(self, call: Callable[[np.ndarray], np.ndarray]) -> None:
        self._call = call
        self.cpu = 0.0

    def __call__(self, values: np.ndarray) -> np.ndarray:
        begun = time.thread_time()
        found = self._call(values)
        self.cpu += time.thread_time() - begun
        return found


def _started(folder: Path) -> Lake:
    """The lake, after what every process does once: contracts are read, and pyarrow imports pandas."""
    import pandas as pd  # noqa: F401

    lake = lake_of(folder)
    lake.tables.version("core.exam")
    return lake


def sequence_files(folder: Path) -> list[str]:
    from radlake.lake import parquet
    from radlake.stats.duplicates.sequence import TABLE

    parquet.new_connection().close()  # start-up is no part of what is measured
    return lake_of(folder).restricted_tables.files(TABLE)


def numbers_of(folder: Path) -> pa.Table:
    """core.sequence_code: what the numbers in the sequence mean."""
    from radlake.stats.duplicates.sequence import sequence_codes

    return sequence_codes(lake_of(folder))


def digest(codes: pa.Table, n_rows: np.ndarray, n_repeats: np.ndarray) -> str:
    """Of the whole answer, row by row."""
    from radlake.stats.duplicates.places import told_apart

    return _digest(told_apart(n_rows, n_repeats, codes=codes))


def answer(folder: Path, parts: Sequence[Any]) -> str:
    """Digest of counts by cell, from Arrow tables or data frames of parts of the rows."""
    import numpy as np

    names = ("cell_code", "n_exams", "n_repeats")
    cells, *counts = (np.concatenate([part[name].to_numpy() for part in parts]) for name in names)
    totals = (np.bincount(cells, weights=n).astype(np.int64) for n in counts)
    return digest(numbers_of(folder), *totals)


def _digest(rows: pa.Table) -> str:
    return hashlib.sha256(repr(rows.to_pylist()).encode()).hexdigest()[:16]


def each(files: Sequence[Any], query: Callable[[Any], str]) -> list[pa.Table]:
    """Results of a query of each file, two at once, each on one thread."""
    from radlake.lake import parquet

    def one(file: Any) -> pa.Table:
        with parquet.new_connection(threads=1) as connection:
            return connection.sql(query(file)).to_arrow_table()

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(one, files))


def one_pass(folder: Path, _: Path) -> Callable[[], Done]:
    from radlake.stats.duplicates.places import count_repeats

    files = sequence_files(folder)

    def run() -> Done:
        found = count_repeats(files, window_days=WINDOW_DAYS, workers=WORKERS)
        return Done(0, look=lambda: digest(numbers_of(folder), *found))

    return run


def one_pass_without_stays(folder: Path, _: Path) -> Callable[[], Done]:
    """What the month layout can be compared with: it does not know encounters."""
    from radlake.stats.duplicates.pairs import repeats

    files = sequence_files(folder)
    relation = "(SELECT * REPLACE (0 AS encounter_code) FROM read_parquet('{}'))"

    def run() -> Done:
        found = each(files, lambda file: repeats(relation.format(file), window_days=WINDOW_DAYS))
        return Done(0, look=lambda: answer(folder, found))

    return run


def lay_out_without_newest(folder: Path, _: Path) -> Callable[[], Done]:
    """Take the exams of the last month out of core.exam, lay out the rest, and add them again; not measured."""
    from radlake.config import Settings
    from radlake.contracts import load_table
    from radlake.ingest.offsets import date_offsets
    from radlake.lake import parquet
    from radlake.sqlrun.date_offsets import register_offsets
    from radlake.stats.duplicates.sequence import Observed, build_sequence

    lake, table = lake_of(folder), load_table("core.exam")
    since = _PERIOD[1].replace(day=1)

    def run() -> Done:
        with date_offsets(Settings(lake=str(folder))) as offsets:
            with parquet.new_connection(threads=WORKERS) as connection:
                # moved dates lie up to a year before the true ones
                files = lake.tables.files(table, where=f"study_month >= {since.year - 1}{since.month:02}")
                connection.execute(f"CREATE TABLE near AS FROM {parquet.scan(table, files)} WHERE study_at IS NOT NULL")
                register_offsets(connection, offsets, persons="near")
                rows = connection.sql(
                    f"SELECT {', '.join(table.column_names)} FROM near INNER JOIN offsets USING (patient_key)"
                    f" WHERE study_at - to_seconds(seconds) >= DATE '{since}'"
                ).to_arrow_table()
            newest = rows.cast(table.arrow_schema())
            name, keys = f"bench-{time.time_ns()}", newest.select([*table.key, "study_month"])
            lake.tables.commit_batch(table, newest.slice(0, 0), batch_id=f"{name}-without", replace=keys)
            built = build_sequence(lake, date_offsets=offsets, observed=Observed(*_PERIOD), workers=WORKERS)
        lake.tables.commit_batch(table, newest, batch_id=f"{name}-newest")
        (folder / _BEFORE).write_text(json.dumps({"version": built.version, "inputs": dict(built.inputs)}))
        return Done(newest.num_rows)

    return run


def newest_month(folder: Path, _: Path) -> Callable[[], Done]:
    """What the exams of the last month add to the sequence that was laid out without them; the part is offsets."""
    from radlake.config import Settings
    from radlake.ingest.offsets import date_offsets
    from radlake.stats.duplicates.added import added_repeats, summed
    from radlake.stats.duplicates.places import repeats_by_place

    lake, before = _started(folder), json.loads((folder / _BEFORE).read_text())

    def run() -> Done:
        with date_offsets(Settings(lake=str(folder))) as offsets:
            timed = _Timed(offsets)
            added = added_repeats(lake, **before, window_days=WINDOW_DAYS, date_offsets=timed, workers=WORKERS)
        rows = added.rows
        assert rows is not None, added.reason

        def look() -> str:
            return _digest(summed(repeats_by_place(lake, window_days=WINDOW_DAYS), rows))

        return Done(added.n_exams, part_cpu=timed.cpu, look=look)

    return run


def all_rules(folder: Path, _: Path) -> Callable[[], Done]:
    """Both rule packs, five windows, every exclusion, across hospitals, prefectures and levels, by hospital."""
    from radlake.stats.duplicates.packs import load_packs, load_windows
    from radlake.stats.duplicates.rates import count_cells

    files = sequence_files(folder)

    def run() -> Done:
        count_cells(files, packs=load_packs(), windows=load_windows(), direction="back", workers=WORKERS)
        return Done(0)

    return run


def by_month(folder: Path, _: Path) -> Callable[[], Done]:
    """core.exam as it lies; the part is the offsets of persons, which were derived before and are opened."""
    from radlake.config import Settings
    from radlake.ingest.offsets import date_offsets
    from radlake.stats.duplicates.unsorted import repeats_unsorted

    lake = _started(folder)

    def run() -> Done:
        with date_offsets(Settings(lake=str(folder))) as offsets:
            timed = _Timed(offsets)
            rows = repeats_unsorted(lake, date_offsets=timed, window_days=WINDOW_DAYS, workers=WORKERS)
        return Done(0, part_cpu=timed.cpu, look=lambda: _digest(rows))

    return run


def questions(folder: Path) -> dict[str, list[float]]:
    """Wall milliseconds of questions to the cube, each by one dimension of one pack, window and year."""
    from radlake.contracts import load_table
    from radlake.lake import parquet

    files = lake_of(folder).restricted_tables.files("stats.repeat_rate")
    times = []
    with parquet.new_connection(threads=WORKERS) as connection:
        connection.execute("SET parquet_metadata_cache = true")
        relation = parquet.scan(load_table("stats.repeat_rate"), files)
        for number in range(200):
            by = ("exam_month", "region_code", "hospital_level", "hospital_id", "modality_group")[number % 5]
            pack = ("clinical_v1", "lawful_v1")[number % 2]
            window, year = (7, 14, 30, 90, 180)[number % 3], 2024 + number % 3
            begun = time.perf_counter()
            connection.execute(
                f"SELECT {by}, sum(n_exams), sum(n_repeats), sum(n_potential), sum(n_potential_across_hospitals)"
                f" FROM {relation} WHERE rule_pack = ? AND window_days = ? AND exam_month // 100 = ? GROUP BY ALL",
                [pack, window, year],
            ).fetchall()
            times.append(1000 * (time.perf_counter() - begun))
    return {"question to the cube": times}


def order_entry(folder: Path) -> dict[str, list[float]]:
    """Wall milliseconds of what order entry asks, one person in four absent: from the index, and from the lake.

    Cold: the pages of the index are dropped from the page cache and it is opened anew before each question.
    """
    import numpy as np

    from radlake.config import Settings
    from radlake.ingest.offsets import date_offsets
    from radlake.lake import duck
    from radlake.stats.duplicates.recent import RecentExams, build_index

    lake, now = lake_of(folder), datetime(2026, 12, 31, 20)
    with date_offsets(Settings(lake=str(folder))) as offsets:
        begun = time.monotonic()
        n_rows = build_index(lake, date_offsets=offsets, now=now)
        print(f"index of recent exams: {n_rows:,} rows in {time.monotonic() - begun:.0f} s")
        with duck.connect(lake, tables={"core"}) as connection:
            asked = connection.execute(
                "SELECT patient_key + if(hash(exam_pseudo_id) % 4 = 0, 1, 0), modality_group, body_part_code"
                " FROM core.exam WHERE study_month = 202601 AND hash(exam_pseudo_id, 1) % 200 = 0 LIMIT 500"
            ).fetchall()
        moved = [timedelta(seconds=int(offsets(np.array([key]))[0])) for key, *_ in asked]
    limits = [(now - timedelta(days=90) + shift, now + shift) for shift in moved]
    recent = RecentExams(lake)
    times: dict[str, list[float]] = {
        "recent exams, index": [],
        "recent exams, lake": [],
        "recent exams, index cold": [],
    }
    for (key, modality, part), (since, until) in zip(asked, limits, strict=True):
        found = []
        for name, ask in zip(times, (recent.from_index, recent.from_lake), strict=False):
            begun = time.perf_counter()
            found.append(ask(key, modality, part, since=since, until=until))
            times[name].append(1000 * (time.perf_counter() - begun))
        assert found[0] == found[1], "the index and the lake differ"
    recent.close()
    for (key, modality, part), (since, until) in list(zip(asked, limits, strict=True))[:100]:
        recent = RecentExams(lake)
        _evict(lake.restricted / "recent_exams.sqlite")
        begun = time.perf_counter()
        recent.from_index(key, modality, part, since=since, until=until)
        times["recent exams, index cold"].append(1000 * (time.perf_counter() - begun))
        recent.close()
    return times


def _evict(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
