"""Statistics by month and hospital whose shares and times are published ready made: they are read, never calculated.

Counts of these tables are rounded, so a share that is calculated from them would be another one than the published one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from radlake.web.cells import Cell, Kind
from radlake.web.figures.cube import calendar, read_cube, sort_value
from radlake.web.grid import Chart, Column, Grid
from radlake.web.numbers import names_of
from radlake.web.snapshot import Snapshot
from radlake.web.view import View

__all__ = ["Monthly"]


@dataclass(frozen=True)
class Monthly:
    """One such statistic.

    Attributes
    ----------
    table, period : str
        Table, and its column of the month.
    counts : sequence of str
        Rounded counts; several months are added up.
    told : mapping of str to Kind
        Shares and times; several months have none.
    drawn : mapping of str to str
        Columns of the charts by month, and their colours.
    where : str
        The rows of the table that are of its totals, written here and never by a reader.
    """

    table: str
    period: str
    counts: Sequence[str]
    told: Mapping[str, Kind]
    drawn: Mapping[str, str]
    where: str = "true"

    @property
    def measures(self) -> dict[str, Kind]:
        return {**dict.fromkeys(self.counts, "count"), **self.told}

    def total(self, snapshot: Snapshot, view: View) -> dict[str, Cell]:
        """All measures of a view."""
        return self._read(snapshot, view).get((), {})

    def by_month(self, snapshot: Snapshot, view: View) -> Grid:
        """Months in their order, joined by lines."""
        cells = self._read(snapshot, view, self.period)
        months, n_older = calendar([month for (month,) in cells])
        return self._grid(
            snapshot,
            view,
            Column("month", "month"),
            [(month, *self._line(cells.get((month,), {}))) for month in months],
            chart=Chart("lines", series=self._positions(self.drawn), colors=[*self.drawn.values()]),
            incomplete=frozenset(i for i, month in enumerate(months) if snapshot.is_incomplete(month)),
            first_drawn=n_older,
        )

    def by_hospital(self, snapshot: Snapshot, view: View, *, chart: Chart, first: str) -> Grid:
        """Hospitals, the smallest `first` at the top; what cannot be told comes last."""
        found = self._read(snapshot, view, "hospital_id")
        rows = [(code, *self._line(values)) for (code,), values in found.items()]
        (place,) = self._positions([first])
        rows.sort(key=lambda row: (sort_value(row[place]) == float("inf"), -sort_value(row[place]), str(row[0])))
        return self._grid(snapshot, view, Column("hospital", "hospital"), rows, chart=chart)

    def bars(self, colors: Mapping[str, str], *, whole: bool = False) -> Chart:
        """Bars of some measures beside each name; `whole` stacks them as shares of their sum."""
        return Chart(
            "stack" if whole else "bars",
            series=self._positions(colors),
            colors=[*colors.values()],
            horizontal=True,
            whole=whole,
        )

    def _positions(self, measures: Sequence[str] | Mapping[str, str]) -> list[int]:
        names = [*self.measures]
        return [1 + names.index(measure) for measure in measures]

    def _line(self, values: Mapping[str, Cell]) -> tuple[Cell, ...]:
        return tuple(values.get(measure) for measure in self.measures)

    def _read(self, snapshot: Snapshot, view: View, *by: str) -> dict[tuple[str, ...], dict[str, Cell]]:
        return read_cube(
            snapshot, self.table, self.counts, by=by, view=view, told=[*self.told], period=self.period,
            dimensions={"hospital_id": "hospital"}, where=self.where,
        )  # fmt: skip

    def _grid(
        self,
        snapshot: Snapshot,
        view: View,
        column: Column,
        rows: list[tuple[Cell, ...]],
        *,
        chart: Chart,
        incomplete: frozenset[int] = frozenset(),
        first_drawn: int = 0,
    ) -> Grid:
        columns = [column, *(Column(measure, kind) for measure, kind in self.measures.items())]
        names = names_of(
            self.table, by=self.period if column.kind == "month" else "hospital_id", period=self.period, view=view,
            fixed={"hospital_id": view.hospital if column.kind == "month" else ""},
        )  # fmt: skip
        return Grid(
            columns,
            rows,
            names=names,
            chart=chart,
            total=self._line(self.total(snapshot, view)) if rows else (),
            incomplete=incomplete,
            first_drawn=first_drawn,
        )
