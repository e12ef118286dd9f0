"""Film saving: what cloud film saves against printing, in yuan."""

from __future__ import annotations

from radlake.web.cells import Cell, Kind
from radlake.web.figures.cube import calendar, read_cube, sort_value
from radlake.web.figures.figure import Figure
from radlake.web.grid import Chart, Column, Grid
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
    return read_cube(snapshot, TABLE, tuple(MEASURES), by=(), view=view, signed=SIGNED).get((), {})


def by_month(snapshot: Snapshot, view: View) -> Grid:
    rows = _rows(snapshot, view, "exam_month")
    incomplete = frozenset(i for i, row in enumerate(rows) if snapshot.is_incomplete(str(row[0])))
    return _grid(snapshot, view, Column("exam_month", "month"), rows, incomplete=incomplete)


def by_hospital(snapshot: Snapshot, view: View) -> Grid:
    rows = _rows(snapshot, view, "hospital_id")
    return _grid(snapshot, view, Column("hospital", "hospital"), sorted(rows, key=_largest_first), horizontal=True)


def by_modality(snapshot: Snapshot, view: View) -> Grid:
    rows = _rows(snapshot, view, "modality_group")
    return _grid(snapshot, view, Column("modality", "modality"), sorted(rows, key=_largest_first), horizontal=True)


def _rows(snapshot: Snapshot, view: View, dimension: str) -> list[tuple[Cell, ...]]:
    cells = read_cube(snapshot, TABLE, tuple(MEASURES), by=(dimension,), view=view, signed=SIGNED)
    codes = [code for (code,) in cells]
    return [
        (code, *(cells.get((code,), {}).get(measure) for measure in MEASURES))
        for code in (calendar(codes) if dimension == "exam_month" else codes)
    ]


def _largest_first(row: tuple[Cell, ...]) -> tuple[float, str]:
    return sort_value(row[NET_SAVING]), str(row[0])


def _grid(
    snapshot: Snapshot,
    view: View,
    column: Column,
    rows: list[tuple[Cell, ...]],
    *,
    horizontal: bool = False,
    incomplete: frozenset[int] = frozenset(),
) -> Grid:
    columns = [column, *(Column(measure, kind) for measure, kind in MEASURES.items())]
    chart = Chart("bars", series=(NET_SAVING,), colors=("saving",), horizontal=horizontal)
    totals = total(snapshot, view)
    return Grid(columns, rows, chart=chart, total=[totals.get(m) for m in MEASURES], incomplete=incomplete)


FIGURES = (
    Figure("film_by_month", TABLE, by_month),
    Figure("film_by_hospital", TABLE, by_hospital),
    Figure("film_by_modality", TABLE, by_modality),
)
