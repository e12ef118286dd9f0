"""Coverage as a picture in a terminal: a character for each month or day, which reads without its colour too."""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Mapping
from datetime import date
from functools import reduce
from operator import add

from rich.text import Text

from radlake.backfill.coverage import Coverage

__all__ = ["LEGEND", "heatmap_of_days", "heatmap_of_months"]

LEGEND = (
    "share of the listed studies that are complete in the lake: # all, 0-9 tenths, - none, "
    ". no studies listed, ? maybe more than listed, blank not planned"
)
_NAME = 18
_YEAR = 13


def cell(coverage: Coverage | None) -> tuple[str, str]:
    """Character and style of a share.

    >>> cell(Coverage(n_listed=4, n_complete=4))[0], cell(Coverage(n_listed=4, n_complete=3))[0]
    ('#', '7')
    >>> cell(Coverage(n_listed=4))[0], cell(Coverage())[0], cell(None)[0]
    ('-', '.', ' ')
    """
    if coverage is None:
        return " ", ""
    share = coverage.share
    if coverage.is_doubtful:
        return "?", "black on magenta"
    if share is None:
        return ".", "dim"
    if coverage.n_complete == 0:
        return "-", "white on red"
    if share == 1:
        return "#", "black on green"
    return str(int(share * 10)), "black on yellow" if share < 0.5 else "black on cyan"


def heatmap_of_months(hospitals: Mapping[str, Mapping[date, Coverage]], *, width: int) -> Iterable[Text]:
    """A row for each hospital, a character for each month; as many years beside each other as fit."""
    months = {name: _by_month(days) for name, days in hospitals.items()}
    years = sorted({year for found in months.values() for year, _ in found})
    n_beside = max((width - _NAME) // _YEAR, 1)
    for begin in range(0, len(years), n_beside):
        part = years[begin : begin + n_beside]
        yield Text(" " * _NAME + " ".join(f"{year:<12}" for year in part), style="bold")
        for name, found in months.items():
            line = Text(f"{name:<{_NAME}}"[:_NAME])
            for year in part:
                _draw(line, (found.get((year, month)) for month in range(1, 13)))
                line.append(" ")
            yield line


def heatmap_of_days(hospitals: Mapping[str, Mapping[date, Coverage]]) -> Iterable[Text]:
    """A row for each month of a hospital, a character for each day."""
    for name, days in hospitals.items():
        yield Text(
            f"{name:<{_NAME}}"[:_NAME] + "".join(f"{day:<5}" for day in (1, 6, 11, 16, 21, 26, 31)), style="bold"
        )
        for year, month in sorted({(day.year, day.month) for day in days}):
            line = Text(f"{year}-{month:02d}".ljust(_NAME))
            last = calendar.monthrange(year, month)[1]
            _draw(line, (days.get(date(year, month, number)) for number in range(1, last + 1)))
            yield line


def _draw(line: Text, cells: Iterable[Coverage | None]) -> None:
    for coverage in cells:
        character, style = cell(coverage)
        line.append(character, style=style)


def _by_month(days: Mapping[date, Coverage]) -> dict[tuple[int, int], Coverage]:
    parts: dict[tuple[int, int], list[Coverage]] = {}
    for day, coverage in days.items():
        parts.setdefault((day.year, day.month), []).append(coverage)
    return {month: reduce(add, found) for month, found in parts.items()}
