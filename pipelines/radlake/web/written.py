"""The table of a figure as it is written: texts and links of every cell, so that the template only lays them out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from radlake.web.cells import Cell, Kind, Writer, is_alarming
from radlake.web.grid import Column, Grid

__all__ = ["WrittenCell", "WrittenRow", "written_rows"]

_PROSE = frozenset(
    {"text", "outcome", "reason", "remedy", "topic", "topic_remedy", "problem", "volume", "certificate"}
)  # may be long


class WrittenCell(NamedTuple):
    """A cell after the first: its CSS class, its text, and where it leads; `bar` is a share in percent, or empty."""

    css: str
    text: str
    href: str
    bar: str


class WrittenRow(NamedTuple):
    """A row; its first cell is the heading."""

    heading: str
    href: str
    is_incomplete: bool
    cells: Sequence[WrittenCell]


def written_rows(
    grid: Grid,
    numbers: Sequence[int],
    writer: Writer,
    *,
    narrowed: Callable[[Cell, Kind], str],
    traced: Callable[[str], str] | None,
) -> Iterator[WrittenRow]:
    """Rows of a grid by their numbers.

    Parameters
    ----------
    narrowed : callable
        The link of a heading: the page narrowed to its row, or nothing.
    traced : callable or None
        The link of a number by its name; None where numbers have no links.
    """
    first, *others = grid.columns
    for number in numbers:
        heading, *row = grid.rows[number]
        cells = []
        for position, (column, cell) in enumerate(zip(others, row, strict=True), start=1):
            text = writer.screen(cell, column.kind)
            if column.bar and isinstance(cell, int | float):
                cells.append(WrittenCell("number", text, "", f"{100 * cell:.2f}"))
            else:
                name = grid.number(number, position) if traced else None
                href = traced(name) if traced and name else ""
                cells.append(WrittenCell(_css(column, cell), text, href, ""))
        yield WrittenRow(
            writer.screen(heading, first.kind), narrowed(heading, first.kind), number in grid.incomplete, cells
        )


def _css(column: Column, cell: Cell) -> str:
    if column.is_number:
        return "number"
    if column.kind not in _PROSE:
        return ""
    return "prose warn" if is_alarming(cell, column.kind) else "prose"
