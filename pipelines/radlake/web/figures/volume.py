"""Exams: how many, by month, modality and hospital."""

from __future__ import annotations

from radlake.web.cells import Cell, Kind
from radlake.web.figures.cube import months_between, read_cube, sort_value
from radlake.web.figures.figure import Figure
from radlake.web.grid import Chart, Column, Grid
from radlake.web.snapshot import Snapshot
from radlake.web.view import View

__all__ = ["FIGURES", "total"]

TABLE = "stats.exam_volume"
MEASURES: dict[str, Kind] = {"n_exams": "count", "n_patients": "count", "n_instances": "count", "exam_bytes": "bytes"}


def total(snapshot: Snapshot, view: View) -> dict[str, Cell]:
    """Exams, persons, instances and bytes of a view."""
    return read_cube(snapshot, TABLE, tuple(MEASURES), by=(), view=view, distinct=("n_patients",)).get((), {})


def by_month(snapshot: Snapshot, view: View) -> Grid:
    """Months down, modalities across; the last column is the published total of the month."""
    cells = read_cube(snapshot, TABLE, ("n_exams",), by=("exam_month", "modality_group"), view=view)
    totals = read_cube(snapshot, TABLE, ("n_exams",), by=("exam_month",), view=view)
    months = _months([month for (month,) in totals])
    modalities = [code for code in snapshot.modalities if any((month, code) in cells for month in months)]
    rows = [
        (
            month,
            *(cells.get((month, code), {"n_exams": 0})["n_exams"] for code in modalities),
            totals.get((month,), {"n_exams": 0})["n_exams"],
        )
        for month in months
    ]
    columns = [Column("exam_month", "month")]
    columns += [Column(code, "count", heading_kind="modality") for code in modalities]
    columns += [Column("total", "count")]
    chart = Chart(
        "stack", series=range(1, len(modalities) + 1), colors=[f"modality-{code.lower()}" for code in modalities]
    )
    incomplete = frozenset(i for i, month in enumerate(months) if snapshot.is_incomplete(month))
    sums = read_cube(snapshot, TABLE, ("n_exams",), by=("modality_group",), view=view)
    total_row = [
        *(sums.get((code,), {"n_exams": 0})["n_exams"] for code in modalities),
        total(snapshot, view).get("n_exams"),
    ]
    return Grid(columns, rows, chart=chart if rows else None, total=total_row, incomplete=incomplete)


def by_hospital(snapshot: Snapshot, view: View) -> Grid:
    return _by(snapshot, view, dimension="hospital_id", column=Column("hospital", "hospital"))


def by_modality(snapshot: Snapshot, view: View) -> Grid:
    return _by(snapshot, view, dimension="modality_group", column=Column("modality", "modality"))


def _by(snapshot: Snapshot, view: View, *, dimension: str, column: Column) -> Grid:
    cells = read_cube(snapshot, TABLE, tuple(MEASURES), by=(dimension,), view=view, distinct=("n_patients",))
    rows = [(code, *(values[measure] for measure in MEASURES)) for (code,), values in cells.items()]
    rows.sort(key=lambda row: (sort_value(row[1]), row[0]))
    columns = [column, *(Column(measure, kind) for measure, kind in MEASURES.items())]
    chart = Chart("bars", series=(1,), colors=("volume",), horizontal=True)
    totals = total(snapshot, view)
    return Grid(columns, rows, chart=chart, total=[totals.get(measure) for measure in MEASURES])


def _months(found: list[str]) -> list[str]:
    """Calendar months without a hole, then the exams whose month is unknown."""
    dated = [month for month in found if month != "unknown"]
    return [*(months_between(dated[0], dated[-1]) if dated else ()), *(m for m in found if m == "unknown")]


FIGURES = (
    Figure("volume_by_month", TABLE, by_month),
    Figure("volume_by_hospital", TABLE, by_hospital),
    Figure("volume_by_modality", TABLE, by_modality),
)
