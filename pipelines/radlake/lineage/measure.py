"""A measure counted again: its definition and policy are the text that its release was recorded with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb

from radlake.contracts import load_table
from radlake.contracts.rows import arrow_rows
from radlake.contracts.table import quoted
from radlake.epidemiology.definition import DIMENSIONS, Measure, measure_from_yaml
from radlake.epidemiology.release import READS, recount
from radlake.lake import Lake, duck
from radlake.lineage.exams import CountedExams
from radlake.lineage.number import Shown
from radlake.lineage.rerun import Build, Rerun, compared, pinned_tables
from radlake.sqlrun.date_offsets import DateOffsets
from radlake.stats.policy import Policy

__all__ = ["MEASURE", "trace_measure"]

MEASURE = "stats.measure"


def trace_measure(
    lake: Lake, found: Shown, build: Build, *, date_offsets: DateOffsets, limit: int
) -> tuple[Rerun, CountedExams]:
    """Count the measure of a number again over its snapshot: all its rows compared, and the exams of the number.

    Raises
    ------
    SnapshotGone
    """
    text = json.loads(build.query)
    measure = measure_from_yaml(text["measures"][found.number.key["measure_id"]])
    of = tuple(found.number.key[column] for column in DIMENSIONS.values())
    with _released(lake, found, measure) as released:
        shown = {tuple(row) for row in released.execute(_SHOWN).fetchall()}
        with pinned_tables(lake, READS, build.inputs, date_offsets=date_offsets) as connection:
            again = recount(connection, measure, shown=shown, policy=Policy(**text["policy"]), of=of, limit=limit)
            table = load_table(MEASURE)
            connection.register("again", arrow_rows(table, again.rows))
            rerun = compared(table, build.version, connection, beside=released, relation="released")
    total = again.n_exams if found.number.column == "n_exams" else None
    return rerun, CountedExams(again.n_exams, again.first, total)


_SHOWN = f"SELECT {', '.join(map(quoted, DIMENSIONS.values()))} FROM released WHERE NOT is_masked"


@contextmanager
def _released(lake: Lake, found: Shown, measure: Measure) -> Iterator[duckdb.DuckDBPyConnection]:
    """The released rows of one measure as the relation `released`."""
    table: Any = found.number.table
    with duck.connect(lake, snapshot={table.full_name: found.version}, tables=[table.full_name]) as connection:
        connection.execute(
            f"CREATE TEMP TABLE released AS FROM {table.view_name} WHERE measure_id = ?", [measure.measure_id]
        )
        yield connection
