"""Lay the exams of a lake out by person, exam and time, so that one pass over them finds every repeat.

core.exam_sequence is derived: it can be thrown away and made again. It is made in ranges of persons, each of which
fits in memory, with the true calendar undone there (docs/adr/0031-repeats-in-one-pass.md). Exams that state left or
right stand in a track of their own side, and those without a side in all tracks, so that the row before an exam is
always the latest earlier exam of a compatible side. How pairs are found and classed is in `pairs`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from radlake.contracts import load_table
from radlake.errors import ContractBroken
from radlake.lake import Lake, parquet
from radlake.lake.deltalog import DataFile
from radlake.stats.duplicates.packs import Windows, load_grounds, load_windows

__all__ = ["LEVEL_SHIFT", "SITE_BITS", "TABLE", "Built", "Codes", "Observed", "build_sequence", "ground_bits"]

TABLE = "core.exam_sequence"
SITE_BITS, LEVEL_SHIFT = 16, 12
_ROWS_AT_ONCE = 2_000_000
_ROW_GROUP = 122_880  # scanned, never looked up

DateOffsets = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Observed:
    """From which to which true day exams are known; of every hospital the same."""

    first: date
    last: date


@dataclass(frozen=True)
class Built:
    """What a build did: version of the table, whether it is new, rows, and exams left out for want of a date."""

    version: int
    is_new: bool
    inputs: Mapping[str, int]


@dataclass(frozen=True)
class Codes:
    """Numbers for hospitals, modalities and body parts, in the order of their names: the same lake gives the same."""

    table: pa.Table

    @classmethod
    def from_lake(cls, lake: Lake, *, snapshot: Mapping[str, int]) -> Codes:
        exams = lake.tables.files("core.exam", version=snapshot["core.exam"])
        hospitals = lake.tables.files("ref.hospital", version=snapshot.get("ref.hospital"))
        table = load_table("core.sequence_code")
        with _connection(lake) as connection:
            exam = parquet.scan(load_table("core.exam"), exams)
            hospital = parquet.scan(load_table("ref.hospital"), hospitals)
            rows = connection.sql(_CODES.format(exam=exam, hospital=hospital)).to_arrow_table()
        return cls(rows.cast(table.arrow_schema()))


def build_sequence(
    lake: Lake, *, date_offsets: DateOffsets, observed: Observed | None = None, workers: int = 2
) -> Built:
    """Make core.exam_sequence and core.sequence_code anew from the newest core.exam and ref.exam_order.

    Parameters
    ----------
    date_offsets : callable
        Seconds by which the times of each person (patient_key) were moved.
    observed : Observed, optional
        The period; else each hospital is observed from the day by which one exam in a thousand was done to the day
        after which one in a thousand is left, so that wrong clocks do not stretch it.
    workers : int
        Ranges of persons that are made at once.

    Raises
    ------
    ContractBroken
        If there is no exam, or an exam's record names a ground that grounds.yaml does not have.
    """
    names = ("core.exam", "ref.exam_order", "ref.hospital")
    snapshot = {name: version for name in names if (version := lake.tables.version(name)) is not None}
    if "core.exam" not in snapshot:
        raise ContractBroken(table="core.exam", problems=["there is no exam; run `radlake build` first"])
    windows = load_windows()
    said = "-".join(str(snapshot.get(name, "none")) for name in names)
    period = f"{observed.first}-{observed.last}" if observed else "by-hospital"
    batch_id = f"sequence-{said}-w{windows.version}-{period}"
    codes = Codes.from_lake(lake, snapshot=snapshot)
    ranges = _ranges(lake, snapshot=snapshot)
    job = _Job(lake, snapshot, codes, windows, date_offsets, _grounds(lake, snapshot=snapshot))
    periods = job.fixed_periods(observed) if observed else job.periods(ranges)

    def write(folder: Path) -> Sequence[DataFile]:
        with ThreadPoolExecutor(workers) as pool:
            written = pool.map(lambda numbered: job.write(*numbered, periods=periods, folder=folder), enumerate(ranges))
            return [file for files in written for file in files]

    store = lake.restricted_tables
    store.overwrite("core.sequence_code", codes.table, batch_id=batch_id)
    version, is_new = store.overwrite_files(TABLE, write, batch_id=batch_id)
    return Built(version, is_new, snapshot)


def ground_bits(texts: Sequence[str]) -> list[int]:
    """Bits of each text of `ground_codes`.

    >>> ground_bits(["", "emergency", "emergency+oncology"])
    [0, 8, 264]

    Raises
    ------
    ContractBroken
        With every ground that grounds.yaml does not have.
    """
    grounds = load_grounds()
    codes = [text.split("+") if text else [] for text in texts]
    if unknown := sorted({code for found in codes for code in found} - grounds.keys()):
        problems = [
            f"ground_codes: there is no ground {code}; see schemas/rules/duplicates/grounds.yaml" for code in unknown
        ]
        raise ContractBroken(table="ref.exam_order", problems=problems)
    return [sum(1 << grounds[code].bit for code in set(found)) for found in codes]


@dataclass(frozen=True)
class _Job:
    lake: Lake
    snapshot: Mapping[str, int]
    codes: Codes
    windows: Windows
    date_offsets: DateOffsets
    grounds: pa.Table

    def fixed_periods(self, observed: Observed) -> pa.Table:
        sites = self.codes.table.filter(pa.compute.equal(self.codes.table["code_kind"], "site"))  # pyright: ignore[reportAttributeAccessIssue]
        n = sites.num_rows
        return pa.table(
            {"site_code": sites["code"], "first_date": pa.array([observed.first] * n), "last_date": [observed.last] * n}
        )

    def periods(self, ranges: Sequence[tuple[int, int]]) -> pa.Table:
        """First and last day of each hospital, from the days of all exams; a second pass over core.exam."""
        counts = []
        for low, high in ranges:
            with self._exams(low, high) as connection:
                counts.append(connection.sql(_DAYS).to_arrow_table())
        with _connection(self.lake) as connection:
            connection.register("counts", pa.concat_tables(counts))
            return connection.sql(_PERIODS).to_arrow_table()

    def write(self, number: int, limits: tuple[int, int], *, periods: pa.Table, folder: Path) -> list[DataFile]:
        """The file of one range of persons."""
        table = load_table(TABLE)
        with self._exams(*limits) as connection:
            connection.register("periods", periods)
            connection.register("grounds", self.grounds)
            orders = self._files("ref.exam_order", limits)
            connection.execute(_ORDERS.format(orders=parquet.scan(load_table("ref.exam_order"), orders)), limits)
            connection.execute(_KNOWN.format(max_person_exams=self.windows.max_person_exams))
            connection.execute(_SUPPLEMENTARY)
            before, after = (
                " + ".join(f"({days} >= {window})::INTEGER" for window in self.windows.days)
                for days in ("days_before", "days_after")
            )
            query = _SEQUENCE.format(before=before, after=after)
            return parquet.write_query(
                connection, table, query, folder=folder, name=f"s-{number:04d}", row_group=_ROW_GROUP
            )

    def _exams(self, low: int, high: int) -> duckdb.DuckDBPyConnection:
        """A connection with the table `exam` of a range of persons, in true time and in numbers."""
        connection = _connection(self.lake)
        relation = parquet.scan(load_table("core.exam"), self._files("core.exam", (low, high)))
        connection.execute(_SHIFTED.format(exams=relation), (low, high))
        persons = connection.sql("SELECT DISTINCT patient_key FROM shifted ORDER BY patient_key").to_arrow_table()
        keys = persons["patient_key"].to_numpy()
        offsets = np.asarray(self.date_offsets(keys), dtype=np.int64)
        connection.register("offsets", pa.table({"patient_key": keys, "seconds": offsets}))
        connection.register("codes", self.codes.table)
        connection.execute(_EXAM)
        connection.execute("DROP TABLE shifted")
        connection.unregister("offsets")
        return connection

    def _files(self, name: str, limits: tuple[int, int]) -> list[str]:
        if name not in self.snapshot:
            return []
        where = f"patient_key >= {limits[0]} AND patient_key < {limits[1]}"
        return self.lake.tables.files(name, version=self.snapshot[name], where=where)


def _connection(lake: Lake) -> duckdb.DuckDBPyConnection:
    from radlake.lake.store import S3Store

    store = lake.tables.store
    connection = parquet.new_connection(threads=1, filesystem=store.fs if isinstance(store, S3Store) else None)
    lake.scratch.mkdir(parents=True, exist_ok=True)
    connection.execute(f"SET temp_directory = {parquet.text(str(lake.scratch))}")
    return connection


def _ranges(lake: Lake, *, snapshot: Mapping[str, int]) -> list[tuple[int, int]]:
    """Ranges of patient_key with about as many exams each; pseudonyms are spread evenly between the ends."""
    files = lake.tables.files("core.exam", version=snapshot["core.exam"])
    with _connection(lake) as connection:
        exams = parquet.scan(load_table("core.exam"), files)
        row = connection.execute(f"SELECT count(*), min(patient_key), max(patient_key) FROM {exams}").fetchone()
    n, least, greatest = (value or 0 for value in row or (0, 0, 0))
    n_ranges = max(1, -(-n // _ROWS_AT_ONCE))
    limits = [least + (greatest - least) * number // n_ranges for number in range(n_ranges + 1)]
    limits[-1] = greatest + 1
    return list(itertools.pairwise(limits))


def _grounds(lake: Lake, *, snapshot: Mapping[str, int]) -> pa.Table:
    """Bits of every text of grounds that occurs."""
    files = (
        lake.tables.files("ref.exam_order", version=snapshot["ref.exam_order"]) if "ref.exam_order" in snapshot else []
    )
    with _connection(lake) as connection:
        orders = parquet.scan(load_table("ref.exam_order"), files)
        texts = [text for (text,) in connection.execute(f"SELECT DISTINCT ground_codes FROM {orders}").fetchall()]
    return pa.table({"ground_codes": pa.array(texts, pa.string()), "bits": pa.array(ground_bits(texts), pa.int32())})


_CODES = """
WITH modalities AS (SELECT DISTINCT modality_group AS label FROM {exam}),
body_parts AS (SELECT DISTINCT body_part_code AS label FROM {exam}),
hospitals AS (
    SELECT
        exams.hospital_id AS label,
        CASE WHEN known.region_code IS NULL OR known.region_code = 'UNKNOWN' THEN 'UNKNOWN'
            ELSE left(known.region_code, 4) || '00' END AS region_code,
        coalesce(known.hospital_level, 'UNKNOWN') AS hospital_level
    FROM (SELECT DISTINCT hospital_id FROM {exam}) AS exams
    LEFT JOIN {hospital} AS known ON exams.hospital_id = known.hospital_id
),
numbered AS (
    SELECT
        *,
        dense_rank() OVER (ORDER BY region_code) - 1 AS region_number,
        dense_rank() OVER (ORDER BY hospital_level) - 1 AS level_number,
        row_number() OVER (PARTITION BY region_code, hospital_level ORDER BY label) - 1 AS number
    FROM hospitals
)
SELECT 'modality' AS code_kind, (row_number() OVER (ORDER BY label) - 1)::INTEGER AS code, label,
    NULL::VARCHAR AS region_code, NULL::VARCHAR AS hospital_level FROM modalities
