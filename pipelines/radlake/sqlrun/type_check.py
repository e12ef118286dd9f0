"""Type-check every query and check of `sql/` against empty tables of the contracts: no data, under a second."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import duckdb

from radlake.contracts import Table, load_tables
from radlake.contracts.table import quoted
from radlake.errors import ConfigInvalid
from radlake.sqlrun.queries import Query, load_queries

__all__ = ["DATE_OFFSET_DDL", "create_empty_tables", "type_check"]

# Derived from the key for the time of a build, never stored (docs/adr/0003-true-calendar-in-the-restricted-zone.md).
# With each pseudonym the person who has it: core.person_link, or itself.
DATE_OFFSET_DDL = (
    "CREATE TABLE restricted.date_offset (patient_key BIGINT, date_offset_seconds BIGINT, person_key BIGINT)"
)


def type_check(root: Path | None = None) -> list[str]:
    """Every problem of `sql/`: what does not bind, and columns or types that are not the contract's. Empty is good."""
    try:
        queries = load_queries(root)
    except ConfigInvalid as exc:
        return [str(problem) for problem in exc.facts["problems"]]
    problems: list[str] = []
    with duckdb.connect() as connection:
        create_empty_tables(connection, load_tables().values())
        for query in queries:
            problems += [f"{query.table.full_name}: {problem}" for problem in _query_problems(connection, query)]
    return problems


def create_empty_tables(connection: duckdb.DuckDBPyConnection, tables: Iterable[Table]) -> None:
    """The tables of the contracts and the view of the latest version of each, all empty, and restricted.date_offset."""
    tables = sorted(tables, key=lambda table: (table.view_name, table.version))
    for layer in sorted({table.layer for table in tables} | {"restricted"}):
        connection.execute(f"CREATE SCHEMA {quoted(layer)}")
    connection.execute(DATE_OFFSET_DDL)
    for table in tables:
        connection.execute(table.ddl())
        layer, versioned = (quoted(part) for part in table.full_name.split("."))
        connection.execute(f"CREATE OR REPLACE VIEW {layer}.{quoted(table.name)} AS FROM {layer}.{versioned}")


def _query_problems(connection: duckdb.DuckDBPyConnection, query: Query) -> list[str]:
    problems = []
    try:
        described = connection.execute(f"DESCRIBE {query.sql}").fetchall()
    except duckdb.Error as exc:
        problems.append(f"query.sql: {exc}")
    else:
        found = {name: kind for name, kind, *_ in described}
        wanted = {column.name: column.type for column in query.table.columns}
        problems += [f"query.sql: column {name} is missing" for name in wanted.keys() - found.keys()]
        problems += [f"query.sql: column {name} is not in the contract" for name in found.keys() - wanted.keys()]
        problems += [
            f"query.sql: column {name} is {found[name]}, the contract says {kind}"
            for name, kind in wanted.items()
            if name in found and found[name] != kind
        ]
        if not problems and list(found) != list(wanted):
            problems.append("query.sql: the columns are not in the order of the contract")
    for check in query.checks:
        try:
            connection.execute(f"DESCRIBE {check.sql}")
        except duckdb.Error as exc:
            problems.append(f"checks.sql: {check.reason}: {exc}")
    return sorted(problems)
