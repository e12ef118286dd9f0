"""Parquet files of a table: written by DuckDB in the contract's order, with the statistics that prune files.

The same rows give the same files, byte for byte. Files become part of a table in `tables`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from radlake.contracts import Table
from radlake.contracts.check import compute
from radlake.contracts.table import Column, quoted
from radlake.lake.deltalog import DataFile
from radlake.lake.store import storage_errors

__all__ = ["files_with", "new_connection", "one_thread", "pruning_predicate", "scan", "text", "write_query",
           "write_rows"]  # fmt: skip

# 24,576 rows: a look-up of one patient reads little, a scan loses nothing.
_ROW_GROUP = 24_576
# 196,608 rows: a large month becomes several files of consecutive persons, which the log can tell apart.
_ROW_GROUPS_PER_FILE = 8
_MAX_IN_LIST = 100
_FEW_FILES = 8


def new_connection(*, threads: int | None = None, filesystem: Any = None) -> duckdb.DuckDBPyConnection:
    """DuckDB in memory that never asks the network for an extension."""
    config: dict[str, Any] = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    if threads:
        config["threads"] = threads
    connection = duckdb.connect(":memory:", config=config)
    with suppress(duckdb.InvalidInputException):  # refused in a notebook without ipywidgets, which has no bar
        connection.execute("SET enable_progress_bar = false")
    if filesystem is not None:
        connection.register_filesystem(filesystem)
    return connection


def one_thread(*, filesystem: Any = None) -> duckdb.DuckDBPyConnection:
    """A connection of one thread for statements that make no table and set no option: what it registers is its own.

    To open DuckDB takes 15 ms of CPU, more than most of these statements: without a filesystem, all connections of a
    process are to one empty database, which starts no thread of its own.
    """
    return new_connection(threads=1, filesystem=filesystem) if filesystem is not None else _empty(os.getpid()).cursor()


@cache
def _empty(_process: int) -> duckdb.DuckDBPyConnection:
    connection = new_connection(threads=1)
    connection.execute("SET enable_external_file_cache = false")  # a purge writes files again under their names
    return connection


def scan(table: Table, files: Sequence[str], *, extra: str = "") -> str:
    """SQL of a relation with the columns of the contract, in their order and type; typed and empty without files."""
    if not files:
        columns = ", ".join(f"NULL::{column.type} AS {quoted(column.name)}" for column in table.columns)
        return f"(SELECT {columns} WHERE false)"
    listed = ", ".join(text(file) for file in files)
    options = "hive_partitioning = false"
    if table.partition:
        options = f"hive_partitioning = true, hive_types = {{{text(table.partition)}: INTEGER}}"
    added = [column for column in table.columns if column.default is not None]
    options += f"{', union_by_name = true' if added else ''}{', filename = true' if extra else ''}"
    source = f"read_parquet([{listed}], {options})"
    if added:  # files that are older than a column have it not; perhaps none has
        nulls = ", ".join(f"NULL::{column.type} AS {quoted(column.name)}" for column in added)
        source = f"(SELECT {nulls} WHERE false UNION ALL BY NAME FROM {source})"
    columns = ", ".join(map(_selected, table.columns))
    return f"(SELECT {columns}{extra} FROM {source})"


def _selected(column: Column) -> str:
    name = quoted(column.name)
    if column.default is None:
        return name
    value = text(column.default) if isinstance(column.default, str) else str(column.default)
    return f"coalesce({name}, {value}) AS {name}"


def write_rows(
    table: Table,
    rows: pa.Table,
    *,
    folder: Path,
    name: str,
    survivors_of: Sequence[str] = (),
    without: pa.Table | None = None,
    filesystem: Any = None,
) -> list[DataFile]:
    """Write rows, and those of the files `survivors_of` that match no row of `without`, below a folder.

    Files of each partition. One thread: with more, rows of a partition come in any order.
    """
    with storage_errors(str(folder.parent)), one_thread(filesystem=filesystem) as connection:
        connection.register("new_rows", rows)
        names = _names(table.column_names)
        query = f"SELECT {names} FROM new_rows"
        if survivors_of:
            query += f" UNION ALL SELECT {names} FROM {scan(table, survivors_of)}"
            if without is not None:
                connection.register("without", without)
                query += f" ANTI JOIN without USING ({_names(without.column_names)})"
        return write_query(connection, table, query, folder=folder, name=name)


def files_with(table: Table, files: Sequence[str], *, keys: pa.Table, filesystem: Any = None) -> list[str]:
    """Those of the files that hold a row which matches one of `keys`."""
    if not files or not keys.num_rows:
        return []
    opened = one_thread if len(files) <= _FEW_FILES else new_connection
    with opened(filesystem=filesystem) as connection:
        connection.register("keys", keys)
        relation = scan(table, files, extra=', filename AS "radlake file"')
        found = connection.execute(
            f'SELECT DISTINCT "radlake file" FROM {relation} SEMI JOIN keys USING ({_names(keys.column_names)})'
        ).fetchall()
    return sorted(name for (name,) in found)


def pruning_predicate(table: Table, keys: pa.Table) -> str | None:
    """What the log can tell without reading files: the partitions of the keys, and the range of the others."""
    terms = []
    for name in keys.column_names:
        values = compute.drop_null(compute.unique(keys.column(name)))
        if not len(values) or table.column(name).default is not None:  # the log of an older lake may not know it
            continue
        if table.partition == name or len(values) <= _MAX_IN_LIST:
            terms.append(f"{quoted(name)} IN ({', '.join(_literal(value) for value in values.to_pylist())})")
        else:
            limits = compute.min_max(values).as_py()
            terms.append(f"{quoted(name)} BETWEEN {_literal(limits['min'])} AND {_literal(limits['max'])}")
    return " AND ".join(terms) or None


def write_query(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    query: str,
    *,
    folder: Path,
    name: str,
    row_group: int = _ROW_GROUP,
) -> list[DataFile]:
    """Write the result of a query with the columns of the contract, in its order, below a folder."""
    order = dict.fromkeys([*([table.partition] if table.partition else []), *table.sort, *table.key])
    target = folder
    options = ["FORMAT parquet", "COMPRESSION zstd", f"ROW_GROUP_SIZE {row_group}", "RETURN_STATS true"]
    if table.partition:
        options += [
            f"PARTITION_BY ({quoted(table.partition)})",
            f"FILENAME_PATTERN {text(name + '-{uuid}')}",
            f"ROW_GROUPS_PER_FILE {_ROW_GROUPS_PER_FILE}",
        ]
    else:
        target = folder / f"{name}-{connection.execute('SELECT uuid()').fetchall()[0][0]}.parquet"
    returned = connection.execute(
        f"COPY (SELECT * FROM ({query}) ORDER BY {_names(order)}) TO {text(str(target))} ({', '.join(options)})"
    ).fetchall()
    return [
        _data_file(table, Path(path).relative_to(folder), n_rows, n_bytes, columns, partition or {})
        for path, n_rows, n_bytes, _, columns, partition, *_ in returned
        if n_rows
    ]


def _data_file(
    table: Table, path: Path, n_rows: int, n_bytes: int, columns: dict[str, dict[str, str]], partition: dict[str, str]
) -> DataFile:
    """What `COPY ... RETURN_STATS` tells of a file, as Delta statistics: only exact limits of key and sort columns."""
    found = {name.strip('"'): stats for name, stats in columns.items()}
    limits: dict[str, dict[str, Any]] = {"min": {}, "max": {}}
    nulls = {}
    for name in dict.fromkeys([*table.key, *table.sort]):
        if name not in found:
            continue
        nulls[name] = int(found[name]["null_count"])
        if all(found[name].get(f"{side}_is_exact") == "true" for side in limits):
            for side, values in limits.items():
                values[name] = _stat(found[name][side], kind=table.column(name).type)
    stats = {"numRecords": n_rows, "minValues": limits["min"], "maxValues": limits["max"], "nullCount": nulls}
    return DataFile(path.as_posix(), n_bytes, {key.strip('"'): value for key, value in partition.items()}, stats)


def _stat(value: str, *, kind: str) -> str | int | float | bool:
    if kind in ("SMALLINT", "INTEGER", "BIGINT"):
        return int(value)
    if kind == "DOUBLE":
        return float(value)
    if kind == "BOOLEAN":
        return value == "1"
    return value.replace(" ", "T") if kind == "TIMESTAMP" else value


def _names(names: Any) -> str:
    return ", ".join(quoted(name) for name in names)


def text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _literal(value: Any) -> str:
    return repr(value) if isinstance(value, (int, float)) else text(str(value))
