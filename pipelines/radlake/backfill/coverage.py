"""Coverage: of each day, how many studies the node lists and how many of them the lake has (ops.coverage).

True study dates with small counts may tell of one person, so the table lies in the restricted zone
(docs/adr/0017-backfill-by-windows.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa

from radlake.backfill.known import NOTHING, Known, known_by_day
from radlake.backfill.plan_rows import KeptWindow, PlanRows
from radlake.backfill.windows import PlannedDay
from radlake.contracts import load_table
from radlake.contracts.rows import arrow_rows
from radlake.lake import Lake
from radlake.lake.evidence import StudyState
from radlake.lake.ledger import Ledger

__all__ = ["Coverage", "coverage_of", "publish_coverage"]


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Studies of one day, or of several ones added up."""

    n_listed: int = 0
    n_complete: int = 0
    n_partial: int = 0
    n_quarantined: int = 0
    n_offline: int = 0
    n_open: int = 0
    is_doubtful: bool = False

    def __add__(self, other: Coverage) -> Coverage:
        sums = {name: value + getattr(other, name) for name, value in self.__dict__.items() if name != "is_doubtful"}
        return Coverage(**sums, is_doubtful=self.is_doubtful or other.is_doubtful)

    @property
    def share(self) -> float | None:
        """Share of the listed studies that are complete in the lake, 0..1; None when there are none.

        A study that the node does not list any more, and that the ledger knows, counts as listed.
        """
        known = self.n_complete + self.n_partial + self.n_quarantined + self.n_offline
        n_studies = max(self.n_listed, known)
        return self.n_complete / n_studies if n_studies else None


def coverage_of(
    kept: Iterable[KeptWindow], *, listed: Mapping[date, PlannedDay], known: Mapping[date | None, Known]
) -> dict[date, Coverage]:
    """Coverage of every day that is in a planned window, also of days without a study."""
    windows = [one.plan.window for one in kept if one.plan.window is not None]
    return {
        day: _coverage(listed.get(day) or PlannedDay(day=day), known.get(day, NOTHING))
        for window in windows
        for day in window.days()
    }


def publish_coverage(lake: Lake, ledger: Ledger, hospital_id: str, *, now: datetime) -> None:
    """Replace the rows of a hospital in ops.coverage."""
    table, rows = load_table("ops.coverage"), PlanRows(ledger)
    with ledger.reading() as connection:
        known = known_by_day(connection, hospital_id)
    coverage = coverage_of(rows.windows(hospital_id), listed=rows.listed_days(hospital_id), known=known)
    found = [
        {"hospital_id": hospital_id, "study_date": day, **one.__dict__, "updated_at": now}
        for day, one in sorted(coverage.items())
    ]
    batch_id = f"{now:%Y%m%dT%H%M%S%f}-{hospital_id}-coverage"
    keys = pa.table({"hospital_id": [hospital_id]})
    lake.restricted_tables.commit_batch(table, arrow_rows(table, found), batch_id=batch_id, replace=keys)


def _coverage(day: PlannedDay, known: Known) -> Coverage:
    return Coverage(
        n_listed=day.n_studies,
        n_complete=known.states.get(StudyState.COMPLETE, 0),
        n_partial=known.states.get(StudyState.PARTIAL, 0),
        n_quarantined=known.states.get(StudyState.QUARANTINED, 0),
        n_offline=known.states.get(StudyState.OFFLINE, 0),
        n_open=known.n_open,
        is_doubtful=day.is_doubtful,
    )
