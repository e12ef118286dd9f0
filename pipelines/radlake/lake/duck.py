"""The one reader: DuckDB connections that see the tables of a zone as views, and nothing else of the machine.

A view is a list of files from the commit log, never a glob: half-written and replaced files do not exist for it.
A connection sees the versions that were the latest when it was opened (or those of `snapshot`), as long as it lives.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import duckdb

from radlake.contracts import Table, load_tables
from radlake.contracts.table import quoted
from radlake.errors import QueryInvalid
from radlake.lake import parquet
from radlake.lake.store import S3Store
from radlake.lake.tables import TableStore
from radlake.lake.zones import Lake

__all__ = ["connect", "select"]

_READING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}


def connect(
    lake: Lake, *, zone: Literal["lake", "restricted"] = "lake", snapshot: Mapping[str, int] | None = None
) -> duckdb.DuckDBPyConnection:
    """A connection with a view for every contract: `layer.table_v1`, and `layer.table` for its latest version.

    Parameters
    ----------
    zone : {"lake", "restricted"}
        "lake" sees the de-identified tables. "restricted" sees the tables of the restricted zone too, and those
        first: of a statistic the exact one instead of the masked one.
    snapshot : mapping of str to int, optional
        Versions to read, by full name (`{"dicom.study_v1": 12}`); the latest for tables that are not named.
    """
    tables = list(load_tables().values())
    stores = [lake.restricted_tables, lake.tables] if zone == "restricted" else [lake.tables]
    versions = dict(snapshot or {})
    relations = _relations(tables, stores, versions)

    connection = parquet.new_connection()
    for store in stores:
        if isinstance(store.store, S3Store):
            connection.register_filesystem(store.store.fs)
    scratch = lake.scratch
    connection.execute(f"SET temp_directory = {parquet.text(str(scratch) if scratch.is_dir() else '')}")
    allowed = ", ".join(parquet.text(f"{store.root}/") for store in stores)
    connection.execute(f"SET allowed_directories = [{allowed}]")
    connection.execute("SET enable_external_access = false; SET lock_configuration = true")

    statements = [f"CREATE SCHEMA {quoted(layer)}" for layer in sorted({table.layer for table in tables})]
    latest: dict[str, Table] = {}
    for table in tables:
        statements.append(f"CREATE VIEW {_name(table.full_name)} AS FROM {relations[table.full_name]}")
        if table.view_name not in latest or latest[table.view_name].version < table.version:
            latest[table.view_name] = table
    statements += [f"CREATE VIEW {_name(view)} AS FROM {_name(table.full_name)}" for view, table in latest.items()]
    connection.execute(";\n".join(statements))
    return connection


def select(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyRelation:
    """The result of one query that only reads.

    Raises
    ------
    QueryInvalid
        With a sentence for the person who wrote it: a syntax error with its place, a name with its nearest neighbours.
    """
    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1:
            raise QueryInvalid(reason=f"give one SELECT, not {len(statements)} statements")
        if statements[0].type not in _READING:
            raise QueryInvalid(
                reason="only SELECT, DESCRIBE, SHOW, SUMMARIZE and EXPLAIN are allowed; the lake is read here"
            )
        return connection.sql(sql)
    except duckdb.Error as exc:
        raise QueryInvalid(reason=_readable(connection, str(exc))) from exc


def _relations(tables: list[Table], stores: list[TableStore], versions: dict[str, int]) -> dict[str, str]:
    """SQL of each table's relation: from the first store that has it."""

    def relation(table: Table) -> str:
        version = versions.get(table.full_name, versions.get(table.view_name))
        for store in stores:
            if found := store.snapshot(table, version=version):
                return parquet.scan(table, found.files())
        return parquet.scan(table, [])

    if any(isinstance(store.store, S3Store) for store in stores):
        with ThreadPoolExecutor(max_workers=8) as pool:
            return dict(zip([t.full_name for t in tables], pool.map(relation, tables), strict=True))
    return {table.full_name: relation(table) for table in tables}


def _name(full_name: str) -> str:
    return ".".join(map(quoted, full_name.split(".")))


def _readable(connection: duckdb.DuckDBPyConnection, message: str) -> str:  # noqa: ARG001
    return message
