"""Lay the exams of a lake out by person, exam and time, so that one pass over them finds every repeat.

core.exam_sequence is derived: it can be thrown away and made again. It is made in ranges of persons, each of which
fits in memory, with the true calendar undone there (docs/adr/0031-repeats-in-one-pass.md). The SQL of the rows is in
`layout`; how pairs are found and classed is in `pairs`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa

from radlake.contracts import load_table
from radlake.contracts.check import compute
from radlake.errors import ContractBroken
from radlake.lake import Lake, parquet
from radlake.lake.deltalog import DataFile
from radlake.sqlrun.date_offsets import DateOffsets, register_offsets
from radlake.stats.duplicates import layout
from radlake.stats.duplicates.codes import code_rows, ground_rows
from radlake.stats.duplicates.moved import Moved, moved_rows
from radlake.stats.duplicates.packs import Windows, load_windows

__all__ = ["CODES", "INPUTS", "TABLE", "Built", "Observed", "build_sequence", "ranges_of_persons", "sequence_codes"]

TABLE = "core.exam_sequence"
CODES = "core.sequence_code"
INPUTS = ("core.exam", "ref.exam_order", "ref.hospital", "core.person_link")
_ROWS_AT_ONCE = 2_000_000
_ROW_GROUP = 122_880  # scanned, never looked up
_LAYOUT = 3  # of the rows: another number makes a sequence anew from the same tables


@dataclass(frozen=True)
class Observed:
    """From which to which true day exams are known; of every hospital the same."""

    first: date
    last: date


@dataclass(frozen=True)
class Built:
    """Version of the table after a build, whether it is new, and the versions of the tables that it was made from."""

    version: int
    is_new: bool
    inputs: Mapping[str, int]


def build_sequence(
    lake: Lake, *, date_offsets: DateOffsets, observed: Observed | None = None, workers: int = 2
) -> Built:
    """Make core.exam_sequence and core.sequence_code anew from the newest core.exam, ref.exam_order and person links.

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
    snapshot = {name: version for name in INPUTS if (version := lake.tables.version(name)) is not None}
    if "core.exam" not in snapshot:
        raise ContractBroken(table="core.exam", problems=["there is no exam; run `radlake build` first"])
    windows = load_windows()
    said = "-".join(str(snapshot.get(name, "none")) for name in INPUTS)
    period = f"{observed.first}-{observed.last}" if observed else "by-hospital"
    batch_id = f"sequence-{said}-w{windows.version}-{period}-l{_LAYOUT}"
    exams, orders, hospitals, links = (_relation(lake, snapshot, name) for name in INPUTS)
    with _connection(lake) as connection:
        codes = code_rows(connection, exams=exams, hospitals=hospitals)
        ranges = _person_ranges(connection, exams)
        grounds = ground_rows(connection, orders=orders)

    def write(folder: Path) -> Sequence[DataFile]:
        tables = {"core.exam": exams, "ref.exam_order": orders}
        with _connection(lake) as connection, moved_rows(lake, connection, links=links, tables=tables) as moved:
            job = _Job(lake, snapshot, codes, windows, date_offsets, grounds, moved)
            periods = job.fixed_periods(observed) if observed else job.periods(ranges)
            with ThreadPoolExecutor(workers) as pool:
                parts = pool.map(lambda given: job.write(*given, periods=periods, folder=folder), enumerate(ranges))
                return [file for files in parts for file in files]

    store = lake.restricted_tables
    store.overwrite(CODES, codes, batch_id=batch_id)
    version, is_new = store.overwrite_files(TABLE, write, batch_id=batch_id)
    return Built(version, is_new, snapshot)


