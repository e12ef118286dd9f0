"""What a person must look at: findings of the gate, warnings of the last build, hospitals with much missing.

Counts and names of tables, columns and hospitals; no row of a study.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from radlake.errors import PermanentError
from radlake.lake import Lake, duck

__all__ = ["QualityLow", "QualityReport", "judge", "report"]


class QualityLow(PermanentError):
    sentence = "Somebody must look at {n} problems:\n{problems}"


@dataclass(frozen=True)
class QualityReport:
    """What the gate and the checks found.

    Attributes
    ----------
    n_checked : int
        Expectations that the gate checked.
    held_back : tuple of str
        Its findings, in words.
    warned : tuple of (table, warning)
        Of the last build of each table.
    shares : mapping of str to (complete, all)
        Studies of each hospital; withdrawn ones do not count.
    """

    n_checked: int
    held_back: tuple[str, ...]
    warned: tuple[tuple[str, str], ...]
    shares: dict[str, tuple[int, int]]


def report(lake: Lake, *, since: datetime) -> QualityReport:
    """Read the ops tables.

    Parameters
    ----------
    since : datetime
        UTC, naive: findings of the gate and builds after it.
    """
    with duck.connect(lake, tables=["ops"]) as connection:
        n_checked = connection.execute("SELECT count(*) FROM ops.quality WHERE checked_at >= ?", [since]).fetchall()
        held_back = connection.execute(
            "SELECT DISTINCT detail FROM ops.quality WHERE checked_at >= ? AND NOT is_success ORDER BY detail", [since]
        ).fetchall()
        built = connection.execute(
            "SELECT built_table, arg_max(warnings, built_at) FROM ops.build WHERE built_at >= ? GROUP BY 1 ORDER BY 1",
            [since],
        ).fetchall()
        shares = connection.execute(
            "SELECT hospital_id, n_complete, n_studies - n_withdrawn FROM ops.completeness ORDER BY hospital_id"
        ).fetchall()
    return QualityReport(
        n_checked=n_checked[0][0],
        held_back=tuple(detail for (detail,) in held_back),
        warned=tuple((table, str(warning)) for table, text in built for warning in json.loads(text)),
        shares={hospital_id: (n_complete, n) for hospital_id, n_complete, n in shares},
    )


def judge(found: QualityReport, *, min_complete_share: float) -> dict[str, int]:
    """Counts of a report in which nobody must look at anything.

    Raises
    ------
    QualityLow
        With each problem.
    """
    problems = [f"held back: {detail}" for detail in found.held_back]
    problems += [f"{table} warned: {warning}" for table, warning in found.warned]
    problems += [
        f"{hospital_id}: {n_complete:,} of its {n:,} studies are complete"
        for hospital_id, (n_complete, n) in found.shares.items()
        if n_complete < min_complete_share * n
    ]
    if problems:
        raise QualityLow(n=len(problems), problems=problems)
    return {"n_checked": found.n_checked, "n_hospitals": len(found.shares)}
