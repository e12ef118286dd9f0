"""A grid is the table behind a figure; its chart shows the same cells, so both always tell the same numbers.

What a chart looks like is decided in `static/app.js`; where the numbers come from, in `figures`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from radlake.web.cells import NUMBERS, AtLeast, Cell, Kind, Masked, Writer
from radlake.web.tilemap import Tile, tiles_of

__all__ = ["Chart", "Column", "Grid"]

BARS_DRAWN = 15


@dataclass(frozen=True)
class Column:
    """A column of a grid: its heading (a catalogue key, or a code of `heading_kind`) and what its cells are."""

    heading: str
    kind: Kind
    heading_kind: Kind | None = None
    bar: bool = False

    @property
    def is_number(self) -> bool:
        return self.kind in NUMBERS

    def title(self, writer: Writer) -> str:
        if self.heading_kind:
            return writer.screen(self.heading, self.heading_kind)
        return writer.words(f"column.{self.heading}")


@dataclass(frozen=True)
class Chart:
    """Which columns of a grid are drawn, and how.

    Attributes
    ----------
    form : str
        `stack` adds the series up, `bars` puts them side by side, `lines` joins them, `intervals` draws the
        first series as points with the next two as limits.
    series : sequence of int
        Column numbers of the grid.
    colors : sequence of str
        Palette name of each series (`--c-<name>` in app.css).
    horizontal : bool
        Categories down the side: for names, which are long.
    whole : bool
        Each category is drawn as shares of its own sum.
    """

    form: Literal["stack", "bars", "lines", "intervals"]
    series: Sequence[int]
    colors: Sequence[str]
    horizontal: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Grid:
    """Columns and rows of cells.

    Attributes
    ----------
    total : sequence of cells, optional
        What the columns after the first come to; read from the published total, not added up.
    incomplete : frozenset of int
        Rows of a period that was not over when the data came.
    first_drawn : int
        First row that a chart over time shows.
    tiles : sequence of Tile
        A tile map beside the chart; empty where regions have no place on it.
    caption : callable, optional
        Writes what the reader has chosen, or what was chosen for him; shown above the chart.
    names : callable, optional
        Gives the name of a number by its row and column (radlake.web.numbers).
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    chart: Chart | None = None
    total: Sequence[Cell] = ()
    incomplete: frozenset[int] = field(default_factory=frozenset)
    first_drawn: int = 0
    tiles: Sequence[Tile] = ()
    caption: Callable[[Writer], str] | None = None
    names: Callable[[Sequence[Cell], Column], str | None] | None = None

    def number(self, row: int, column: int) -> str | None:
        """Name of the number in a cell, where it has one: what is withheld or added up here has none."""
        cell = self.rows[row][column]
        is_told = isinstance(cell, int | float) and self.names is not None and column > 0
        return self.names(self.rows[row], self.columns[column]) if is_told and self.names else None

    def on_tiles(self) -> Grid:
        """The same with a tile map of its second column, by the region in its first."""
        incomplete = frozenset(str(self.rows[i][0]) for i in self.incomplete)
        return replace(self, tiles=tiles_of({str(row[0]): row[1] for row in self.rows}, incomplete=incomplete))

    def payload(self, writer: Writer) -> dict[str, Any] | None:
        """What the browser needs to draw the chart: numbers to place the marks, texts to read them out.

        None when there is no number to draw.
        """
        if self.chart is None or not self.rows:
            return None
        chart, rows = self.chart, [self.rows[index] for index in self.drawn]
        kind = self.columns[chart.series[0]].kind
        series = [
            {
                "name": self.columns[number].title(writer),
                "color": color,
                "values": [_drawn(row[number], kind) for row in rows],
                "texts": [writer.screen(row[number], self.columns[number].kind) for row in rows],
            }
            for number, color in zip(chart.series, chart.colors, strict=True)
        ]
        if all(value is None for one in series for value in one["values"]):
            return None
        return {
            "form": chart.form,
            "horizontal": chart.horizontal,
            "whole": chart.whole,
            "unit": kind,
            "language": writer.words.language,
            "categories": [writer.screen(row[0], self.columns[0].kind) for row in rows],
            "incomplete": [position for position, index in enumerate(self.drawn) if index in self.incomplete],
            "incomplete_label": writer.words("note.incomplete"),
            "series": series,
        }

    @property
    def is_series(self) -> bool:
        """Whether the rows are one after the other in time: then the last ones matter most, else the first ones."""
        return self.chart is not None and not self.chart.horizontal

    @property
    def drawn(self) -> range:
        """Rows that the chart shows; the table has all."""
        n = len(self.rows)
        return range(self.first_drawn, n) if self.is_series else range(min(n, BARS_DRAWN))

    @property
    def n_withheld(self) -> int:
        """Drawn cells that disclosure control withholds in part or whole."""
        columns = self.chart.series if self.chart else ()
        return sum(isinstance(self.rows[i][number], (Masked, AtLeast)) for i in self.drawn for number in columns)

    def shown(self, limit: int | None) -> range:
        """Rows of the table when it has at most `limit`."""
        n = len(self.rows)
        if limit is None or n <= limit:
            return range(n)
        return range(n - limit, n) if self.is_series else range(limit)


def _drawn(cell: Cell, kind: Kind) -> float | None:
    if isinstance(cell, AtLeast):
        cell = cell.value
    if isinstance(cell, (Masked, str)) or not isinstance(cell, int | float):
        return None
    return cell / 100 if kind == "fen" else cell
