"""Duplicate exams: share of exams that had an earlier exam of the same person, modality and body part."""

from __future__ import annotations

from collections.abc import Sequence

from radlake.web.cells import Cell, Kind
from radlake.web.figures.cube import PLACE, calendar, read_cube, share, sort_value
from radlake.web.figures.figure import Figure
from radlake.web.grid import Chart, Column, Grid
from radlake.web.numbers import Names, names_of
from radlake.web.snapshot import Snapshot
from radlake.web.view import WINDOWS, View

__all__ = ["FIGURES", "total"]

TABLE = "stats.duplicate_exam"
SCOPES = ("any", "within_hospital", "across_hospitals")


def total(snapshot: Snapshot, view: View, *, window: str, scope: str = "any") -> dict[str, Cell]:
    """Exams, duplicates and exams that cannot match of a view, for one window and one scope."""
    return _read(snapshot, view, window=window, scope=scope, by=()).get((), {})


def by_month(snapshot: Snapshot, view: View) -> Grid:
    return _by(snapshot, view, dimension="exam_month", column=Column("exam_month", "month"))


def by_region(snapshot: Snapshot, view: View) -> Grid:
    """Regions next below the chosen one, each the sum of its hospitals."""
    return _by(snapshot, view, dimension=PLACE, column=Column("region", "region"))


def by_hospital(snapshot: Snapshot, view: View) -> Grid:
    return _by(snapshot, view, dimension="hospital_id", column=Column("hospital", "hospital"))


def by_modality(snapshot: Snapshot, view: View) -> Grid:
    return _by(snapshot, view, dimension="modality_group", column=Column("modality", "modality"))


def by_scope(snapshot: Snapshot, view: View) -> Grid:
    """Where the earlier exam was done, for each window."""
    windows = _windows(view)
    rows = []
    for scope in SCOPES:
        found = [total(snapshot, view, window=window, scope=scope) for window in windows]
        if any(found):
            rows.append((scope, *_values(found)))
    return Grid([Column("scope", "scope"), *_columns(windows)], rows)


def _by(snapshot: Snapshot, view: View, *, dimension: str, column: Column) -> Grid:
    """Months in their order, joined by lines; hospitals and modalities as bars, the largest share first."""
    windows = _windows(view)
    found = [_read(snapshot, view, window=window, scope="any", by=(dimension,)) for window in windows]
    is_time = dimension == "exam_month"
    codes = sorted({code for cells in found for (code,) in cells})
    codes, n_older = calendar(codes) if is_time else (codes, 0)
    rows = [(code, *_values([cells.get((code,), {}) for cells in found])) for code in codes]
    if not is_time:
        rows.sort(key=lambda row: (sort_value(row[3]), str(row[0])))
    return Grid(
        [column, *_columns(windows)],
        rows,
        chart=Chart(
            "lines" if is_time else "bars",
            series=range(3, 1 + 3 * len(windows), 3),
            colors=[f"window-{window}" for window in windows],
            horizontal=not is_time,
        ),
        total=_values([total(snapshot, view, window=window) for window in windows]),
        incomplete=frozenset(i for i, code in enumerate(codes) if is_time and snapshot.is_incomplete(code)),
        first_drawn=n_older,
        names=None if dimension == PLACE else _names(view, dimension),
    )


def _names(view: View, dimension: str) -> Names:
    """The window is part of a heading: each has its own key."""
    fixed = {"hospital_id": view.hospital, "modality_group": view.modality, "scope": "any"}
    fixed.pop(dimension, None)
    of_window = {
        window: names_of(
            TABLE, by=dimension, fixed=fixed | {"window_days": window}, period="exam_month", view=view,
            columns={f"{measure}_{window}": measure for measure in ("n_exams", "n_duplicates", "duplicate_share")},
        )
        for window in _windows(view)
    }  # fmt: skip
    return lambda row, column: of_window[column.heading.rpartition("_")[2]](row, column)


def _columns(windows: Sequence[str]) -> list[Column]:
    measures: tuple[tuple[str, Kind], ...] = (
        ("n_exams", "count"),
        ("n_duplicates", "count"),
        ("duplicate_share", "share"),
    )
    return [Column(f"{measure}_{window}", kind) for window in windows for measure, kind in measures]


def _read(
    snapshot: Snapshot, view: View, *, window: str, scope: str, by: Sequence[str]
) -> dict[tuple[str, ...], dict[str, Cell]]:
    found = read_cube(  # all windows at once: a page shows them side by side
        snapshot, TABLE, ("n_exams", "n_duplicates", "n_unmatchable"), by=("window_days::VARCHAR", "scope", *by),
        view=view, where="scope = 'any'" if by else "true",
    )  # fmt: skip
    return {key[2:]: cells for key, cells in found.items() if key[:2] == (window, scope)}


def _values(found: Sequence[dict[str, Cell]]) -> tuple[Cell, ...]:
    """Exams, duplicates and share, window after window."""
    values: list[Cell] = []
    for cells in found:
        exams, duplicates = cells.get("n_exams"), cells.get("n_duplicates")
        values += [exams, duplicates, share(duplicates, exams)]
    return tuple(values)


def _windows(view: View) -> tuple[str, ...]:
    return (view.window,) if view.window else WINDOWS


FIGURES = (
    Figure("duplicates_by_month", TABLE, by_month),
    Figure("duplicates_by_region", TABLE, by_region),
    Figure("duplicates_by_hospital", TABLE, by_hospital),
    Figure("duplicates_by_modality", TABLE, by_modality),
    Figure("duplicates_by_scope", TABLE, by_scope),
)
