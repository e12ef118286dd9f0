"""Calculate a built table again, by the query it was made with over the versions it was made from, and compare.

The rows of a table are bytes: a line of JSON each, in the order of the contract's key and columns. Equal rows have
equal bytes and one SHA-256, on every machine. Which rows disclosure control withheld is taken from what was released;
every number that is shown is calculated again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import duckdb
import numpy as np
import pyarrow as pa

from radlake.contracts import Table, load_table
from radlake.contracts.table import quoted
from radlake.errors import ConfigInvalid
from radlake.lake import Lake, duck
from radlake.lineage.number import require_snapshot
from radlake.sqlrun.date_offsets import LINKS, PERSONS, DateOffsets, register_date_offsets
from radlake.sqlrun.queries import load_queries, tables_read
from radlake.sqlrun.type_check import create_table
from radlake.stats.policy import Policy, load_policy
from radlake.stats.release import as_shown
from radlake.vocab.again import decide_again

__all__ = ["Build", "Rerun", "build_of", "compared", "pinned", "pinned_tables", "policy_of", "rerun", "rerun_in_zone"]

_OFFSETS = "restricted.date_offset"
_BATCH = 65_536


@dataclass(frozen=True)
class Build:
    """What ops.build tells of a version of a table, the newest build that came to it.

    Attributes
    ----------
    inputs : mapping of str to int or None
        Versions that were read, by name of the table; None of a table that did not exist.
    query : str
        The text that was run; empty when the lake does not have it.
    is_current : bool
        `sql/` has no other query for this table now.
    """

    table: Table
    version: int
    run_id: str
    built_at: datetime
    inputs: Mapping[str, int | None]
    query_sha256: str
    query: str
    is_current: bool
    policy: str
    threshold: int


@dataclass(frozen=True)
class Rerun:
    """A table as it is and as it was calculated again; `n_different` rows are in one of the two only."""

    table: str
    version: int
    n_rows: int
    sha256: str
    sha256_again: str
    n_different: int

    @property
    def is_equal(self) -> bool:
        return self.sha256 == self.sha256_again


def build_of(lake: Lake, table: Table, version: int) -> Build | None:
    """How a version of a table was made; None when no build of this lake made it."""
    with duck.connect(lake, tables=["ops.build", "ops.query"]) as connection:
        rows = connection.execute(
            "SELECT run_id, built_at, inputs, build.query_sha256, coalesce(query_sql, ''), disclosure_policy,"
            " disclosure_threshold FROM ops.build AS build LEFT JOIN ops.query AS query USING (query_sha256)"
            " WHERE built_table = ? AND built_version = ? ORDER BY built_at DESC LIMIT 1",
            [table.full_name, version],
        ).fetchall()
    if not rows:
        return None
    run_id, built_at, inputs, sha256, sql, policy, threshold = rows[0]
    current = {query.sha256: query.sql for query in load_queries() if query.table == table}
    return Build(
        table,
        version,
        run_id,
        built_at,
        {load_table(name).view_name: number for name, number in json.loads(inputs).items()},
        sha256,
        sql or current.get(sha256, ""),
        not current or sha256 in current,
        policy,
        threshold,
    )


@contextmanager
def pinned(
    lake: Lake, sql: str, inputs: Mapping[str, int | None], *, date_offsets: DateOffsets
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that sees the tables of a query at the versions of a build, and the true calendar if it reads it.

    Raises
    ------
    SnapshotGone
    """
    with duckdb.connect() as parser:
        names = tables_read(sql, parser=parser)
    offsets = date_offsets if _OFFSETS in names else None
    with pinned_tables(lake, names - {_OFFSETS}, inputs, date_offsets=offsets) as connection:
        yield connection


@contextmanager
def pinned_tables(
    lake: Lake, tables: Collection[str], inputs: Mapping[str, int | None], *, date_offsets: DateOffsets | None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """`pinned` for tables that are named; the true calendar only with `date_offsets`."""
    names = {*tables, *((*PERSONS, LINKS) if date_offsets else ())}
    versions = {name: number for name in names if (number := inputs.get(name)) is not None}
    for name, number in versions.items():
        table = load_table(name)
        require_snapshot(lake.store_of(table), table, number)
    with duck.connect(lake, zone="restricted", snapshot=versions, tables=list(versions)) as connection:
        for table in (load_table(name) for name in sorted(names - versions.keys())):  # it did not exist then
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(table.layer)}")
            create_table(connection, table)
        if date_offsets:
            register_date_offsets(connection, date_offsets)
        if "dicom.study" in versions:
            decide_again(connection)
        yield connection


