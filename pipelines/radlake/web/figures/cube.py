"""Reading a statistic: a cube whose rows are combinations of month, hospital and modality, `all` being a total.

A total is read from its own row and never added up here, so that it holds what was withheld below it. Only a range
of months has no row of its own: it is the sum of its months, and a lower limit when one of them is withheld.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from radlake.web.cells import MASKED, AtLeast, Cell
from radlake.web.places import UNKNOWN, digits_below, prefix_of
from radlake.web.snapshot import Snapshot
from radlake.web.view import View

__all__ = ["CHOSEN", "PLACE", "calendar", "chosen", "read_cube", "share", "sort_value"]

MONTHS_DRAWN = 36
DIMENSIONS = {"hospital_id": "hospital", "modality_group": "modality"}  # column -> field of the view that narrows it
PLACE = "place"  # no dimension of a statistic: the region next below the chosen one, as the sum of its hospitals
# Hospitals of a view, in tables with one row or more a hospital; `chosen` gives the parameters.
CHOSEN = """
    $hospital IN ('', hospital_id)
    AND ($region = '' OR hospital_id IN (SELECT hospital_id FROM ref.place WHERE starts_with(place_code, $region)))
"""


def chosen(view: View) -> dict[str, object]:
    """Parameters of `CHOSEN`."""
    return {"hospital": view.hospital, "region": prefix_of(view.region)}


def read_cube(
    snapshot: Snapshot,
    table: str,
    measures: Sequence[str],
    *,
    by: Sequence[str],
    view: View,
    distinct: Sequence[str] = (),
    signed: Sequence[str] = (),
    told: Sequence[str] = (),
    period: str = "exam_month",
    dimensions: Mapping[str, str] = DIMENSIONS,
    where: str = "true",
) -> dict[tuple[str, ...], dict[str, Cell]]:
    """Measures of a statistic by some of its dimensions, inside a view.

    Parameters
    ----------
    by : sequence of str
        Dimensions that become the keys, or `PLACE`; `all` is never a key.
    distinct : sequence of str
        Measures that count distinct persons: several months have no sum.
    signed : sequence of str
        Measures that may be negative: a sum with a withheld term has no lower limit.
    told : sequence of str
        Measures that are published ready made, as shares and medians: several months have none.
    period : str
        The column of the month.
    dimensions : mapping of str to str
        Its other dimensions, and the field of the view that narrows each.
    where : str
        A further condition on dimensions of the table, written here and never by a reader.
    """
    conditions, parameters = [where], {}
    if view.has_range:
        conditions.append(f"{period} BETWEEN $first AND $last")
        parameters |= {"first": view.first or "0", "last": view.last or "9999"}
    elif period in by:
        conditions.append(f"{period} != 'all'")
    else:
        conditions.append(f"{period} = 'all'")
    source, columns = table, list(by)
    is_by_place = "hospital_id" in dimensions and (bool(view.region) or PLACE in by)
    if is_by_place:
        source += " JOIN ref.place USING (hospital_id)"
        conditions.append("starts_with(place_code, $region)")
        parameters["region"] = prefix_of(view.region)
        place = f"left(place_code, {digits_below(view.region, snapshot.places)})"
        place = f"CASE place_code WHEN '{UNKNOWN}' THEN place_code ELSE rpad({place}, 6, '0') END"
        columns = [place if name == PLACE else name for name in by]
    for dimension, field in dimensions.items():
        narrowed = getattr(view, field)
        if dimension == "hospital_id" and is_by_place and not narrowed:
            continue
        if narrowed or dimension not in by:
            conditions.append(f"{dimension} = ${dimension}")
            parameters[dimension] = narrowed or "all"
        else:
            conditions.append(f"{dimension} != 'all'")
    if view.has_range or is_by_place:
        sums = [f"sum({measure})::BIGINT" for measure in measures]
        read = [f"CASE WHEN count(*) = 1 THEN any_value({measure}) END" for measure in told]
        columns += ["count(*)", "count(*) FILTER (is_masked)", *sums, *read]
        order = "GROUP BY ALL HAVING count(*) > 0 ORDER BY ALL"
    else:  # each key is one row: to plan a sum takes several times as long as to read it
        columns += ["1", "is_masked::INTEGER", *measures, *told]
        order = "ORDER BY ALL" if by else ""
    narrowed = " AND ".join(conditions)
    rows = snapshot.rows(f"SELECT {', '.join(columns)} FROM {source} WHERE {narrowed} {order}", parameters)
    found = {}
    for row in rows:
        key, (n_rows, n_masked, *values) = row[: len(by)], row[len(by) :]
        cells: dict[str, Cell] = {}
        for measure, value in zip([*measures, *told], values, strict=True):
            if n_rows == 1 or n_masked == 0:
                cells[measure] = MASKED if n_masked else value
            elif measure in told:
                cells[measure] = None
            elif value is None or measure in signed:
                cells[measure] = MASKED
            else:
                cells[measure] = AtLeast(value) if value else MASKED
            if measure in distinct and n_rows > 1:
                cells[measure] = None
        found[key] = cells
    return found


def share(part: Cell, whole: Cell) -> Cell:
    """part / whole; withheld when one of them is, not available without a whole."""
    if isinstance(part, int) and isinstance(whole, int):
        return part / whole if whole else None
    return None if part is None or whole is None else MASKED


def calendar(found: Collection[str]) -> tuple[list[str], int]:
    """Months in their order: older ones that have rows, the last three years without a hole, unknown ones last.

    Returns
    -------
    list of str, int
        The months, and how many of them are older than the last three years.

    >>> calendar(["unknown", "1997-04", "2025-11", "2026-01"])
    (['1997-04', '2025-11', '2025-12', '2026-01', 'unknown'], 1)
    """
    numbers = sorted(_number(month) for month in found if month != "unknown")
    older = [number for number in numbers if number <= numbers[-1] - MONTHS_DRAWN]
    recent = range(numbers[len(older)], numbers[-1] + 1) if numbers else ()
    months = [f"{number // 12:04d}-{number % 12 + 1:02d}" for number in (*older, *recent)]
    return [*months, *(month for month in found if month == "unknown")], len(older)


def _number(month: str) -> int:
    return int(month[:4]) * 12 + int(month[5:]) - 1


def sort_value(cell: Cell) -> float:
    """Largest first; what cannot be told comes last."""
    if isinstance(cell, AtLeast):
        return -cell.value
    return -cell if isinstance(cell, int | float) else float("inf")
