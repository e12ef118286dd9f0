"""Analytics, our side: a province of synthetic rows, its sequence, and repeats counted over it in one pass."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import Done

if TYPE_CHECKING:
    from radlake.lake import Lake

__all__ = [
    "SORTED",
    "WORKERS",
    "all_rules",
    "answer",
    "build",
    "each",
    "lake_of",
    "make",
    "newest_month",
    "one_pass",
    "questions",
    "sequence_files",
]

WORKERS = 2
_PERIOD = date(2024, 1, 1), date(2026, 12, 31)
_STREAM = """
SELECT
    exam_month,
    site_code >> 12 AS place,
    exam_code >> 16 AS modality,
    count(*) FILTER (is_counted) AS n_exams,
    count(*) FILTER (
        is_counted AND before_key = patient_key AND before_code = exam_code AND (exam_code & 3) <> 3
        AND person_day - before_day BETWEEN 1 AND 30
    ) AS n_repeats,
    count(*) FILTER (
        before_key > patient_key OR before_key = patient_key
        AND (before_code > exam_code OR before_code = exam_code AND before_day > person_day)
    ) AS n_out_of_order
FROM (
    SELECT
        patient_key, exam_code, person_day, exam_month, site_code, is_counted,
        lag(patient_key) OVER {window} AS before_key,
        lag(exam_code) OVER {window} AS before_code,
        lag(person_day) OVER {window} AS before_day
    FROM {relation}
)
GROUP BY ALL
"""
SORTED = "(PARTITION BY patient_key, exam_code ORDER BY person_day, day_second, site_code, encounter_code)"


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


def build(folder: Path, _: Path) -> Callable[[], Done]:
    """Lay the exams out, and count; the part is the offsets from the key."""
    import numpy as np

    from radlake.config import Settings
    from radlake.ingest.offsets import date_offsets
    from radlake.lake import parquet
    from radlake.stats.duplicates.rates import RATES, repeat_rates
    from radlake.stats.duplicates.sequence import TABLE, Observed, build_sequence

    lake = lake_of(folder)

    def run() -> Done:
        spent = 0.0
        with date_offsets(Settings(lake=str(folder))) as offsets:

            def timed(keys: np.ndarray) -> np.ndarray:
                nonlocal spent
                before = time.thread_time()
                found = offsets(keys)
                spent += time.thread_time() - before
                return found

            build_sequence(lake, date_offsets=timed, observed=Observed(*_PERIOD), workers=WORKERS)
        with parquet.new_connection() as connection:
            files = lake.restricted_tables.files(TABLE)
            [(n,)] = connection.execute("SELECT count(*) FILTER (is_counted) FROM read_parquet(?)", [files]).fetchall()
        return Done(n, part_cpu=spent, look=count)

    def count() -> None:
        lake.restricted_tables.overwrite(RATES, repeat_rates(lake, workers=WORKERS), batch_id=f"bench-{folder.name}")

    return run


def sequence_files(folder: Path) -> list[str]:
    from radlake.lake import parquet
    from radlake.stats.duplicates.sequence import TABLE

    parquet.new_connection().close()  # start-up is no part of what is measured
    return lake_of(folder).restricted_tables.files(TABLE)


def each(files: Sequence[Any], query: Callable[[Any], str]) -> list[Any]:
    """Results of a query of each file, two at once, each on one thread."""
    from radlake.lake import parquet

    def one(file: Any) -> Any:
        with parquet.new_connection(threads=1) as connection:
            return connection.sql(query(file)).to_arrow_table()

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(one, files))


def one_pass(folder: Path, _: Path, *, window: str = "()") -> Callable[[], Done]:
    files = sequence_files(folder)

    def run() -> Done:
        found = each(files, lambda file: _STREAM.format(window=window, relation=f"read_parquet('{file}')"))
        return Done(0, look=lambda: answer(found))

    return run


def newest_month(folder: Path, _: Path) -> Callable[[], Done]:
    """Repeats within 30 days of the last month, which need its exams and those of the two months before."""
    files = sequence_files(folder)
    relation = "(FROM read_parquet('{}') WHERE exam_month BETWEEN 202610 AND 202612)"

    def run() -> Done:
        each(files, lambda file: _STREAM.format(window="()", relation=relation.format(file)))
        return Done(0)

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


def questions(folder: Path) -> dict[str, list[float]]:
    """Wall milliseconds of questions to the cube, each by one dimension of one pack, window and year."""
    from radlake.contracts import load_table
    from radlake.lake import parquet

    lake = lake_of(folder)
    files = lake.restricted_tables.files("stats.repeat_rate")
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
    return {"question to the cube": times} | _order_entry(folder, lake)


def _order_entry(folder: Path, lake: Lake) -> dict[str, list[float]]:
    """Wall milliseconds of what order entry asks, one person in four absent: from the index, and from the lake."""
    import numpy as np

    from radlake.config import Settings
    from radlake.ingest.offsets import date_offsets
    from radlake.lake import duck
    from radlake.stats.duplicates.recent import RecentExams, build_index

    now = datetime(2026, 12, 31, 20)
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
    recent = RecentExams(lake)
    times: dict[str, list[float]] = {"recent exams, index": [], "recent exams, lake": []}
    for (key, modality, part), shift in zip(asked, moved, strict=True):
        found = []
        for name, ask in zip(times, (recent.from_index, recent.from_lake), strict=True):
            begun = time.perf_counter()
            found.append(ask(key, modality, part, since=now - timedelta(days=90) + shift, until=now + shift))
            times[name].append(1000 * (time.perf_counter() - begun))
        assert found[0] == found[1], "the index and the lake differ"
    recent.close()
    return times


def answer(tables: list[Any]) -> str:
    """Digest of the counts, whatever their order, after adding up what several ranges found."""
    import duckdb
    import pyarrow as pa

    columns = ["exam_month", "place", "modality", "n_exams", "n_repeats", "n_out_of_order"]
    schema = pa.schema([(name, pa.int64()) for name in columns])
    with duckdb.connect() as connection:
        connection.register("found", pa.concat_tables([table.select(columns).cast(schema) for table in tables]))
        rows = connection.execute(
            "SELECT exam_month, place, modality, sum(n_exams), sum(n_repeats), sum(n_out_of_order) FROM found"
            " GROUP BY ALL HAVING sum(n_exams) > 0 ORDER BY ALL"
        ).fetchall()
    assert not any(row[-1] for row in rows), "the rows did not come in order"
    return hashlib.sha256(repr([tuple(map(int, row)) for row in rows]).encode()).hexdigest()[:16]