UNION ALL
SELECT 'body_part', (row_number() OVER (ORDER BY label) - 1)::INTEGER, label, NULL, NULL FROM body_parts
UNION ALL
SELECT 'site',
    CASE WHEN level_number < 16 AND number < 4096 THEN (region_number * 65536 + level_number * 4096 + number)::INTEGER
        ELSE error('more levels or hospitals of one level and prefecture than a number has room for') END,
    label, region_code, hospital_level
FROM numbered
ORDER BY code_kind, code
"""

_SHIFTED = """
CREATE TABLE shifted AS
SELECT patient_key, hospital_id, exam_pseudo_id, study_at, modality_group, body_part_code, laterality_code,
    is_patient_known
FROM {exams}
WHERE study_at IS NOT NULL AND patient_key >= ? AND patient_key < ?
"""

_EXAM = """
CREATE TABLE exam AS
SELECT
    shifted.patient_key,
    shifted.hospital_id,
    shifted.exam_pseudo_id,
    site.code AS site_code,
    shifted.study_at - to_seconds(offsets.seconds) AS exam_at,
    exam_at::DATE AS exam_date,
    modality.code AS modality_code,
    body_part.code AS body_part,
    (CASE shifted.laterality_code WHEN 'L' THEN 1 WHEN 'R' THEN 2 WHEN 'B' THEN 3 ELSE 0 END)::SMALLINT AS side_code,
    shifted.is_patient_known AND shifted.body_part_code <> 'UNKNOWN' AS is_told
