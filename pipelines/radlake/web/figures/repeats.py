"""Repeats by window: which window suits which examination, and in which cities and levels of hospitals they are many.

Released by year, modality and body part, and by city or level in all: never by month or hospital. Months of one year
show that year, others all years.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from radlake.web.cells import Cell, Kind, Writer
from radlake.web.figures.cube import sort_value
from radlake.web.figures.figure import Figure
from radlake.web.grid import Chart, Column, Grid
from radlake.web.numbers import names_of
from radlake.web.places import prefix_of
from radlake.web.snapshot import Snapshot
from radlake.web.view import WINDOWS, View

__all__ = ["FIGURES"]

TABLE = "stats.repeat_window"
PACK = "clinical_v1"
DIMENSIONS = ("modality_group", "body_part_code", "region_code", "hospital_level")
MEASURES: dict[str, Kind] = {
    "potential_share": "share",
    "potential_across_share": "share",
    "repeat_share": "share",
    "indexed_share": "share",
    "n_potential": "count",
    "n_potential_across_hospitals": "count",
    "n_potential_across_cities": "count",
    "n_repeats": "count",
    "n_indexed_repeated": "count",
}
_COLORS = ("drl", "p75", "median", "shown")  # of the shares, as they stand


@dataclass(frozen=True)
class _Chosen:
    """Year and window that a view shows; without a window all of them."""

    year: str
    is_incomplete: bool
    window: str = ""

    def caption(self, writer: Writer) -> str:
        year = "caption.incomplete_year" if self.is_incomplete else "caption.year"
        period = writer.words("caption.all_years") if self.year == "all" else writer.words(year, year=self.year)
        if not self.window:
            return writer.words("caption.repeats", period=period, pack=PACK)
        return writer.words("caption.repeats_within", period=period, pack=PACK, days=self.window)


def by_window(snapshot: Snapshot, view: View) -> Grid:
    """Every window, of the chosen modality, or of a city in all."""
    fixed = {"modality_group": view.modality, "region_code": view.region}
    return _grid(snapshot, view, Column("window", "days"), "window_days", fixed)


def by_city(snapshot: Snapshot, view: View) -> Grid:
    """Cities of the chosen region in one window, on a tile map too."""
    grid = _grid(snapshot, view, Column("region", "region"), "region_code", {"modality_group": view.modality})
    within = [row for row in grid.rows if str(row[0]).startswith(prefix_of(view.region))]
    return replace(grid, rows=within).on_tiles()


def by_level(snapshot: Snapshot, view: View) -> Grid:
    """Levels of hospitals in one window."""
    column = Column("hospital_level", "level")
    grid = _grid(snapshot, view, column, "hospital_level", {"modality_group": view.modality})
    return replace(grid, rows=[]) if view.region else grid


def by_exam(snapshot: Snapshot, view: View) -> Grid:
    """Examinations, the most repeats first: in every window the share that nothing excuses."""
    chosen = replace(_chosen(snapshot, view, is_place=False), window="")
    by = ("modality_group", "body_part_code")
    found = _read(snapshot, chosen, by=(*by, "window_days"), fixed={})
    shares = {key: cells["potential_share"] for key, cells in found.items()}
    windows = sorted({window for *_, window in found}, key=int)
    counts: dict[tuple[str, ...], Cell] = {}
    for (*exam, window), cells in found.items():
        if window == windows[-1] and view.modality in ("", exam[0]):
            counts[tuple(exam)] = cells["n_potential"]
    rows = [(*exam, n, *(shares.get((*exam, window)) for window in windows)) for exam, n in counts.items()]
    rows.sort(key=lambda row: (sort_value(row[2]), row[:2]))
    key = {"rule_pack": PACK, "exam_year": chosen.year}
    names = {
        window: names_of(
            TABLE, by=by, fixed=key | {"window_days": window}, view=View(), columns={window: "potential_share"}
        )
        for window in windows
    }
    columns = [
        *(Column("modality", "modality"), Column("body_part", "part"), Column("n_potential", "count")),
        *(Column(window, "share", heading_kind="days") for window in windows),
    ]
    return Grid(
        columns,
        [] if view.hospital or view.region else rows,
        names=lambda row, column: names[column.heading](row, column) if column.heading in names else None,
        caption=chosen.caption,
    )


def _grid(snapshot: Snapshot, view: View, column: Column, dimension: str, fixed: Mapping[str, str]) -> Grid:
    """A row for each value of a dimension: windows in their order, joined by lines; places the largest share first."""
    is_window = dimension == "window_days"
    chosen = _chosen(snapshot, view, is_place=not is_window or bool(view.region))
    chosen = replace(chosen, window="") if is_window else chosen
    found = {} if view.hospital else _read(snapshot, chosen, by=(dimension,), fixed=fixed)
    rows = [(label, *(cells[name] for name in MEASURES)) for (label,), cells in found.items()]
    rows.sort(key=lambda row: int(row[0]) if is_window else (sort_value(row[1]), row[0]))
    n_shares = len(_COLORS) if is_window else 2  # places side by side: after exclusions, and of those across hospitals
    key = {"rule_pack": PACK, "window_days": chosen.window, "exam_year": chosen.year, **fixed}
    return Grid(
        [column, *(Column(name, kind) for name, kind in MEASURES.items())],
        rows,
        chart=Chart(
            "lines" if is_window else "bars",
            series=range(1, 1 + n_shares),
            colors=_COLORS[:n_shares],
            horizontal=not is_window,
        ),
        names=names_of(TABLE, by=dimension, fixed=key, view=View()),
        caption=chosen.caption,
    )


def _chosen(snapshot: Snapshot, view: View, *, is_place: bool) -> _Chosen:
    years = {month[:4] for month in (view.first, view.last) if month}
    year = years.pop() if len(years) == 1 and not is_place else "all"
    return _Chosen(year, snapshot.is_incomplete(year), view.window or WINDOWS[0])


def _read(
    snapshot: Snapshot, chosen: _Chosen, *, by: Sequence[str], fixed: Mapping[str, str]
) -> dict[tuple[str, ...], dict[str, Cell]]:
    """Measures by the labels of some dimensions; what is not fixed and not asked for is total."""
    parameters: dict[str, object] = {"pack": PACK, "year": chosen.year}
    conditions = ["rule_pack = $pack", "exam_year = $year"]
    for name in DIMENSIONS:
        if name in by:
            conditions.append(f"{name} != 'all'")
        else:
            conditions.append(f"{name} = ${name}")
            parameters[name] = fixed.get(name) or "all"
    if chosen.window:
        conditions.append("window_days = $window::SMALLINT")
        parameters["window"] = chosen.window
    labels = [f"{name}::VARCHAR" for name in by]
    rows = snapshot.rows(
        f"SELECT {', '.join((*labels, *MEASURES))} FROM {TABLE} WHERE {' AND '.join(conditions)}", parameters
    )
    return {row[: len(by)]: dict(zip(MEASURES, row[len(by) :], strict=True)) for row in rows}


FIGURES = (
    Figure("repeats_by_window", TABLE, by_window),
    Figure("repeats_by_city", TABLE, by_city),
    Figure("repeats_by_level", TABLE, by_level),
    Figure("repeats_by_exam", TABLE, by_exam),
)
