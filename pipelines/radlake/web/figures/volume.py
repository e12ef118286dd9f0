"""Exams: how many, by month, modality and hospital."""

from __future__ import annotations

from radlake.web.cells import MASKED, Cell, Kind
from radlake.web.figures.cube import calendar, read_cube, sort_value
from radlake.web.figures.figure import Figure
from radlake.web.grid import Chart, Column, Grid
from radlake.web.numbers import names_of
from radlake.web.snapshot import Snapshot
from radlake.web.view import View

__all__ = ["FIGURES", "total"]

TABLE = "stats.exam_volume"
MEASURES: dict[str, Kind] = {"n_exams": "count", "n_patients": "count", "n_instances": "count", "exam_bytes": "bytes"}


def total(snapshot: Snapshot, view: View) -> dict[str, Cell]:
    """Exams, persons, instances and bytes of a view."""
    return read_cube(snapshot, TABLE, tuple(MEASURES), by=(), view=view, distinct=("n_patients",)).get((), {})


def by_month(snapshot: Snapshot, view: View) -> Grid:
    """Months down, modalities across, the published total last.

    What is withheld of a month is the total less what is told: with it every row adds up, and so do the bars.
    """
    cells = read_cube(snapshot, TABLE, ("n_exams",), by=("exam_month", "modality_group"), view=view)
    totals = read_cube(snapshot, TABLE, ("n_exams",), by=("exam_month",), view=view)
    sums = read_cube(snapshot, TABLE, ("n_exams",), by=("modality_group",), view=view)
    months, n_older = calendar([month for (month,) in totals])
    modalities = [code for code in snapshot.modalities if any((month, code) in cells for month in months)]

    def line(told: list[Cell], whole: Cell) -> list[Cell]:
        return [*told, _withheld(told, whole), whole]

    rows = [
        [month, *line([_n_exams(cells, (month, code)) for code in modalities], _n_exams(totals, (month,)))]
        for month in months
    ]
    total_row = line([_n_exams(sums, (code,)) for code in modalities], total(snapshot, view).get("n_exams"))
    columns = [Column("exam_month", "month"), *(Column(code, "count", heading_kind="modality") for code in modalities)]
    columns += [Column("withheld", "count"), Column("total", "count")]
    colors = [*(f"modality-{code.lower()}" for code in modalities), "withheld"]
    if not any(row[-2] for row in [*rows, ["", *total_row]]):
        rows = [[*row[:-2], row[-1]] for row in rows]
        total_row = [*total_row[:-2], total_row[-1]]
        del columns[-2], colors[-1]
    return Grid(
        columns,
        rows,
        chart=Chart("stack", series=range(1, len(colors) + 1), colors=colors),
        total=total_row,
        incomplete=frozenset(i for i, month in enumerate(months) if snapshot.is_incomplete(month)),
        first_drawn=n_older,
    )


def by_hospital(snapshot: Snapshot, view: View) -> Grid:
    """Hospitals, most exams first."""
    cells = read_cube(snapshot, TABLE, tuple(MEASURES), by=("hospital_id",), view=view, distinct=("n_patients",))
    rows = [(code, *(values[measure] for measure in MEASURES)) for (code,), values in cells.items()]
    rows.sort(key=lambda row: (sort_value(row[1]), str(row[0])))
    totals = total(snapshot, view)
    return Grid(
        [Column("hospital", "hospital"), *(Column(measure, kind) for measure, kind in MEASURES.items())],
        rows,
        chart=Chart("bars", series=(1,), colors=("volume",), horizontal=True),
        total=[totals.get(measure) for measure in MEASURES],
        names=names_of(
            TABLE, by="hospital_id", fixed={"modality_group": view.modality}, period="exam_month", view=view
        ),
    )


def _n_exams(cells: dict[tuple[str, ...], dict[str, Cell]], key: tuple[str, ...]) -> Cell:
    """Exams of a combination; one that the statistic does not have had none."""
    return cells[key]["n_exams"] if key in cells else 0


def _withheld(told: list[Cell], whole: Cell) -> Cell:
    """Sum of the withheld cells, unless there is one only: then the sum would tell it."""
    hidden = [cell for cell in told if not isinstance(cell, int)]
    if not hidden:
        return 0
    if len(hidden) == 1 or not isinstance(whole, int):
        return MASKED
    return whole - sum(cell for cell in told if isinstance(cell, int))


FIGURES = (
    Figure("volume_by_month", TABLE, by_month),
    Figure("volume_by_hospital", TABLE, by_hospital),
)
