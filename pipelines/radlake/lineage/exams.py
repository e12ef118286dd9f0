"""The exams that a number of a fixed table counts, by the `exams.sql` beside its query."""

from __future__ import annotations

from dataclasses import dataclass

from radlake.contracts.table import quoted
from radlake.lake import Lake
from radlake.lineage.number import Shown
from radlake.lineage.rerun import Build, pinned
from radlake.sqlrun.date_offsets import DateOffsets
from radlake.sqlrun.queries import load_queries

__all__ = ["CountedExams", "counted_exams"]

ExamId = tuple[str, str]  # hospital, exam_pseudo_id


@dataclass(frozen=True)
class CountedExams:
    """Exams of a number.

    Attributes
    ----------
    n_exams : int
        All of them.
    first : tuple
        The first of them, in the order of hospital and pseudonym.
    total : int or None
        What they add up to, when the number is a sum over exams.
    """

    n_exams: int
    first: tuple[ExamId, ...]
    total: int | None


def counted_exams(
    lake: Lake, found: Shown, build: Build, *, date_offsets: DateOffsets, limit: int
) -> CountedExams | None:
    """Exams that the number counts; None when the numbers of its table count none."""
    table = found.number.table
    assert table.disclosure is not None
    text = next((query.exams for query in load_queries() if query.table == table), "")
    if not text:
        return None
    column = found.number.column
    with pinned(lake, text, build.inputs, date_offsets=date_offsets) as connection:
        names = [row[0] for row in connection.execute(f"DESCRIBE {text}").fetchall()]
        is_sum = column in names
        clauses = [f"list_contains({quoted(name)}, ?)" for name in table.disclosure.dimensions]
        clauses += [f"{quoted(column)} <> 0"] if is_sum else []
        values = [found.number.key[name] for name in table.disclosure.dimensions]
        total = f"sum({quoted(column)})::BIGINT" if is_sum else "NULL"
        connection.execute(f"CREATE TEMP TABLE counted AS FROM ({text}) WHERE {' AND '.join(clauses)}", values)
        [(n_exams, added)] = connection.execute(f"SELECT count(*), {total} FROM counted").fetchall()
        first = connection.execute(
            "SELECT exam_hospital_id, exam_pseudo_id FROM counted ORDER BY ALL LIMIT ?", [limit]
        ).fetchall()
    is_exact = not table.disclosure.is_coarse
    return CountedExams(n_exams, tuple(first), added if is_exact else None)
