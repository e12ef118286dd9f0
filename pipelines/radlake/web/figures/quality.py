"""Data quality: what the gate checked before a batch was published, and which build made which number."""

from __future__ import annotations

import json

from radlake.web.cells import Cell
from radlake.web.figures.figure import Figure
from radlake.web.grid import Column, Grid
from radlake.web.snapshot import Snapshot, day_of
from radlake.web.view import View

__all__ = ["FIGURES", "total"]

FAILURES_SHOWN = 200
BUILDS_SHOWN = 200
_DAY = day_of("checked_at")
_OF_THE_DAY = f"$day IN ('', {_DAY})"


def total(snapshot: Snapshot, view: View) -> dict[str, Cell]:
    """Batches, checks and failures."""
    [(batches, checks, failed)] = snapshot.rows(
        f"""
        SELECT count(DISTINCT batch_id), count(*), count(*) FILTER (NOT is_success)
        FROM ops.quality
        WHERE {_OF_THE_DAY}
        """,
        {"day": view.day},
    )
    passed = (checks - failed) / checks if checks else None
    return {"n_batches": batches, "n_checks": checks, "n_failed_checks": failed, "passed_share": passed}


def days(snapshot: Snapshot, view: View) -> Grid:
    """A row a day, newest first; a click on the day narrows the page to it."""
    rows = snapshot.rows(
        f"""
        SELECT
            {_DAY} AS day, count(DISTINCT batch_id), count(*), count(*) FILTER (NOT is_success),
            count(*) FILTER (is_success) / count(*), sum(n_rows)::BIGINT, sum(n_failed)::BIGINT
        FROM ops.quality
        WHERE {_OF_THE_DAY}
        GROUP BY day
        ORDER BY day DESC
        """,
        {"day": view.day},
    )
    columns = [
        Column("day", "day"),
        Column("n_batches", "count"),
        Column("n_checks", "count"),
        Column("n_failed_checks", "count"),
        Column("passed_share", "share", bar=True),
        Column("n_rows", "count"),
        Column("n_failed", "count"),
    ]
    return Grid(columns, rows)


def checks(snapshot: Snapshot, view: View) -> Grid:
    """A row for each expectation, over all batches, worst first."""
    rows = snapshot.rows(
        f"""
        SELECT
            checked_table, expectation, checked_column, count(*), count(*) FILTER (is_success) / count(*) AS passed,
            sum(n_rows)::BIGINT, sum(n_failed)::BIGINT, max(checked_at)
        FROM ops.quality
        WHERE {_OF_THE_DAY}
        GROUP BY checked_table, expectation, checked_column
        ORDER BY passed, checked_table, expectation, checked_column
        """,
        {"day": view.day},
    )
    columns = [
        Column("checked_table", "text"),
        Column("expectation", "text"),
        Column("checked_column", "text"),
        Column("n_checks", "count"),
        Column("passed_share", "share", bar=True),
        Column("n_rows", "count"),
        Column("n_failed", "count"),
        Column("checked_at", "time"),
    ]
    return Grid(columns, [tuple(cell or None if isinstance(cell, str) else cell for cell in row) for row in rows])


def failures(snapshot: Snapshot, view: View) -> Grid:
    """The last failed checks with their reasons, newest first."""
    rows = snapshot.rows(
        f"""
        SELECT checked_at, checked_table, nullif(checked_column, ''), n_failed, n_rows, detail, batch_id
        FROM ops.quality
        WHERE NOT is_success AND {_OF_THE_DAY}
        ORDER BY checked_at DESC, checked_table, expectation
        LIMIT {FAILURES_SHOWN}
        """,
        {"day": view.day},
    )
    columns = [
        Column("checked_at", "time"),
        Column("checked_table", "text"),
        Column("checked_column", "text"),
        Column("n_failed", "count"),
        Column("n_rows", "count"),
        Column("detail", "text"),
        Column("batch_id", "text"),
    ]
    return Grid(columns, rows)


def builds(snapshot: Snapshot, view: View) -> Grid:
    """Which query over which snapshots made which version of a table, newest first."""
    rows = snapshot.rows(
        f"""
        SELECT
            built_at, built_table, built_version, n_rows, inputs, left(query_sha256, 12), warnings
        FROM ops.build
        WHERE $day IN ('', {day_of("built_at")})
        ORDER BY built_at DESC, built_table
        LIMIT {BUILDS_SHOWN}
        """,
        {"day": view.day},
    )
    columns = [
        Column("built_at", "time"),
        Column("built_table", "text"),
        Column("built_version", "count"),
        Column("n_rows", "count"),
        Column("inputs", "text"),
        Column("query_sha256", "text"),
        Column("warnings", "text"),
    ]
    return Grid(columns, [(*row[:4], _inputs(row[4]), row[5], "; ".join(json.loads(row[6])) or None) for row in rows])


def _inputs(text: str) -> str:
    """Tables and the versions that were read; one without a version lives only during the build."""
    tables = json.loads(text).items()
    return ", ".join(table if version is None else f"{table} {version}" for table, version in tables)


FIGURES = (
    Figure("quality_failures", "ops.quality", failures),
    Figure("quality_days", "ops.quality", days),
    Figure("quality_checks", "ops.quality", checks, is_folded=True),
    Figure("builds", "ops.build", builds, is_folded=True),
)
