"""Data quality of hospitals: the league by published shares, and what costs most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radlake.stats.league import standings, topics
from radlake.web.cells import MASKED, Cell
from radlake.web.figures.figure import Figure
from radlake.web.grid import Chart, Column, Grid
from radlake.web.snapshot import Snapshot
from radlake.web.view import View

__all__ = ["FIGURES", "total"]

TABLE = "stats.data_quality"
WORST_TOLD = 3
COLUMNS: tuple[str, ...] = ("exam_month", "hospital_id", "topic_code", "n_checked", "n_failed", "failed_share")


def league(snapshot: Snapshot, view: View) -> Grid:
    """Hospitals, best first; a rank is among all hospitals, also when one is looked at alone.

    Scores are of published shares, in whole percent: `radlake service league` has the exact ones.
    """
    columns = [Column("hospital", "hospital"), Column("rank", "count"), Column("score", "decimal")]
    columns += [Column(f"worst_{number}", "topic") for number in range(1, WORST_TOLD + 1)]
    rows = snapshot.once("league", lambda: _ranked(snapshot))
    if view.hospital:
        rows = [row for row in rows if row[0] == view.hospital]
    return Grid(columns, rows, chart=Chart("bars", series=(2,), colors=("saving",), horizontal=True))


def faults(snapshot: Snapshot, view: View) -> Grid:
    """Faults of the province or of one hospital, over all months; the most frequent first, with what to do."""
    found = snapshot.rows(
        f"""
        SELECT topic_code, is_masked, n_checked, n_failed, failed_share
        FROM {TABLE}
        WHERE exam_month = 'all' AND hospital_id = CASE $hospital WHEN '' THEN 'all' ELSE $hospital END
        ORDER BY failed_share DESC NULLS LAST, topic_code
        """,
        {"hospital": view.hospital},
    )
    known = topics()
    rows: list[tuple[Cell, ...]] = [
        (code, *((MASKED,) * 3 if is_masked else values), code)
        for code, is_masked, *values in found
        if code in known and (is_masked or values[1] != 0)
    ]
    columns = [
        Column("topic", "topic"),
        Column("n_checked", "count"),
        Column("n_failed", "count"),
        Column("failed_share", "percent"),
        Column("remedy", "topic_remedy"),
    ]
    return Grid(columns, rows, chart=Chart("bars", series=(3,), colors=("state-quarantined",), horizontal=True))


def total(snapshot: Snapshot, view: View) -> dict[str, Cell]:
    """Hospitals in the league and their scores: of the one that was chosen, or the middle one."""
    scores = [row[2] for row in league(snapshot, view).rows if isinstance(row[2], float)]
    return {"n_hospitals": len(scores), "score": sorted(scores)[len(scores) // 2] if scores else None}


def _ranked(snapshot: Snapshot) -> list[tuple[Cell, ...]]:
    asked = f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE exam_month = 'all'"
    told = [dict(zip(COLUMNS, row, strict=True)) for row in snapshot.rows(asked)]
    known = {row["topic_code"] for row in told if _is_total(row) and row["hospital_id"] == "all"}
    usable = [row for row in told if row["failed_share"] is not None and row["topic_code"] in known]
    has_total = {(row["hospital_id"], row["topic_code"]) for row in usable if _is_total(row)}
    usable = [row for row in usable if (row["hospital_id"], row["topic_code"]) in has_total]
    rows: list[tuple[Cell, ...]] = []
    for one in standings(usable):
        worst = [fault.topic.code for fault in one.faults[:WORST_TOLD]]
        rows.append((one.hospital_id, one.rank, round(one.score, 1), *_padded(worst)))
    untold = {row["hospital_id"] for row in told} - {"all"} - {str(row[0]) for row in rows}
    return rows + [(hospital, None, MASKED, *_padded([])) for hospital in sorted(untold)]


def _is_total(row: Mapping[str, Any]) -> bool:
    return row["exam_month"] == "all" and row["failed_share"] is not None


def _padded(codes: list[str]) -> tuple[str | None, ...]:
    return (*codes, *(None,) * (WORST_TOLD - len(codes)))


FIGURES = (
    Figure("quality_league", TABLE, league),
    Figure("quality_faults", TABLE, faults),
)
