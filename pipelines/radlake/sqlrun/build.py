"""Build the core and stats tables: run each query in order, check, verify the contract, publish.

The true calendar exists only in the memory of a build: `restricted.date_offset` is derived from the key for the persons
of dicom.study and dropped with the connection (docs/adr/0003-true-calendar-in-the-restricted-zone.md). Exact statistics
go to the restricted zone, masked ones to the lake. How counts are masked is an argument: `radlake.stats` knows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa

from radlake import log
from radlake.contracts import Table
from radlake.contracts.table import quoted
from radlake.errors import ContractBroken
from radlake.lake import Lake, duck, parquet
from radlake.lake.tables import TableStore
from radlake.sqlrun.date_offsets import LINKS, PERSONS, DateOffsets, register_date_offsets
from radlake.sqlrun.queries import Query, load_queries
from radlake.sqlrun.record import record_builds

__all__ = ["BuiltTable", "Mask", "build"]

# Exact statistics by name -> the same rows with small counts withheld.
Mask = Callable[[Mapping[str, pa.Table]], Mapping[str, pa.Table]]


@dataclass(frozen=True)
class BuiltTable:
    """One table after a build.

    Attributes
    ----------
    name : str
        `stats.exam_volume`.
    version : int
        Version of the table in the lake that holds the rows.
    n_rows, n_masked : int
        Rows, and those whose counts disclosure control withheld.
    is_new : bool
        False when the lake held the same rows already and nothing was written.
    warnings : tuple of str
        Checks that found rows.
    """

    name: str
    version: int
    n_rows: int
    n_masked: int
    is_new: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Result:
    query: Query
    data: pa.Table
    warnings: tuple[str, ...]


def build(
    lake: Lake,
    *,
    date_offsets: DateOffsets,
    mask: Mask,
    run_id: str,
    now: datetime,
    released_by: tuple[str, int] = ("internal", 5),
    layers: Collection[str] | None = None,
    prepare: Callable[[duckdb.DuckDBPyConnection], object] | None = None,
) -> list[BuiltTable]:
    """Build every table of `sql/`, or those of some layers, from one snapshot of the lake.

    Parameters
    ----------
    date_offsets : callable
        Seconds by which the times of each person (patient_key) were moved; true time = shifted time - seconds.
    mask : callable
        Disclosure control over all statistics of this build together.
    run_id : str
        Names the run in ops.build.
    released_by : tuple of str and int
        Name and threshold of the disclosure policy that `mask` follows.
    now : datetime
        UTC, without a zone.
    prepare : callable, optional
        What is done with the inputs before they are read: `radlake.vocab.again.decide_again`.

    Returns
    -------
    list of BuiltTable
        In the order in which they were built. The same inputs give the same rows, and nothing is written twice.

    Raises
    ------
    ContractBroken
        With the failed checks of every table. A table that failed, and those that read it, keep their last version.
    """
    queries = [query for query in load_queries() if layers is None or query.table.layer in layers]
    inputs = {name: version for name in _inputs(queries) if (version := lake.version(name)) is not None}
    results: dict[str, _Result] = {}
    problems: list[str] = []
    read = {*_inputs(queries), *PERSONS, LINKS, *(query.table.full_name for query in queries)}
    lake.scratch.mkdir(parents=True, exist_ok=True)  # for what a query cannot hold in memory
    with duck.connect(lake, zone="restricted", snapshot=inputs, tables=read) as connection:
        register_date_offsets(connection, date_offsets)
        if prepare is not None:
            prepare(connection)
        for query in queries:
            missing = sorted(query.reads & {other.name for other in queries} - results.keys())
            result, found = (None, [f"reads {', '.join(missing)}"]) if missing else _run(connection, query)
            problems += [f"{query.name}: {problem}" for problem in found]
            if result is not None:
                results[query.name] = result

    masked = mask({name: result.data for name, result in results.items() if result.query.table.disclosure})
    with parquet.new_connection(filesystem=lake.tables.filesystem) as digests:
        built = [_publish(lake, digests, result, masked=masked.get(name)) for name, result in results.items()]
    _record(lake, results, built, inputs=inputs, released_by=released_by, run_id=run_id, now=now)
    if problems:
        raise ContractBroken(table="The build", problems=problems)
    return built


def _inputs(queries: Collection[Query]) -> list[str]:
    built = {query.name for query in queries}
    return sorted({name for query in queries for name in _stored(query)} - built)


def _stored(query: Query) -> list[str]:
    """Tables that the query reads and that are stored: of the date offsets the links of persons in them."""
    derived = {"restricted.date_offset"}
    return sorted(query.reads - derived | ({LINKS} if query.reads & derived else set()))


def _run(connection: duckdb.DuckDBPyConnection, query: Query) -> tuple[_Result | None, list[str]]:
    """Run one query, put its rows in the place of the table's view, and check them there."""
    table = query.table
    name = _sql_name(table)
    order = ", ".join(quoted(column) for column in dict.fromkeys((*table.sort, *table.key)))
    try:
        connection.execute(f"DROP VIEW {name}")
        connection.execute(f"CREATE TABLE {name} AS {query.sql}")
        data = connection.sql(f"FROM {name} ORDER BY {order}").to_arrow_table()
        found = [(check, len(connection.execute(check.sql).fetchall())) for check in query.checks]
    except duckdb.Error as exc:
        return None, [str(exc)]
    told = {
        severity: [
            f"{check.reason} ({n_rows:,} row{'' if n_rows == 1 else 's'})"
            for check, n_rows in found
            if n_rows and check.severity == severity
        ]
        for severity in ("fail", "warn")
    }
    if problems := [*table.problems(data), *told["fail"]]:
        return None, problems
    return _Result(query, data.cast(table.arrow_schema()), tuple(told["warn"])), []