@dataclass(frozen=True)
class _Job:
    lake: Lake
    snapshot: Mapping[str, int]
    codes: pa.Table
    windows: Windows
    date_offsets: DateOffsets
    grounds: pa.Table
    moved: Moved

    def fixed_periods(self, observed: Observed) -> pa.Table:
        sites = self.codes.filter(compute.equal(self.codes["code_kind"], "site"))["code"]
        n = len(sites)
        return pa.table({"site_code": sites, "first_date": [observed.first] * n, "last_date": [observed.last] * n})

    def periods(self, ranges: Sequence[tuple[int, int]]) -> pa.Table:
        """First and last day of each hospital, from the days of all exams; a second pass over core.exam."""
        counts = []
        for low, high in ranges:
            with self._exams(low, high) as connection:
                counts.append(connection.sql(layout.DAYS).to_arrow_table())
        with _connection(self.lake) as connection:
            connection.register("counts", pa.concat_tables(counts))
            return connection.sql(layout.PERIODS).to_arrow_table()

    def write(self, number: int, limits: tuple[int, int], *, periods: pa.Table, folder: Path) -> list[DataFile]:
        """The file of one range of persons."""
        table = load_table(TABLE)
        with self._exams(*limits) as connection:
            connection.register("periods", periods)
            connection.register("grounds", self.grounds)
            orders = self._relation(connection, "ref.exam_order", limits)
            connection.execute(layout.ORDERS.format(orders=orders))
            connection.execute(layout.KNOWN.format(max_person_exams=self.windows.max_person_exams))
            connection.execute(layout.SUPPLEMENTARY)
            query = layout.sequence_sql(self.windows)
            return parquet.write_query(
                connection, table, query, folder=folder, name=f"s-{number:04d}", row_group=_ROW_GROUP
            )

    def _exams(self, low: int, high: int) -> duckdb.DuckDBPyConnection:
        """A connection with the table `exam` of a range of persons, in true time and in numbers."""
        connection = _connection(self.lake)
        exams = self._relation(connection, "core.exam", (low, high))
        connection.execute(layout.SHIFTED.format(exams=exams))
        register_offsets(connection, self.date_offsets, persons="shifted")
        connection.register("codes", self.codes)
        connection.execute(layout.EXAM)
        connection.execute("DROP TABLE shifted")
        connection.unregister("offsets")
        return connection

    def _relation(self, connection: duckdb.DuckDBPyConnection, name: str, limits: tuple[int, int]) -> str:
        where = f"patient_key >= {limits[0]} AND patient_key < {limits[1]}"
        stored = _relation(self.lake, self.snapshot, name, where=where)
        return self.moved.relation(connection, name, stored, limits)


def sequence_codes(lake: Lake) -> pa.Table:
    """core.sequence_code: what the numbers in the sequence mean, by kind and number."""
    stored = parquet.scan(load_table(CODES), lake.restricted_tables.files(CODES))
    with parquet.new_connection(threads=1) as connection:
        return connection.sql(f"FROM {stored} ORDER BY code_kind, code").to_arrow_table()


def ranges_of_persons(n: int, *, least: int, greatest: int, n_rows: int) -> list[tuple[int, int]]:
    """Ranges of patient_key with about `n_rows` of `n` exams each; pseudonyms are spread evenly between the ends.

    Each is its first patient_key, and the first that is no more in it.
    """
    n_ranges = max(1, -(-n // n_rows))
    limits = [least + (greatest - least) * number // n_ranges for number in range(n_ranges + 1)]
    limits[0], limits[-1] = 0, greatest + 1  # the pseudonym that stands for a person may have no exam left
    return list(itertools.pairwise(limits))


def _person_ranges(connection: duckdb.DuckDBPyConnection, exams: str) -> list[tuple[int, int]]:
    row = connection.execute(f"SELECT count(*), min(patient_key), max(patient_key) FROM {exams}").fetchone()
    n, least, greatest = (value or 0 for value in row or (0, 0, 0))
    return ranges_of_persons(n, least=least, greatest=greatest, n_rows=_ROWS_AT_ONCE)


def _relation(lake: Lake, snapshot: Mapping[str, int], name: str, *, where: str | None = None) -> str:
    """SQL of a table of the snapshot without files that cannot hold what `where` asks for; empty without the table."""
    files = lake.tables.files(name, version=snapshot[name], where=where) if name in snapshot else []
    return parquet.scan(load_table(name), files)


def _connection(lake: Lake) -> duckdb.DuckDBPyConnection:
    connection = parquet.new_connection(threads=1, filesystem=lake.tables.filesystem)
    lake.scratch.mkdir(parents=True, exist_ok=True)
    connection.execute(f"SET temp_directory = {parquet.text(str(lake.scratch))}")
    return connection
