"""Reminders: how often order entry is reminded, what becomes of the orders, and how fast images open."""

from __future__ import annotations

from radlake.web.figures.figure import Figure
from radlake.web.figures.monthly import Monthly
from radlake.web.grid import Chart, Column, Grid
from radlake.web.snapshot import Snapshot
from radlake.web.view import View

__all__ = ["FIGURES", "REMINDERS"]

GROUNDS = (
    "condition_changed", "rapid_change", "decisive_step", "emergency", "appraisal", "earlier_not_retrievable",
    "other_lawful",
)  # fmt: skip
REMINDERS = Monthly(
    "stats.reminder",
    "reminder_month",
    counts=("n_orders", "n_shown", "n_muted", "n_accepted", "n_overridden", "n_ignored", "n_opened"),
    told={"shown_share": "hundred", "accepted_share": "percent", "p50_open_seconds": "decimal"},
    drawn={"shown_share": "shown", "accepted_share": "accepted"},
)
_MIX = Monthly(
    REMINDERS.table,
    REMINDERS.period,
    counts=("n_overridden",),
    told={f"{ground}_share": "percent" for ground in GROUNDS},
    drawn={},
)


def by_hospital(snapshot: Snapshot, view: View) -> Grid:
    return REMINDERS.by_hospital(
        snapshot,
        view,
        chart=REMINDERS.bars({"accepted_share": "accepted"}),
        first="accepted_share",
    )


def by_ground(snapshot: Snapshot, view: View) -> Grid:
    """Why orders were placed all the same, in the order of the rule pack."""
    found = _MIX.total(snapshot, view)
    rows = [(ground, found[f"{ground}_share"]) for ground in GROUNDS] if found else []
    columns = [Column("ground", "ground"), Column("ground_share", "percent")]
    return Grid(columns, rows, chart=Chart("bars", series=(1,), colors=("shown",), horizontal=True))


FIGURES = (
    Figure("reminders_by_month", REMINDERS.table, REMINDERS.by_month),
    Figure("reminders_by_ground", REMINDERS.table, by_ground),
    Figure("reminders_by_hospital", REMINDERS.table, by_hospital),
)