def _publish(lake: Lake, digests: duckdb.DuckDBPyConnection, result: _Result, *, masked: pa.Table | None) -> BuiltTable:
    table = result.query.table
    data = result.data if masked is None else masked
    if masked is not None:
        _overwrite(lake.restricted_tables, digests, table, result.data)
    version, is_new = _overwrite(lake.tables, digests, table, data)
    n_masked = 0 if masked is None else sum(masked.column("is_masked").to_pylist())
    log.get_logger().info("table_built", table=table.full_name, version=version, n_rows=data.num_rows)
    return BuiltTable(table.view_name, version, data.num_rows, n_masked, is_new, result.warnings)


def _overwrite(store: TableStore, digests: duckdb.DuckDBPyConnection, table: Table, data: pa.Table) -> tuple[int, bool]:
    """Write the rows unless the table holds the same; the batch id is their digest and the version they replace."""
    snapshot = store.snapshot(table)
    digests.register("data", data)
    digest = _digest(digests, "data")
    digests.unregister("data")
    if snapshot and _digest(digests, parquet.scan(table, snapshot.files())) == digest:
        return snapshot.version, False
    version = snapshot.version if snapshot else None
    return store.overwrite(table, data, batch_id=f"build-{version}-{digest}"), True


def _digest(connection: duckdb.DuckDBPyConnection, relation: str) -> str:
    """Digest of rows, whatever their order."""
    sums = connection.execute(f"SELECT count(*), sum(hash(t)), sum(hash(hash(t))) FROM {relation} AS t").fetchall()
    return hashlib.sha256(repr(sums).encode()).hexdigest()[:32]


def _record(
    lake: Lake,
    results: Mapping[str, _Result],
    built: Sequence[BuiltTable],
    *,
    inputs: Mapping[str, int],
    released_by: tuple[str, int],
    run_id: str,
    now: datetime,
) -> None:
    """One row of ops.build for each table."""
    versions = dict(inputs) | {table.name: table.version for table in built}
    rows = [
        {
            "run_id": run_id,
            "built_table": results[table.name].query.table.full_name,
            "built_version": table.version,
            "inputs": json.dumps({name: versions.get(name) for name in _stored(results[table.name].query)}),
            "query_sha256": results[table.name].query.sha256,
            "n_rows": table.n_rows,
            "warnings": json.dumps(table.warnings, ensure_ascii=False),
            "built_at": now,
            "disclosure_policy": released_by[0],
            "disclosure_threshold": released_by[1],
        }
        for table in built
    ]
    record_builds(lake, rows, queries={result.query.sha256: result.query.sql for result in results.values()})


def _sql_name(table: Table) -> str:
    return ".".join(map(quoted, table.full_name.split(".")))
