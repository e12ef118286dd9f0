"""The queries of `sql/`: one folder per table version, in the order they must run.

`query.sql` makes the rows, `checks.sql` selects offending ones, `exams.sql` tells which exams the numbers count.

Text becomes values here, nothing runs. DuckDB's own parser says which tables a query reads.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Literal

import duckdb

from radlake.contracts import Table, load_tables
from radlake.errors import ConfigInvalid
from radlake.resources import sql_root

__all__ = ["Check", "Query", "load_queries", "tables_read"]

_HEADER = re.compile(r"^--\s*(fail|warn):(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Check:
    """A SELECT of offending rows, and what it means when there are some."""

    severity: Literal["fail", "warn"]
    reason: str
    sql: str


@dataclass(frozen=True)
class Query:
    """How one table is built and checked.

    Attributes
    ----------
    reads : frozenset of str
        Tables that the query or a check reads, except its own.
    exams : str
        A SELECT of the exams that the numbers count (`radlake trace`), empty when they count none. One row for each
        exam and cell: `exam_hospital_id`, `exam_pseudo_id`; of every dimension the list of labels that the exam counts
        under, totals among them; and of each count that is a sum over exams what the exam adds to it.
    """

    table: Table
    sql: str
    checks: tuple[Check, ...]
    reads: frozenset[str]
    exams: str = ""

    @property
    def name(self) -> str:
        """`core.exam`: how queries name the table."""
        return self.table.view_name

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_queries(root: Path | None = None) -> tuple[Query, ...]:
    """Every query of `sql/`, each after those whose tables it reads; equal ones by name.

    Raises
    ------
    ConfigInvalid
        With all problems: a folder without contract or query, a check without header, two queries in one file,
        tables that need each other.
    """
    return _load_queries(root or sql_root())


@cache
def _load_queries(root: Path) -> tuple[Query, ...]:
    tables = load_tables()
    queries: dict[str, Query] = {}
    problems: list[str] = []
    with duckdb.connect() as parser:
        for folder in sorted(path for path in root.glob("*/*") if path.is_dir()):
            full_name = f"{folder.parent.name}.{folder.name}"
            try:
                if full_name not in tables:
                    raise ValueError(f"there is no contract schemas/{folder.parent.name}/{folder.name}.yaml")
                query = _query_from_folder(folder, table=tables[full_name], parser=parser)
                queries[query.name] = query
            except (ValueError, OSError, duckdb.Error) as exc:
                problems.append(f"{folder.relative_to(root)}: {exc}")
    if problems:
        raise ConfigInvalid(path=root, problems=problems)
    graph = {name: sorted(query.reads & queries.keys()) for name, query in sorted(queries.items())}
    try:
        return tuple(queries[name] for name in TopologicalSorter(graph).static_order())
    except CycleError as exc:
        raise ConfigInvalid(path=root, problems=[f"tables need each other: {' -> '.join(exc.args[1])}"]) from exc


def tables_read(sql: str, *, parser: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """Tables that one SELECT reads, as `layer.table`; common table expressions are not tables.

    >>> with duckdb.connect() as parser:
    ...     sorted(tables_read("WITH x AS (FROM dicom.study) FROM x JOIN ref.hospital AS h ON TRUE", parser=parser))
    ['dicom.study', 'ref.hospital']

    Raises
    ------
    ValueError
        If the text is not one SELECT, or a table is not qualified by its schema.
    """
    tree = json.loads(parser.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()[0][0])
    if tree["error"]:
        raise ValueError(tree["error_message"])
    if len(tree["statements"]) != 1:
        raise ValueError(f"holds {len(tree['statements'])} statements, must be one SELECT")
    nodes = list(_nodes(tree))
    expressions = {entry["key"] for node in nodes for entry in (node.get("cte_map") or {}).get("map", [])}
    named = [(node["schema_name"], node["table_name"]) for node in nodes if node.get("type") == "BASE_TABLE"]
    bare = sorted(name for schema, name in named if not schema and name not in expressions)
    if bare:
        raise ValueError(f"tables without a schema: {', '.join(bare)}")
    return frozenset(f"{schema}.{name}" for schema, name in named if schema)


def _query_from_folder(folder: Path, *, table: Table, parser: duckdb.DuckDBPyConnection) -> Query:
    sql = (folder / "query.sql").read_text(encoding="utf-8")
    file = folder / "checks.sql"
    checks = tuple(_checks(file.read_text(encoding="utf-8"))) if file.exists() else ()
    read = [tables_read(text, parser=parser) for text in (sql, *(check.sql for check in checks))]
    exams = folder / "exams.sql"
    return Query(
        table,
        sql,
        checks,
        reads=frozenset().union(*read) - {table.view_name},
        exams=exams.read_text(encoding="utf-8") if exams.exists() else "",
    )


def _checks(text: str) -> Iterator[Check]:
    before, *rest = _HEADER.split(text)
    if before.strip():
        raise ValueError("checks.sql: every check begins with a line `-- fail: reason` or `-- warn: reason`")
    for severity, reason, sql in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        yield Check("fail" if severity == "fail" else "warn", reason.strip(), sql.strip().rstrip(";"))


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    children: Iterable[Any] = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    for child in children:
        yield from _nodes(child)
