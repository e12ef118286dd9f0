"""Names of the numbers in a table, as `radlake trace` takes them (docs/adr/0037): TABLE/KEY=VALUE/.../COLUMN."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from urllib.parse import quote

from radlake.web.cells import Cell
from radlake.web.grid import Column
from radlake.web.view import View

__all__ = ["Names", "names_of"]

Names = Callable[[Sequence[Cell], Column], str | None]


def names_of(
    table: str,
    *,
    by: str | Sequence[str] | None,
    fixed: Mapping[str, str],
    view: View,
    period: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Names:
    """How the numbers of a table of a page are named.

    Parameters
    ----------
    by : str, sequence of str or None
        Columns of the key that the first cells of a row are values of.
    fixed : mapping of str to str
        Values of other columns of the key; an empty one is the total and left out.
    period : str or None
        Column of the month; a range of several months has no name, for it is added up here, and neither has a region.
    columns : mapping of str to str, optional
        Heading -> column of the table, where they differ; then only these have names.
    """
    by = (by,) if isinstance(by, str) else tuple(by or ())
    if view.region and not view.hospital and "hospital_id" not in by and "hospital_id" in fixed:
        return lambda _row, _column: None  # the sum of the hospitals of a region is made here
    key = {name: value for name, value in fixed.items() if value}
    if period and view.has_range:
        if view.first != view.last and period not in by:
            return lambda _row, _column: None
        key[period] = view.first

    @cache
    def of_row(labels: tuple[str, ...]) -> str:
        parts = key | dict(zip(by, labels, strict=True))
        return "/".join([table, *(f"{one}={quote(value, safe='')}" for one, value in parts.items())])

    def name(row: Sequence[Cell], column: Column) -> str | None:
        told = columns.get(column.heading) if columns is not None else column.heading
        if told is None or not column.is_number:
            return None
        return f"{of_row(tuple(map(str, row[: len(by)])))}/{told}"

    return name
