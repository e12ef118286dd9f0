"""Service: uploads within 12 hours, report turnaround, and the wait for images that a hospital keeps."""

from __future__ import annotations

from radlake.web.cells import MASKED, Cell
from radlake.web.figures.cube import sort_value
from radlake.web.figures.figure import Figure
from radlake.web.figures.monthly import Monthly
from radlake.web.grid import Chart, Column, Grid
from radlake.web.snapshot import Snapshot
from radlake.web.view import View

__all__ = ["COMPLIANCE", "FIGURES", "RETRIEVAL", "TURNAROUND"]

COMPLIANCE = Monthly(
    "stats.upload_compliance",
    "exam_month",
    counts=(
        "n_exams", "n_due", "n_in_time", "n_late", "n_waiting", "n_never_uploaded", "n_pending", "n_clock_ahead",
    ),
    told={
        "in_time_share": "percent", "p50_hours": "decimal", "p95_hours": "decimal", "p99_hours": "decimal",
        "denominator": "denominator",
    },
    drawn={"in_time_share": "in-time"},
)  # fmt: skip
TURNAROUND = Monthly(
    "stats.report_turnaround",
    "exam_month",
    counts=("n_exams", "n_reported", "n_open"),
    told={"within_24_hours_share": "percent", "p50_hours": "decimal", "p90_hours": "decimal"},
    drawn={"within_24_hours_share": "in-time"},
    where="reader_id = 'all' AND reading_place = 'all'",
)
RETRIEVAL = Monthly(
    "stats.retrieval",
    "retrieval_month",
    counts=("n_retrievals", "n_failed", "n_from_cache"),
    told={"within_3_seconds_share": "percent", "p50_seconds": "decimal", "p95_seconds": "decimal"},
    drawn={"within_3_seconds_share": "in-time"},
)
JUDGED = {
    "n_in_time": "state-complete",
    "n_late": "state-partial",
    "n_waiting": "state-retrieving",
    "n_never_uploaded": "state-quarantined",
}
READER_MEASURES = "n_exams, n_reported, n_open, within_24_hours_share, p50_hours, p90_hours"


def compliance_by_hospital(snapshot: Snapshot, view: View) -> Grid:
    """Exams that are due, by what became of them; least in time first."""
    return COMPLIANCE.by_hospital(snapshot, view, chart=COMPLIANCE.bars(JUDGED, whole=True), first="in_time_share")


def turnaround_by_hospital(snapshot: Snapshot, view: View) -> Grid:
    chart = TURNAROUND.bars({"within_24_hours_share": "in-time"})
    return TURNAROUND.by_hospital(snapshot, view, chart=chart, first="within_24_hours_share")


def retrieval_by_hospital(snapshot: Snapshot, view: View) -> Grid:
    chart = RETRIEVAL.bars({"within_3_seconds_share": "in-time"})
    return RETRIEVAL.by_hospital(snapshot, view, chart=chart, first="within_3_seconds_share")


def turnaround_by_reader(snapshot: Snapshot, view: View) -> Grid:
    """Reading centres and hospitals that report their own, over all months: whose exams they read, and how fast.

    Nothing for a region: what is published ready made has no sum.
    """
    if view.region and not view.hospital:
        return Grid([Column("reader", "reader")], ())
    found = snapshot.rows(
        f"""
        SELECT reader_id, reading_place, is_masked, {READER_MEASURES}
        FROM stats.report_turnaround
        WHERE exam_month = 'all' AND hospital_id = CASE $hospital WHEN '' THEN 'all' ELSE $hospital END
            AND reader_id != 'all' AND reading_place != 'all'
        ORDER BY reader_id, reading_place
        """,
        {"hospital": view.hospital},
    )
    rows: list[tuple[Cell, ...]] = [
        (reader, place, *((MASKED,) * len(values) if is_masked else values))
        for reader, place, is_masked, *values in found
    ]
    rows.sort(key=lambda row: (sort_value(row[2]), str(row[0])))
    columns = [Column("reader", "reader"), Column("reading_place", "place")]
    columns += [Column(name, kind) for name, kind in TURNAROUND.measures.items()]
    return Grid(columns, rows, chart=Chart("bars", series=(5,), colors=("in-time",), horizontal=True))


FIGURES = (
    Figure("compliance_by_month", COMPLIANCE.table, COMPLIANCE.by_month),
    Figure("compliance_by_hospital", COMPLIANCE.table, compliance_by_hospital),
    Figure("turnaround_by_month", TURNAROUND.table, TURNAROUND.by_month),
    Figure("turnaround_by_hospital", TURNAROUND.table, turnaround_by_hospital),
    Figure("turnaround_by_reader", TURNAROUND.table, turnaround_by_reader),
    Figure("retrieval_by_month", RETRIEVAL.table, RETRIEVAL.by_month),
    Figure("retrieval_by_hospital", RETRIEVAL.table, retrieval_by_hospital),
)
