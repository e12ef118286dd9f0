"""Analytics: repeats of a whole province in one pass, beside a plain scan of the same columns, sorts, pandas and Dask.

The province comes from `radlake synth province`, or is a lake that is there (`--lake`). Everything that counts the same
must give the same answer. Figures are CPU seconds of all threads and processes, wall time and peak memory of fresh
processes; ratios are of CPU, to a plain scan (a sum of hashes of the same columns) in the same run.
"""

from __future__ import annotations

import hashlib
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import Place, in_fresh_process, peak_bytes, print_rows

if TYPE_CHECKING:
    from radlake.config import Settings
    from radlake.lake import Lake

__all__ = ["main"]

_PERIOD = date(2024, 1, 1), date(2026, 12, 31)
_WORKERS = 2
_COLUMNS = ("patient_key", "exam_code", "person_day", "exam_month", "site_code", "is_counted")
_PANDAS_ROWS = 12_000_000
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
_GROUPS = """
SELECT exam_month, site_code >> 12 AS place, exam_code >> 16 AS modality, count(*) FILTER (is_counted) AS n_exams,
    max(patient_key), max(person_day)
FROM {relation}
GROUP BY ALL
"""
_SORTED = "(PARTITION BY patient_key, exam_code ORDER BY person_day, day_second, site_code, encounter_code)"
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


@dataclass(frozen=True)
class _Ran:
    """What a contestant used; `part_cpu` is the part of `cpu` that is told by itself."""

    cpu: float
    wall: float
    peak: float
    answer: str = ""
    part_cpu: float = 0.0
    n: int = 0