def rerun(lake: Lake, build: Build, *, date_offsets: DateOffsets) -> Rerun:
    """Run the query of a build again and compare the rows with those that the lake has.

    Raises
    ------
    SnapshotGone
        If the table or one that it was made from cannot be read at that version any more.
    """
    table = build.table
    require_snapshot(lake.tables, table, build.version)
    with pinned(lake, build.query, build.inputs, date_offsets=date_offsets) as connection:
        if table.disclosure is None:
            connection.execute(f"CREATE TABLE again AS {build.query}")
            return rerun_in_zone(lake, build, connection)
        exact = connection.sql(f"FROM ({build.query}) ORDER BY {_key(table)}").to_arrow_table()
        exact = exact.cast(table.arrow_schema())
        withheld = _withheld(lake, table, build.version, exact)
        again = as_shown(table, exact, withheld, policy=policy_of(build))
        connection.register("again", again)
        return rerun_in_zone(lake, build, connection)


def rerun_in_zone(lake: Lake, build: Build, connection: duckdb.DuckDBPyConnection) -> Rerun:
    """The relation `again` of a connection beside the version of its table that was released."""
    table = build.table
    snapshot = {table.full_name: build.version}
    with duck.connect(lake, zone=table.zone, snapshot=snapshot, tables=[table.full_name]) as released:
        return compared(table, build.version, connection, beside=released, relation=table.view_name)


def compared(
    table: Table,
    version: int,
    connection: duckdb.DuckDBPyConnection,
    *,
    beside: duckdb.DuckDBPyConnection,
    relation: str,
) -> Rerun:
    """The relation `again` of a connection and the released rows, which another connection has."""
    n_rows, sha256 = _digest(beside, relation, table)
    _, sha256_again = _digest(connection, "again", table)
    n_different = 0
    if sha256 != sha256_again:
        connection.register("as_it_is", beside.sql(f"FROM {relation}").to_arrow_table())
        names = ", ".join(map(quoted, table.column_names))
        sides = [f"SELECT {names} FROM {side}" for side in ("as_it_is", "again")]
        one, other = (f"({a} EXCEPT ALL {b})" for a, b in (sides, sides[::-1]))
        n_different = connection.execute(f"SELECT count(*) FROM ({one} UNION ALL {other})").fetchall()[0][0]
    return Rerun(table.full_name, version, n_rows, sha256, sha256_again, n_different)


def _digest(connection: duckdb.DuckDBPyConnection, relation: str, table: Table) -> tuple[int, str]:
    """Rows, and the SHA-256 of their bytes."""
    columns = ", ".join(f"{quoted(column.name)} := {quoted(column.name)}::{column.type}" for column in table.columns)
    lines = f"SELECT to_json(struct_pack({columns}))::VARCHAR || chr(10) AS line FROM {relation} ORDER BY {_key(table)}"
    digest, n_rows = hashlib.sha256(), 0
    for batch in connection.sql(lines).to_arrow_reader(_BATCH):
        digest.update("".join(batch.column("line").to_pylist()).encode())
        n_rows += batch.num_rows
    return n_rows, digest.hexdigest()


def _withheld(lake: Lake, table: Table, version: int, exact: pa.Table) -> np.ndarray:
    """Which of the exact rows the released table withholds; a row that it does not have is among them."""
    snapshot = {table.full_name: version}
    key = ", ".join(map(quoted, table.key))
    with duck.connect(lake, snapshot=snapshot, tables=[table.full_name]) as connection:
        released = connection.execute(f"SELECT {key} FROM {table.view_name} WHERE NOT is_masked").fetchall()
    is_shown = set(released)
    keys = zip(*(exact.column(name).to_pylist() for name in table.key), strict=True)
    return np.array([one not in is_shown for one in keys], dtype=bool)


def policy_of(build: Build) -> Policy:
    """The policy of the release; of one that is known by name only here, what ops.build tells of it."""
    try:
        policy = load_policy(build.policy)
    except ConfigInvalid:
        policy = None
    return policy if policy and policy.threshold == build.threshold else Policy(threshold=build.threshold)


def _key(table: Table) -> str:
    return ", ".join(map(quoted, table.key))
