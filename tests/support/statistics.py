"""Rows in, rows out: the real SQL of sql/ on tables that a test writes down.

    with tables({"core.exam": rows("core.exam", {...})}) as db:
        db.build("stats.exam_volume")
        db.rows("SELECT n_exams FROM stats.exam_volume")

`exams` reads a table that an analyst can read:

    exams('''
        patient | hospital | modality | body_part | date
        p1      | h1       | CT       | CHEST     | 2026-03-01
        ''')
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa

from radlake.contracts import load_table, load_tables
from radlake.contracts.table import quoted
from radlake.sqlrun.queries import load_queries
from radlake.sqlrun.type_check import create_empty_tables
from support.rows import rows

__all__ = ["Tables", "exams", "number_of", "parsed", "tables"]


@dataclass(frozen=True)
class Tables:
    """Tables of the contracts in memory."""

    connection: duckdb.DuckDBPyConnection

    def build(self, *names: str) -> None:
        """Run the query of each table, and keep its result as the table."""
        queries = {query.name: query for query in load_queries()}
        for name in names:
            query = queries[name]
            result = self.connection.sql(query.sql).to_arrow_table()
            assert query.table.problems(result) == []
            self.fill(name, result)

    def fill(self, name: str, data: pa.Table) -> None:
        target = ".".join(map(quoted, load_table(name).full_name.split(".")))
        self.connection.register("given", data)
        self.connection.execute(f"DELETE FROM {target}")
        self.connection.execute(f"INSERT INTO {target} BY NAME FROM given")
        self.connection.unregister("given")

    def offsets(self, days: Mapping[int, int]) -> None:
        self.connection.execute("DELETE FROM restricted.date_offset")
        if days:
            rows = [(key, n_days, key) for key, n_days in days.items()]
            self.connection.executemany("INSERT INTO restricted.date_offset VALUES (?, ? * 86400, ?)", rows)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql).fetchall()

    def problems(self, name: str) -> list[tuple[str, str, int]]:
        """Checks of a table that find rows: severity, reason, how many."""
        query = next(query for query in load_queries() if query.name == name)
        found = [(check, len(self.connection.execute(check.sql).fetchall())) for check in query.checks]
        return [(check.severity, check.reason, n) for check, n in found if n]


@contextmanager
def tables(given: Mapping[str, pa.Table], *, offsets: Mapping[int, int] | None = None) -> Iterator[Tables]:
    """Empty tables of every contract, some filled; persons whose date offset (days) is not given have 0."""
    with duckdb.connect() as connection:
        create_empty_tables(connection, load_tables().values())
        db = Tables(connection)
        for name, data in given.items():
            db.fill(name, data)
        keys = {
            key for (key,) in db.rows("SELECT patient_key FROM dicom.study UNION SELECT patient_key FROM core.exam")
        }
        db.offsets(dict.fromkeys(keys, 0) | dict(offsets or {}))
        yield db


def parsed(table: str) -> list[dict[str, str]]:
    """Lines of cells between bars; the first line names the columns; # begins a comment."""
    lines = [line.partition("#")[0] for line in table.strip().splitlines()]
    cells = [[cell.strip() for cell in line.split("|")] for line in lines if line.strip()]
    return [dict(zip(cells[0], line, strict=True)) for line in cells[1:]]


def number_of(name: str) -> int:
    """The patient_key of a person named in a test."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")


def exams(table: str) -> pa.Table:
    """Rows of core.exam; columns that the table does not have are the same for all.

    Columns: patient (a name beginning with ? is not known), hospital, modality, body_part, side, date (with or without
    a time; - is none), exam, region.
    """
    made = []
    for number, line in enumerate(parsed(table), 1):
        at = None if line["date"] == "-" else datetime.fromisoformat(line["date"])
        if at is not None and "T" not in line["date"] and " " not in line["date"]:
            at += timedelta(hours=9)
        made.append(
            {
                "hospital_id": line.get("hospital", "h1"),
                "exam_pseudo_id": line.get("exam") or f"e{number}",
                "patient_key": number_of(line.get("patient", "p1")),
                "region_code": line.get("region", "320500"),
                "study_month": at.year * 100 + at.month if at else 190001,
                "study_at": at,
                "modality_group": line.get("modality", "CT"),
                "body_part_code": line.get("body_part", "CHEST"),
                "laterality_code": line.get("side", "U"),
                "patient_sex": "F",
                "is_patient_known": not line.get("patient", "p1").startswith("?"),
            }
        )
    return rows("core.exam", *made)