def main(place: Place, *, exams: int, lake: Path | None, seed: int) -> None:
    """Print one table of whole statistics, and one of single questions."""
    folder = lake or place.folder / "lake"
    if lake is None:
        made = in_fresh_process(partial(_make, folder, n_exams=exams, seed=seed))
        pace = f"{made.n / made.wall:,.0f} a second wall, {made.n / made.cpu:,.0f} a second of CPU"
        print(f"synth province: {made.n:,} exams, {pace}, peak {made.peak / 2**30:.1f} GiB")
    built = in_fresh_process(partial(_build, folder))
    n_exams = built.n
    spent = f"{built.cpu:.1f} s CPU, of it {built.part_cpu:.1f} s offsets from the key, {built.wall:.1f} s wall"
    print(f"core.exam_sequence of {n_exams:,} exams: {spent}, peak {built.peak / 2**30:.1f} GiB")

    runs: dict[str, list[_Ran]] = {}
    contestants: dict[str, Callable[[Path], _Ran]] = {
        "plain scan, sequence": _scan_sequence,
        "GROUP BY alone": _group_only,
        "one pass": partial(_count, window="()"),
        "sorted window": partial(_count, window=_SORTED),
        "newest month alone": _newest_month,
        "one pass, all rules": _all_rules,
        "plain scan, core.exam": _scan_exams,
        "core.exam by month": _everyday,
        "Dask, 2 workers": _dask,
    }
    for _ in range(place.repetitions):
        for name, contestant in contestants.items():
            runs.setdefault(name, []).append(in_fresh_process(partial(contestant, folder)))
    middle = {name: sorted(found, key=lambda run: run.cpu)[len(found) // 2] for name, found in runs.items()}
    alike = ("one pass", "sorted window", "core.exam by month", "Dask, 2 workers")
    answers = {run.answer for name in alike for run in runs[name]}
    assert len(answers) == 1, f"the answers differ: { {name: middle[name].answer for name in alike} }"
    scan = middle["plain scan, sequence"]
    rows = [
        ("repeats within 30 days by month, prefecture, level, modality", "CPU s", "x scan", "wall s", "peak MiB", "")
    ]
    for name, run in middle.items():
        note = f"{run.part_cpu:.1f} s of it offsets" if run.part_cpu else ""
        shown = (f"{run.cpu:.2f}", f"{run.cpu / scan.cpu:.2f}", f"{run.wall:.2f}", f"{run.peak / 2**20:,.0f}", note)
        rows.append((name, *shown))
    print_rows(rows, title=f"{n_exams:,} exams, median of {place.repetitions}, {_WORKERS} workers; equal answers")

    few = in_fresh_process(partial(_pandas, folder))
    share = scan.cpu * few.n / n_exams
    ratio = f"{few.cpu / share:.1f}x the scan of as many"
    print(f"\npandas, whole in memory: {few.n:,} rows, {few.cpu:.2f} s CPU ({ratio}), peak {few.peak / 2**30:.1f} GiB")
    for name, times in in_fresh_process(partial(_questions, folder)).items():
        cut = statistics.quantiles(times, n=100, method="inclusive")
        print(f"{name}: p50 {cut[49]:.2f} ms, p95 {cut[94]:.2f} ms, p99 {cut[98]:.2f} ms (n={len(times)})")


def _make(folder: Path, *, n_exams: int, seed: int) -> _Ran:
    from radlake.cli.init import ensure_key
    from radlake.config import Settings
    from radlake.ingest.offsets import date_offsets
    from radlake.lake import Lake
    from radlake.synth.rows.write import Plan, write_chunk, write_province

    begun = time.monotonic(), _cpu()
    settings = Settings(lake=str(folder))
    ensure_key(settings)
    lake, plan = Lake.from_settings(settings), Plan(n_exams=n_exams, seed=seed, start=_PERIOD[0], end=_PERIOD[1])
    with date_offsets(settings) as offsets:
        chunks = (write_chunk(lake, plan, chunk, date_offsets=offsets) for chunk in range(plan.n_chunks))
        write_province(lake, plan, chunks=chunks)
    return _ran(begun, n=n_exams)


def _build(folder: Path) -> _Ran:
    import numpy as np

    from radlake.config import Settings
    from radlake.ingest.offsets import date_offsets
    from radlake.lake import Lake, parquet
    from radlake.stats.duplicates.rates import RATES, repeat_rates
    from radlake.stats.duplicates.sequence import TABLE, Observed, build_sequence

    begun = time.monotonic(), _cpu()
    settings = Settings(lake=str(folder))
    lake = Lake.from_settings(settings)
    spent = 0.0
    with date_offsets(settings) as offsets:

        def timed(keys: np.ndarray) -> np.ndarray:
            nonlocal spent
            before = time.thread_time()
            found = offsets(keys)
            spent += time.thread_time() - before
            return found

        build_sequence(lake, date_offsets=timed, observed=Observed(*_PERIOD), workers=_WORKERS)
    ran = _ran(begun, part_cpu=spent)
    lake.restricted_tables.overwrite(RATES, repeat_rates(lake, workers=_WORKERS), batch_id=f"bench-{folder.name}")
    files = lake.restricted_tables.files(TABLE)
    with parquet.new_connection() as connection:
        counted = connection.execute("SELECT count(*) FILTER (is_counted) FROM read_parquet(?)", [files]).fetchall()
    return _Ran(ran.cpu, ran.wall, ran.peak, n=counted[0][0], part_cpu=spent)


def _sequence(folder: Path) -> list[str]:
    from radlake.config import Settings
    from radlake.lake import Lake, parquet
    from radlake.stats.duplicates.sequence import TABLE

    parquet.new_connection().close()  # start-up is no part of what is measured
    return Lake.from_settings(Settings(lake=str(folder))).restricted_tables.files(TABLE)


def _each(files: Sequence[Any], query: Callable[[Any], str]) -> list[Any]:
    """Results of a query of each file, two at once, each on one thread."""
    from radlake.lake import parquet

    def one(file: Any) -> Any:
        with parquet.new_connection(threads=1) as connection:
            return connection.sql(query(file)).to_arrow_table()

    with ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(one, files))


def _scan_sequence(folder: Path) -> _Ran:
    files = _sequence(folder)
    begun = time.monotonic(), _cpu()
    columns = ", ".join(_COLUMNS)
    _each(files, lambda file: f"SELECT sum(hash({columns})) FROM read_parquet('{file}')")
    return _ran(begun)


def _group_only(folder: Path) -> _Ran:
    """The same groups without looking back: what is left is the price of a repeat."""
    files = _sequence(folder)
    begun = time.monotonic(), _cpu()
    _each(files, lambda file: _GROUPS.format(relation=f"read_parquet('{file}')"))
    return _ran(begun)


def _count(folder: Path, *, window: str) -> _Ran:
    files = _sequence(folder)
    begun = time.monotonic(), _cpu()
    found = _each(files, lambda file: _STREAM.format(window=window, relation=f"read_parquet('{file}')"))
    return _ran(begun, answer=_answer(found))


def _newest_month(folder: Path) -> _Ran:
    """Repeats within 30 days of the last month, which need its exams and those of the two months before."""
    files = _sequence(folder)
    begun = time.monotonic(), _cpu()
    relation = "(FROM read_parquet('{}') WHERE exam_month BETWEEN 202610 AND 202612)"
    _each(files, lambda file: _STREAM.format(window="()", relation=relation.format(file)))
    return _ran(begun)


def _all_rules(folder: Path) -> _Ran:
    """Both rule packs, five windows, every exclusion, across hospitals, prefectures and levels, by hospital."""
    from radlake.stats.duplicates.packs import load_packs, load_windows
    from radlake.stats.duplicates.rates import count_cells

    files = _sequence(folder)
    begun = time.monotonic(), _cpu()
    count_cells(files, packs=load_packs(), windows=load_windows(), direction="back", workers=_WORKERS)
    return _ran(begun)


def _ranges(folder: Path) -> list[list[str]]:
    """Files of core.exam by range of persons, as its log tells them."""
    from radlake.config import Settings
    from radlake.lake import Lake

    lake = Lake.from_settings(Settings(lake=str(folder)))
    limits = _limits(folder)
    return [
        lake.tables.files("core.exam", where=f"patient_key >= {low} AND patient_key < {high}") for low, high in limits
    ]


def _limits(folder: Path) -> list[tuple[int, int]]:
    from radlake.config import Settings
    from radlake.contracts import load_table
    from radlake.lake import Lake, parquet
    from radlake.stats.duplicates.sequence import person_ranges

    lake = Lake.from_settings(Settings(lake=str(folder)))
    with parquet.new_connection(threads=1) as connection:
        return person_ranges(connection, parquet.scan(load_table("core.exam"), lake.tables.files("core.exam")))


def _scan_exams(folder: Path) -> _Ran:
    ranges = [files for files in _ranges(folder) if files]
    whole = sorted({file for files in ranges for file in files})
    begun = time.monotonic(), _cpu()
    columns = ", ".join(_EXAM_COLUMNS)
    _each([whole[::2], whole[1::2]], lambda files: f"SELECT sum(hash({columns})) FROM read_parquet({files})")
    return _ran(begun)


def _everyday(folder: Path) -> _Ran:
    """One query for each range of persons; offsets are derived for each and forgotten."""
    import pyarrow as pa

    from radlake.config import Settings
    from radlake.contracts import load_table
    from radlake.ingest.offsets import date_offsets
    from radlake.lake import Lake, parquet

    settings = Settings(lake=str(folder))
    lake = Lake.from_settings(settings)
    codes = parquet.scan(load_table("core.sequence_code"), lake.restricted_tables.files("core.sequence_code"))
    found: list[Any] = []
    spent = 0.0
    begun = time.monotonic(), _cpu()
    with date_offsets(settings) as offsets, parquet.new_connection(threads=_WORKERS) as connection:
        connection.execute(f"CREATE TABLE codes AS FROM {codes}")
        for (low, high), files in zip(_limits(folder), _ranges(folder), strict=True):
            if not files:
                continue
            columns = ", ".join(_EXAM_COLUMNS)
            connection.execute(
                f"CREATE OR REPLACE TABLE exams AS SELECT {columns} FROM read_parquet({files})"
                f" WHERE study_at IS NOT NULL AND patient_key >= {low} AND patient_key < {high}"
            )
            keys = connection.sql("SELECT DISTINCT patient_key FROM exams").to_arrow_table()["patient_key"].to_numpy()
            before = time.thread_time()
            moved = offsets(keys)
            spent += time.thread_time() - before
            connection.register("offsets", pa.table({"patient_key": keys, "seconds": moved}))
            found.append(connection.sql(_EVERYDAY).to_arrow_table())
    return _ran(begun, answer=_answer(found), part_cpu=spent)


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


def _pandas(folder: Path) -> _Ran:
    import pandas as pd
    import pyarrow.parquet as pq

    files, n = [], 0
    for file in _sequence(folder):
        if n + pq.read_metadata(file).num_rows > _PANDAS_ROWS and files:
            break
        files.append(file)
        n += pq.read_metadata(file).num_rows
    begun = time.monotonic(), _cpu()
    frame = pd.concat([pd.read_parquet(file, columns=list(_COLUMNS)) for file in files], ignore_index=True)
    _frame_counts(frame)
    return _ran(begun, n=n)


def _dask(folder: Path) -> _Ran:
    """A partition is a file, which holds whole persons; the list of files comes from the Delta log."""
    import dask.dataframe as dd
    import pyarrow as pa
    from distributed import Client, LocalCluster

    files = _sequence(folder)
    begun = time.monotonic(), _cpu()
    with (
        LocalCluster(
            n_workers=_WORKERS, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
        ) as cluster,
        Client(cluster),
    ):
        frame = dd.read_parquet(files, columns=list(_COLUMNS), split_row_groups=False)  # pyright: ignore[reportArgumentType]
        meta = dict.fromkeys(("exam_month", "place", "modality", "n_exams", "n_repeats", "n_out_of_order"), "int64")
        found = frame.map_partitions(_frame_counts, meta=meta).compute()
    return _ran(begun, answer=_answer([pa.Table.from_pandas(found, preserve_index=False)]))


def _questions(folder: Path) -> dict[str, list[float]]:
    """Wall milliseconds of questions to the cube, each by one dimension of one pack, window and year."""
    from radlake.config import Settings
    from radlake.contracts import load_table
    from radlake.lake import Lake, parquet

    lake = Lake.from_settings(Settings(lake=str(folder)))
    files = lake.restricted_tables.files("stats.repeat_rate")
    times = []
    with parquet.new_connection(threads=_WORKERS) as connection:
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
    return {"question to the cube": times} | _order_entry(Settings(lake=str(folder)), lake)


def _order_entry(settings: Settings, lake: Lake) -> dict[str, list[float]]:
    """Wall milliseconds of what order entry asks, one person in four absent: from the index, and from the lake."""
    import numpy as np

    from radlake.ingest.offsets import date_offsets
    from radlake.lake import duck
    from radlake.stats.duplicates.recent import RecentExams, build_index

    now = datetime(2026, 12, 31, 20)
    with date_offsets(settings) as offsets:
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


def _answer(tables: list[Any]) -> str:
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


def _cpu() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _ran(begun: tuple[float, float], *, answer: str = "", part_cpu: float = 0.0, n: int = 0) -> _Ran:
    wall, cpu = begun
    return _Ran(_cpu() - cpu, time.monotonic() - wall, peak_bytes(), answer, part_cpu, n)
