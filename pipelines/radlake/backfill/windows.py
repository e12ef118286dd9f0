"""Days of studies and the windows that they are harvested in: pure values, nobody is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from radlake.net import Window

__all__ = ["UNDATED", "PlannedDay", "PlannedWindow", "months", "plan_windows", "remainders", "runs_of"]

UNDATED = "undated"  # name of the window of studies without a date
_STUDIES = 2000  # several batches; a window is never less than a day
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class PlannedDay:
    """What a node lists of one study date.

    Attributes
    ----------
    n_studies, n_instances : int
        As listed; instances only of studies whose count the node tells.
    n_open, open_bytes : int
        Studies that the lake does not have in full, and an estimate of their bytes.
    is_doubtful : bool
        The node may have more studies of this day than it lists.
    """

    day: date
    n_studies: int = 0
    n_instances: int = 0
    n_open: int = 0
    open_bytes: int = 0
    is_doubtful: bool = False


@dataclass(frozen=True, kw_only=True)
class PlannedWindow:
    """Consecutive study dates that are harvested together, or all studies without a date (`window` is None)."""

    name: str
    window: Window | None
    n_studies: int = 0
    n_instances: int = 0
    n_open: int = 0
    open_bytes: int = 0
    is_doubtful: bool = False


def months(window: Window) -> Iterator[Window]:
    """The parts of a window in each calendar month, oldest first."""
    first = window.start
    while first <= window.end:
        following = (first.replace(day=1) + timedelta(days=32)).replace(day=1)
        yield Window(first, min(window.end, following - _ONE_DAY))
        first = following


def plan_windows(days: Iterable[PlannedDay], *, window: Window) -> list[PlannedWindow]:
    """Windows that cover every day of `window`, oldest first, each of some batches.

    At the end of a window nothing is retrieved until its last batch, what the run tells of itself and the coverage are
    published; between its batches the node goes on.
    """
    listed = {day.day: day for day in days}
    planned: list[PlannedWindow] = []
    part: list[PlannedDay] = []
    n_studies = 0
    for here in window.days():
        day = listed.get(here) or PlannedDay(day=here)
        if part and n_studies + day.n_studies > _STUDIES:
            planned.append(_window_of(part))
            part, n_studies = [], 0
        part.append(day)
        n_studies += day.n_studies
    return [*planned, _window_of(part)]


def remainders(old: Iterable[Window], *, without: Window) -> list[Window]:
    """The parts of windows that lie outside another one, oldest first: they stay planned when it is planned anew."""
    parts = []
    for window in sorted(old, key=lambda one: one.start):
        if window.start < without.start:
            parts.append(Window(window.start, min(window.end, without.start - _ONE_DAY)))
        if window.end > without.end:
            parts.append(Window(max(window.start, without.end + _ONE_DAY), window.end))
    return parts


def runs_of(days: Iterable[date]) -> list[Window]:
    """Consecutive days as windows, oldest first.

    >>> [str(run.end) for run in runs_of([date(2026, 3, 2), date(2026, 3, 1), date(2026, 3, 9)])]
    ['2026-03-02', '2026-03-09']
    """
    runs: list[Window] = []
    for day in sorted(set(days)):
        start = runs.pop().start if runs and runs[-1].end + _ONE_DAY == day else day
        runs.append(Window(start, day))
    return runs


def _window_of(days: Sequence[PlannedDay]) -> PlannedWindow:
    window = Window(days[0].day, days[-1].day)
    return PlannedWindow(
        name=f"{window.start:%Y%m%d}-{window.end:%Y%m%d}",
        window=window,
        n_studies=sum(day.n_studies for day in days),
        n_instances=sum(day.n_instances for day in days),
        n_open=sum(day.n_open for day in days),
        open_bytes=sum(day.open_bytes for day in days),
        is_doubtful=any(day.is_doubtful for day in days),
    )
