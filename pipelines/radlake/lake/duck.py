"""The one reader: DuckDB connections that see the tables of a zone as views, and nothing else of the machine.

A view is a list of files from the commit log, never a glob: half-written and replaced files do not exist for it.
A connection sees the versions that were the latest when it was opened (or those of `snapshot`), as long as it lives.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from difflib import SequenceMatcher
from typing import Literal

import duckdb

from radlake.contracts import Table, load_tables
from radlake.contracts.table import quoted
from radlake.errors import QueryInvalid
from radlake.lake import parquet
from radlake.lake.store import S3Store
from radlake.lake.tables import TableStore
from radlake.lake.zones import Lake

__all__ = ["connect", "readable_errors", "select"]

# EXPLAIN ANALYZE runs what it explains, and every statement with a PIVOT in it is one of several: of these the words
# decide. DuckDB has no right to files that is not a right to write them.
_BY_WORDS = {duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI}
_READING_WORDS = re.compile(
    r"(EXPLAIN\s+(ANALYZE\s+|\([\w\s,]*\)\s*)?)?(SELECT|WITH|FROM|PIVOT|UNPIVOT|VALUES|DESCRIBE|SUMMARIZE|SHOW)\b",
    re.IGNORECASE,
)
_NO_TABLE = re.compile(r'Catalog Error: Table with name "?(.+?)"? does not exist')
_PLACE = re.compile(r"\n(LINE \d+: )(.*)\n( *\^+)$")
_MOST_MEMORY = (
    "50%"  # of the machine: other programs run there, and what a query cannot hold goes to the scratch folder
)
_NO_COLUMN = re.compile(r'(?:Referenced column|does not have a column named) "(.+?)"')


def connect(
    lake: Lake,
    *,
    zone: Literal["lake", "restricted"] = "lake",
    snapshot: Mapping[str, int] | None = None,
    tables: Collection[str] | None = None,
) -> duckdb.DuckDBPyConnection:
    """A connection with a view for every contract: `layer.table_v1`, and `layer.table` for its latest version.

    Parameters
    ----------
    zone : {"lake", "restricted"}
        "lake" sees the de-identified tables. "restricted" sees the tables of the restricted zone too, and those
        first: of a statistic the exact one instead of the masked one.
    snapshot : mapping of str to int, optional
        Versions to read, by full name (`{"dicom.study_v1": 12}`); the latest for tables that are not named.
    tables : collection of str, optional
        Only these: names of tables (`dicom.study`) or of whole layers (`dicom`). It is faster, in object storage by
        far: the logs of the others are not read.
    """
    seen = [
        table
        for table in load_tables().values()
        if tables is None or not {table.layer, table.view_name, table.full_name}.isdisjoint(tables)
    ]
    stores = [lake.restricted_tables, lake.tables] if zone == "restricted" else [lake.tables]
    versions = dict(snapshot or {})
    relations = _relations(seen, stores, versions)

    connection = parquet.new_connection()
    for store in stores:
        if isinstance(store.store, S3Store):
            connection.register_filesystem(store.store.fs)
    scratch = lake.scratch
    connection.execute(f"SET temp_directory = {parquet.text(str(scratch) if scratch.is_dir() else '')}")
    connection.execute(f"SET memory_limit = '{_MOST_MEMORY}'")
    allowed = ", ".join(parquet.text(f"{store.root}/") for store in stores)
    connection.execute(f"SET allowed_directories = [{allowed}]")
    connection.execute("SET enable_external_access = false; SET lock_configuration = true")

    statements = [f"CREATE SCHEMA {quoted(layer)}" for layer in sorted({table.layer for table in seen})]
    latest: dict[str, Table] = {}
    for table in seen:
        statements.append(f"CREATE VIEW {_name(table.full_name)} AS FROM {relations[table.full_name]}")
        if table.view_name not in latest or latest[table.view_name].version < table.version:
            latest[table.view_name] = table
    statements += [f"CREATE VIEW {_name(view)} AS FROM {_name(table.full_name)}" for view, table in latest.items()]
    connection.execute(";\n".join(statements))
    return connection


def select(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyRelation:
    """The result of one query that only reads, not yet computed: fetch it within `readable_errors`.

    Raises
    ------
    QueryInvalid
    """
    with readable_errors(sql):
        statements = connection.extract_statements(sql)
        if len(statements) != 1:
            raise QueryInvalid(reason=f"give one statement, not {len(statements)}")
        if not _is_reading(statements[0]):
            raise QueryInvalid(reason="the lake is only read here, with SELECT, PIVOT, DESCRIBE, SUMMARIZE or EXPLAIN")
        return connection.sql(sql)


def _is_reading(statement: duckdb.Statement) -> bool:
    if statement.type in _BY_WORDS:
        return _READING_WORDS.match(statement.query.strip()) is not None
    return statement.type is duckdb.StatementType.SELECT


@contextmanager
def readable_errors(sql: str) -> Iterator[None]:
    """Tell DuckDB's errors to the person who wrote the query, with the nearest names that exist."""
    try:
        yield
    except duckdb.Error as exc:
        raise QueryInvalid(reason=_reason(sql, str(exc))) from exc


def _reason(sql: str, message: str) -> str:
    tables = load_tables()
    if message.startswith("Permission Error"):
        return "only the tables of the lake can be read here; files and other sources are closed"
    if match := _NO_TABLE.match(message):
        is_versioned = re.search(r"_v\d+$", match[1])
        names = set(tables) if is_versioned else {table.view_name for table in tables.values()}
        return f"there is no table {match[1]}. {_nearest(match[1], names)}`SHOW ALL TABLES` lists them."
    if match := _NO_COLUMN.search(message):
        columns = {
            column for table in tables.values() if table.view_name in sql.lower() for column in table.column_names
        }
        return f"there is no column {match[1]}. {_nearest(match[1], columns)}`DESCRIBE table` lists them."
    reason = message.partition(" Error: ")[2] or message
    if match := _PLACE.search(reason):  # the number of the line counts lines that DuckDB put around the query
        reason = reason[: match.start()] + f"\n  {match[2]}\n  {match[3][len(match[1]) :]}"
    return reason


def _nearest(name: str, names: Iterable[str]) -> str:
    """A question that offers the most similar names; of `layer.table` the second part may match alone."""
    wanted = name.lower()
    scores = {
        candidate: max(
            SequenceMatcher(None, wanted, part).ratio()
            for part in (candidate, candidate.partition(".")[2] or candidate)
        )
        for candidate in names
    }
    best = sorted((item for item in scores.items() if item[1] > 0.7), key=lambda item: (-item[1], item[0]))[:3]
    return f"Did you mean {' or '.join(candidate for candidate, _ in best)}? " if best else ""


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