FROM shifted
INNER JOIN offsets USING (patient_key)
INNER JOIN codes AS site ON site.code_kind = 'site' AND site.label = shifted.hospital_id
INNER JOIN codes AS modality ON modality.code_kind = 'modality' AND modality.label = shifted.modality_group
INNER JOIN codes AS body_part ON body_part.code_kind = 'body_part' AND body_part.label = shifted.body_part_code
"""

_DAYS = "SELECT site_code, exam_date, count(*) AS n FROM exam GROUP BY ALL"

_PERIODS = """
WITH days AS (SELECT site_code, exam_date, sum(n) AS n FROM counts GROUP BY ALL),
running AS (
    SELECT site_code, exam_date, sum(n) OVER (PARTITION BY site_code ORDER BY exam_date) AS n_until,
        sum(n) OVER (PARTITION BY site_code) AS n_all
    FROM days
)
SELECT site_code,
    min(exam_date) FILTER (WHERE n_until >= 0.001 * n_all) AS first_date,
    min(exam_date) FILTER (WHERE n_until >= 0.999 * n_all) AS last_date
FROM running
GROUP BY site_code
"""

_ORDERS = """
CREATE TABLE exam_order AS
SELECT
    orders.hospital_id,
    orders.exam_pseudo_id,
    orders.patient_key,
    CASE WHEN orders.encounter_pseudo_id IS NULL THEN 0
        ELSE hash(orders.hospital_id, orders.encounter_pseudo_id) % 2147483646 + 1 END::INTEGER AS encounter_code,
    grounds.bits AS ground_bits,
    coalesce(orders.operation_days, -1) AS operation_days
