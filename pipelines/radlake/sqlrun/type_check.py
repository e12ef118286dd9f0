"""Type-check every query and check of `sql/` against empty tables of the contracts: no data, under a second."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import duckdb

from radlake.contracts import Table, load_tables
from radlake.contracts.table import quoted
from radlake.errors import ConfigInvalid
from radlake.sqlrun.date_offsets import DATE_OFFSET_DDL
from radlake.sqlrun.queries import Query, load_queries

__all__ = ["create_empty_tables", "create_table", "type_check"]


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
        create_table(connection, table)


def create_table(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    """An empty table of a contract, in a schema that is there, and the view of it."""
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
    problems += _exams_problems(connection, query) if query.exams else []
    for check in query.checks:
        try:
            connection.execute(f"DESCRIBE {check.sql}")
        except duckdb.Error as exc:
            problems.append(f"checks.sql: {check.reason}: {exc}")
    return sorted(problems)


def _exams_problems(connection: duckdb.DuckDBPyConnection, query: Query) -> list[str]:
    """What `exams.sql` must have: the exam, the labels of every dimension, and only numbers of the contract beside."""
    try:
        described = connection.execute(f"DESCRIBE {query.exams}").fetchall()
    except duckdb.Error as exc:
        return [f"exams.sql: {exc}"]
    found = {name: kind for name, kind, *_ in described}
    assert query.table.disclosure is not None, "only statistics count exams"
    dimensions = query.table.disclosure.dimensions
    wanted = {"exam_hospital_id": "VARCHAR", "exam_pseudo_id": "VARCHAR"} | dict.fromkeys(dimensions, "VARCHAR[]")
    problems = [
        f"exams.sql: column {name} is {found.get(name, 'missing')}, must be {kind}"
        for name, kind in wanted.items()
        if found.get(name) != kind
    ]
    numbers = {*query.table.disclosure.counts, *query.table.disclosure.dependent}
    problems += [f"exams.sql: {name} is no number of the contract" for name in found.keys() - wanted.keys() - numbers]
    return problems
