"""Epidemiology: persons examined per 1,000 residents, with 95 % limits."""

from __future__ import annotations

from radlake.web.cells import MASKED, Cell, Kind
from radlake.web.figures.cube import sort_value
from radlake.web.figures.figure import Figure
from radlake.web.grid import Chart, Column, Grid
from radlake.web.numbers import names_of
from radlake.web.snapshot import Snapshot
from radlake.web.view import View

__all__ = ["FIGURES"]

TABLE = "stats.exam_rate"
MEASURES: dict[str, Kind] = {
    "rate_per_1000": "rate",
    "rate_low": "rate",
    "rate_high": "rate",
    "n_patients": "count",
    "n_exams": "count",
    "n_residents": "count",
    "n_observed_days": "count",
}
WHOLE_YEAR_DAYS = 335  # a year of which a month or more was not observed is incomplete


def by_region(snapshot: Snapshot, view: View) -> Grid:
    """Regions of one year (the last one when none was chosen), for one modality or all."""
    grid = _grid(
        snapshot,
        Column("region", "region"),
        "region_code",
        "exam_year = $year AND modality_group = $modality",
        {"year": _year(snapshot, view), "modality": view.modality or "all"},
        horizontal=True,
    )
    return grid.on_tiles()


def by_year(snapshot: Snapshot, view: View) -> Grid:
    """All regions together, year by year."""
    return _grid(
        snapshot,
        Column("exam_year", "month"),
        "exam_year",
        "region_code = 'all' AND exam_year != 'all' AND modality_group = $modality",
        {"modality": view.modality or "all"},
    )


def by_modality(snapshot: Snapshot, view: View) -> Grid:
    """All regions together, by modality, in one year."""
    return _grid(
        snapshot,
        Column("modality", "modality"),
        "modality_group",
        "region_code = 'all' AND exam_year = $year AND modality_group != 'all'",
        {"year": _year(snapshot, view)},
        horizontal=True,
    )


def _year(snapshot: Snapshot, view: View) -> str:
    return view.year or (snapshot.years[-1] if snapshot.years else "")


def _grid(
    snapshot: Snapshot,
    column: Column,
    key: str,
    where: str,
    parameters: dict[str, object],
    *,
    horizontal: bool = False,
) -> Grid:
    """A row for each value of `key`; a row of a year that is not over is incomplete."""
    year = parameters.get("year")
    found = snapshot.rows(
        f"SELECT {key}, is_masked, {', '.join(MEASURES)} FROM {TABLE} WHERE {where} ORDER BY 1",
        parameters,
    )
    rows: list[tuple[Cell, ...]] = []
    for code, is_masked, *values in found:
        *counted, residents, days = values
        rows.append((code, *((MASKED,) * len(counted) if is_masked else counted), residents, days))
    if horizontal:
        rows.sort(key=lambda row: (row[0] == "all", sort_value(row[1]), row[0]))
    columns = [column, *(Column(measure, kind) for measure, kind in MEASURES.items())]
    chart = Chart("intervals", series=(1, 2, 3), colors=("rate",) * 3, horizontal=horizontal)
    incomplete = frozenset(
        i
        for i, (code, *_, days) in enumerate(rows)
        if snapshot.is_incomplete(str(year or code)) or (isinstance(days, int) and days < WHOLE_YEAR_DAYS)
    )
    fixed = {"exam_year": str(year or ""), "modality_group": str(parameters.get("modality", ""))}
    fixed.pop(key, None)
    names = names_of(TABLE, by=key, fixed=fixed, view=View())
    return Grid(columns, rows, names=names, chart=chart, incomplete=incomplete)


FIGURES = (
    Figure("rate_by_region", TABLE, by_region),
    Figure("rate_by_modality", TABLE, by_modality),
    Figure("rate_by_year", TABLE, by_year),
)