FROM {orders} AS orders
INNER JOIN grounds ON orders.ground_codes = grounds.ground_codes
WHERE orders.patient_key >= ? AND orders.patient_key < ?
"""

# Persons, and the groups of a person's exams in which left and right occur.
_KNOWN = """
CREATE TABLE person AS
SELECT patient_key, min(exam_date) AS first_date, count(*) > {max_person_exams} AS is_shared
FROM exam GROUP BY patient_key;
CREATE TABLE known AS
SELECT exam.*, exam.rowid AS row_number, person.first_date AS person_date, is_told AND NOT is_shared AS is_matchable
FROM exam INNER JOIN person USING (patient_key);
DROP TABLE exam;
CREATE TABLE two_sided AS
SELECT patient_key, modality_code, body_part
FROM known
WHERE side_code IN (1, 2) AND is_matchable
GROUP BY ALL
HAVING min(side_code) < max(side_code)
"""

_SUPPLEMENTARY = """
CREATE TABLE supplementary AS
WITH several AS (
    SELECT patient_key, body_part
    FROM known WHERE is_matchable
    GROUP BY ALL
    HAVING min(modality_code) < max(modality_code)
),
candidates AS (SELECT known.* FROM known SEMI JOIN several USING (patient_key, body_part) WHERE is_matchable)
SELECT later.row_number, min(later.exam_date - earlier.exam_date) AS days
FROM candidates AS later
INNER JOIN candidates AS earlier
    ON later.patient_key = earlier.patient_key
    AND later.body_part = earlier.body_part
    AND later.modality_code <> earlier.modality_code
    AND earlier.exam_at < later.exam_at
    AND NOT (later.side_code = 1 AND earlier.side_code = 2)
    AND NOT (later.side_code = 2 AND earlier.side_code = 1)
GROUP BY later.row_number
"""

_SEQUENCE = """
WITH tracked AS (
    SELECT
        known.*,
        known.modality_code * 65536 + known.body_part * 4 AS kind,
        CASE
            WHEN NOT is_matchable THEN [3]
            WHEN two_sided.patient_key IS NULL THEN [0]
            WHEN side_code = 1 THEN [1, 0]
            WHEN side_code = 2 THEN [2, 0]
            ELSE [0, 1, 2]
        END AS tracks
    FROM known
    LEFT JOIN two_sided USING (patient_key, modality_code, body_part)
),
laid AS (
    SELECT tracked.* EXCLUDE (tracks), tracks[1] AS track, TRUE AS is_counted FROM tracked
    UNION ALL
    SELECT tracked.* EXCLUDE (tracks), unnest(tracks[2:]) AS track, FALSE AS is_counted
    FROM tracked WHERE len(tracks) > 1
),
placed AS (
    SELECT
        laid.*,
        CASE WHEN exam_date <= last_date THEN exam_date - periods.first_date ELSE -1 END AS days_before,
        CASE WHEN exam_date >= periods.first_date THEN last_date - exam_date ELSE -1 END AS days_after
    FROM laid
    INNER JOIN periods USING (site_code)
)
SELECT
    placed.patient_key,
    (placed.kind + placed.track)::INTEGER AS exam_code,
    (placed.exam_date - placed.person_date)::INTEGER AS person_day,
    (epoch(placed.exam_at) - epoch(placed.exam_date))::INTEGER AS day_second,
    (year(placed.exam_date) * 100 + month(placed.exam_date))::INTEGER AS exam_month,
    placed.site_code,
    placed.is_counted,
    placed.side_code,
    ({before})::SMALLINT AS n_windows_before,
    ({after})::SMALLINT AS n_windows_after,
    coalesce(exam_order.encounter_code, 0)::INTEGER AS encounter_code,
    coalesce(exam_order.ground_bits, 0)::INTEGER AS ground_bits,
    coalesce(exam_order.operation_days, -1)::SMALLINT AS operation_days,
    coalesce(supplementary.days, -1)::INTEGER AS supplementary_days
FROM placed
LEFT JOIN exam_order USING (hospital_id, exam_pseudo_id, patient_key)
LEFT JOIN supplementary USING (row_number)
"""
