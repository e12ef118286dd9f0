"""Film saving: what cloud film saves against printing, in yuan."""

from __future__ import annotations

from radlake.web.cells import Cell, Kind
from radlake.web.figures.cube import calendar, read_cube, sort_value
from radlake.web.figures.figure import Figure
from radlake.web.grid import Chart, Column, Grid
from radlake.web.numbers import names_of
from radlake.web.snapshot import Snapshot
from radlake.web.view import View

__all__ = ["FIGURES", "total"]

TABLE = "stats.film_saving"
MEASURES: dict[str, Kind] = {
    "n_exams": "count",
    "net_saving_fen": "fen",
    "film_cost_fen": "fen",
    "cloud_cost_fen": "fen",
    "printed_cost_fen": "fen",
    "unclaimed_cost_fen": "fen",
    "n_sheets_avoided": "count",
}
NET_SAVING = 2  # its column
SIGNED = ("n_sheets_avoided", "net_saving_fen")


def total(snapshot: Snapshot, view: View) -> dict[str, Cell]:
    """Exams, sheets, costs and net saving of a view."""
    return _read(snapshot, view).get((), {})


def by_month(snapshot: Snapshot, view: View) -> Grid:
    cells = _read(snapshot, view, "exam_month")
    months, n_older = calendar([month for (month,) in cells])
    return _grid(
        snapshot,
        view,
        Column("exam_month", "month"),
        [_row(month, cells.get((month,), {})) for month in months],
        incomplete=frozenset(i for i, month in enumerate(months) if snapshot.is_incomplete(month)),
        first_drawn=n_older,
    )


def by_hospital(snapshot: Snapshot, view: View) -> Grid:
    return _largest_first(snapshot, view, dimension="hospital_id", column=Column("hospital", "hospital"))


def by_modality(snapshot: Snapshot, view: View) -> Grid:
    return _largest_first(snapshot, view, dimension="modality_group", column=Column("modality", "modality"))


def _largest_first(snapshot: Snapshot, view: View, *, dimension: str, column: Column) -> Grid:
    rows = [_row(code, values) for (code,), values in _read(snapshot, view, dimension).items()]
    rows.sort(key=lambda row: (sort_value(row[NET_SAVING]), str(row[0])))
    return _grid(snapshot, view, column, rows, horizontal=True)


def _read(snapshot: Snapshot, view: View, *by: str) -> dict[tuple[str, ...], dict[str, Cell]]:
    return read_cube(snapshot, TABLE, tuple(MEASURES), by=by, view=view, signed=SIGNED)


def _row(code: str, values: dict[str, Cell]) -> tuple[Cell, ...]:
    return code, *(values.get(measure) for measure in MEASURES)


def _grid(
    snapshot: Snapshot,
    view: View,
    column: Column,
    rows: list[tuple[Cell, ...]],
    *,
    horizontal: bool = False,
    incomplete: frozenset[int] = frozenset(),
    first_drawn: int = 0,
) -> Grid:
    columns = [column, *(Column(measure, kind) for measure, kind in MEASURES.items())]
    by = {"exam_month": "exam_month", "hospital": "hospital_id", "modality": "modality_group"}[column.heading]
    fixed = {"hospital_id": view.hospital, "modality_group": view.modality}
    fixed.pop(by, None)
    names = names_of(TABLE, by=by, fixed=fixed, period="exam_month", view=view)
    chart = Chart("bars", series=(NET_SAVING,), colors=("saving",), horizontal=horizontal)
    totals = [total(snapshot, view).get(measure) for measure in MEASURES]
    return Grid(columns, rows, names=names, chart=chart, total=totals, incomplete=incomplete, first_drawn=first_drawn)


FIGURES = (
    Figure("film_by_month", TABLE, by_month),
    Figure("film_by_hospital", TABLE, by_hospital),
    Figure("film_by_modality", TABLE, by_modality),
)
