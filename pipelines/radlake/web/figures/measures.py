"""Measures: rates that were defined as files and released through one gate, with their limits."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from radlake.web.cells import MASKED, Cell, Kind, Writer
from radlake.web.figures.cube import sort_value
from radlake.web.figures.figure import Figure
from radlake.web.grid import Chart, Column, Grid
from radlake.web.numbers import names_of
from radlake.web.snapshot import Snapshot
from radlake.web.view import View

__all__ = ["FIGURES"]

TABLE = "stats.measure"
DIMENSIONS = ("exam_year", "region_code", "patient_sex", "age_band", "modality_group", "body_part_code")
TOLD: dict[str, Kind] = {
    "rate": "rate",
    "rate_low": "rate",
    "rate_high": "rate",
    "smoothed_rate": "rate",
    "n_persons": "count",
    "n_exams": "count",
    "person_years": "count",
    "problem": "problem",
}
TRENDS: dict[str, Kind] = {"apc_percent": "rate", "apc_low": "rate", "apc_high": "rate"}
_PUBLIC = ("person_years", "problem")  # not of anybody's exams


@dataclass(frozen=True)
class _Shown:
    """The measure and year that a view shows; titles and formulas by language, `all` where it has no years."""

    measure_id: str
    titles: dict[str, str]
    formulas: dict[str, str]
    per: float
    year: str

    def caption(self, writer: Writer) -> str:
        language = writer.words.language
        facts = {"title": self.titles[language], "formula": self.formulas[language]}
        return writer.words("caption.measure", per=f"{self.per:,.0f}", **facts)

    def caption_of_year(self, writer: Writer) -> str:
        return writer.words(
            "caption.measure_of_year", text=self.caption(writer), year=writer.screen(self.year, "month")
        )


def by_region(snapshot: Snapshot, view: View) -> Grid:
    """Regions of one year, on a tile map too."""
    grid = _grid(snapshot, view, Column("region", "region"), "region_code", horizontal=True)
    return grid.on_tiles()


def by_year(snapshot: Snapshot, view: View) -> Grid:
    """The whole province year by year; the total has the annual percent change."""
    grid = _grid(snapshot, view, Column("exam_year", "month"), "exam_year", more=TRENDS)
    years = [row for row in grid.rows if row[0] != "all"]
    total = next((row[1:] for row in grid.rows if row[0] == "all"), ())
    return replace(grid, rows=years, total=total)


def by_sex_and_age(snapshot: Snapshot, view: View) -> Grid:
    """Ages and sexes of one year; there is no chart: bands of one age would hide each other."""
    return _grid(snapshot, view, Column("age_band", "age"), "age_band", also=Column("patient_sex", "sex"))


def _measure(snapshot: Snapshot, view: View) -> _Shown | None:
    """The chosen measure, or the first one by name; the last release of it."""
    name = view.measure or next(iter(snapshot.measures), "")
    rows = snapshot.rows(
        """
        SELECT measure_id, title_zh, title_en, formula_zh, formula_en, definition
        FROM stats.measure_definition
        WHERE measure = $name
        ORDER BY measure_version DESC, released_at DESC
        LIMIT 1
        """,
        {"name": name},
    )
    if not rows:
        return None
    [(measure_id, title_zh, title_en, formula_zh, formula_en, definition)] = rows
    years = "SELECT max(exam_year) FROM stats.measure WHERE measure_id = $measure AND exam_year < 'a'"
    [(last,)] = snapshot.rows(years, {"measure": measure_id})
    return _Shown(
        measure_id,
        year=(view.year or last) if last else "all",
        titles={"zh-CN": title_zh, "en": title_en},
        formulas={"zh-CN": formula_zh, "en": formula_en},
        per=json.loads(definition).get("rate", {}).get("per", 1000),
    )


def _grid(
    snapshot: Snapshot,
    view: View,
    column: Column,
    dimension: str,
    *,
    also: Column | None = None,
    more: dict[str, Kind] | None = None,
    horizontal: bool = False,
) -> Grid:
    """A row for each value of a dimension, the others being totals; `also` is a second one beside it."""
    measure = _measure(snapshot, view)
    told: dict[str, Kind] = {**TOLD, **(more or {})}
    columns = [column, *([also] if also else []), *(Column(name, kind) for name, kind in told.items())]
    if measure is None:
        return Grid(columns, [])
    split = (dimension, also.heading) if also else (dimension,)
    where = [f"{name} IN ('all', 'none')" for name in DIMENSIONS if name not in split and name != "exam_year"]
    where.append(f"{dimension} != 'none'")
    is_series, year = dimension == "exam_year", measure.year
    parameters: dict[str, object] = {"measure": measure.measure_id}
    if not is_series:
        where.append("exam_year = $year" if year != "all" else "exam_year IN ('all', 'none')")
        parameters |= {"year": year} if year != "all" else {}
    found = snapshot.rows(
        f"""
        SELECT is_masked, {", ".join((*split, *told))}
        FROM {TABLE}
        WHERE measure_id = $measure AND {" AND ".join(where)}
        ORDER BY ALL
        """,
        parameters,
    )
    rows: list[tuple[Cell, ...]] = []
    for is_masked, *cells in found:
        labels, numbers = cells[: len(split)], cells[len(split) :]
        shown = [
            MASKED if is_masked and name not in _PUBLIC else (number if number != "" else None)
            for name, number in zip(told, numbers, strict=True)
        ]
        rows.append((*labels, *shown))
    if len(rows) == 1 and rows[0][0] == "all":
        rows = []  # the measure is not split by this dimension
    if also and {str(row[1]) for row in rows} == {"none"}:
        also, columns, rows = None, [columns[0], *columns[2:]], [(row[0], *row[2:]) for row in rows]
    first = 2 if also else 1
    if horizontal:
        rows.sort(key=lambda row: (row[0] == "all", sort_value(row[first]), str(row[0])))
    return Grid(
        columns,
        rows,
        chart=None if also else Chart("intervals", series=(1, 2, 3), colors=("rate",) * 3, horizontal=horizontal),
        incomplete=frozenset(
            i for i, row in enumerate(rows) if snapshot.is_incomplete(str(row[0] if is_series else year))
        ),
        names=names_of(
            TABLE,
            by=(dimension, also.heading) if also else dimension,
            view=View(),
            fixed={"measure_id": measure.measure_id, "exam_year": "" if is_series or year == "all" else year},
        ),
        caption=measure.caption if is_series else measure.caption_of_year,
    )


FIGURES = (
    Figure("measure_by_region", TABLE, by_region),
    Figure("measure_by_year", TABLE, by_year),
    Figure("measure_by_sex_and_age", TABLE, by_sex_and_age),
)
