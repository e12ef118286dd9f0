"""Which rows of a release must be withheld, of all its tables together.

Counts of the same things stand in several tables, so a difference of two tables is a subtraction too. Here each count
of a release becomes one cube, with every table that shows it, or sums of it:

- exams by month, hospital and modality, in layers by the longest look-back window for which they are observed:
  stats.exam_volume, stats.duplicate_exam, stats.film_saving (exams of each price apart), and by year and region
  stats.exam_rate;
- duplicates of each window, by scope too: stats.duplicate_exam;
- every count of another table by the table's own dimensions.

What each small count must be able to be is in `aims`, how rows are found that keep it unknown in `crosswise`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from radlake.contracts import Table, load_table
from radlake.contracts.check import compute
from radlake.stats.aims import aims_of
from radlake.stats.crosswise import Cube, Shown, View
from radlake.stats.disclosure import TOTALS, small_rows, worth
from radlake.stats.policy import Policy

__all__ = ["withheld_rows"]

VOLUME, DUPLICATES, FILM, RATE = "stats.exam_volume", "stats.duplicate_exam", "stats.film_saving", "stats.exam_rate"
DISTINCT = frozenset({"n_patients"})  # totals are less than sums: withheld with the other counts of their row
WINDOWS, SCOPES = (30, 90), ("within_hospital", "across_hospitals")
_NO_LIMIT = 1 << 29


def withheld_rows(exact: Mapping[str, pa.Table], *, policy: Policy) -> dict[str, np.ndarray]:
    """Of every table which rows are withheld: those with a small count, and those that would give one away.

    Parameters
    ----------
    exact : mapping of str to pa.Table
        All exact statistics of a release, sorted by their dimensions: the same rows always give the same answer.
    """
    tables = {name: _Counted.of(load_table(name), data, policy=policy) for name, data in exact.items()}
    if policy.complementary:
        for cube in _cubes(tables, policy):
            cube.protect()
    return {name: table.shown.is_withheld for name, table in tables.items()}


@dataclass(frozen=True)
class _Counted:
    """One exact table as arrays: labels, counts, and what is withheld of it."""

    table: Table
    data: pa.Table
    shown: Shown

    @classmethod
    def of(cls, table: Table, data: pa.Table, *, policy: Policy) -> _Counted:
        assert table.disclosure is not None, f"{table.view_name} has no disclosure in its contract"
        shown = Shown(worth(table, data), small_rows(table, data, policy=policy))
        return cls(table, data, shown)

    def __len__(self) -> int:
        return self.data.num_rows

    def labels(self, name: str) -> list[str]:
        """Labels of a dimension but for its total, sorted."""
        found = {str(label) for label in self.data.column(name).unique().to_pylist()}
        return sorted(found.difference(TOTALS))

    def has_total(self, name: str) -> bool:
        return any(label in TOTALS for label in self.data.column(name).unique().to_pylist())

    def coded(self, name: str, labels: Sequence[str]) -> np.ndarray:
        """The label of every row as a number from 1; 0 of a total."""
        encoded = self.data.column(name).combine_chunks().dictionary_encode()
        number = {label: i for i, label in enumerate(labels, 1)} | dict.fromkeys(TOTALS, 0)
        of = np.array([number[str(label)] for label in encoded.dictionary.to_pylist()] or [0])
        return of[encoded.indices.to_numpy()]

    def numbers(self, name: str) -> np.ndarray:
        return compute.fill_null(self.data.column(name), 0).to_numpy().astype(np.int64)


def _cubes(tables: Mapping[str, _Counted], policy: Policy) -> Iterator[Cube]:
    """Cubes one after the other, for what is withheld of one is known to the next."""
    linked: set[tuple[str, str]] = set()
    if VOLUME in tables and len(tables[VOLUME]):
        exams = _Exams.of(tables)
        yield exams.cube(policy)
        linked |= {(name, "n_exams") for name in (VOLUME, DUPLICATES, FILM, RATE)}
        if DUPLICATES in tables:
            yield from (exams.duplicates(window, policy) for window in WINDOWS)
            linked.add((DUPLICATES, "n_duplicates"))
    for name, counted in sorted(tables.items()):
        assert counted.table.disclosure is not None
        for count in counted.table.disclosure.counts:
            if count not in DISTINCT and (name, count) not in linked and len(counted):
                yield _alone(counted, count, policy)


def _alone(counted: _Counted, count: str, policy: Policy) -> Cube:
    """A count that one table alone shows."""
    assert counted.table.disclosure is not None
    dimensions = counted.table.disclosure.dimensions
    labels = [counted.labels(name) for name in dimensions]
    at = [counted.coded(name, own) for name, own in zip(dimensions, labels, strict=True)]
    rows = np.full([len(own) + 1 for own in labels], -1)
    rows[tuple(at)] = np.arange(len(counted))
    view = View(counted.shown, rows)
    numbers = np.append(counted.numbers(count), -1)[rows]
    numbers[_is_total(rows.shape)] = -1
    is_fixed = [not counted.has_total(name) for name in dimensions]
    aims = aims_of(numbers[None], [(view, counted.numbers(count))], policy, least=1, is_fixed=is_fixed)
    return Cube((numbers - 1)[None], np.where(numbers > 0, _NO_LIMIT, -1)[None], [view], [], aims)


@dataclass(frozen=True)
class _Exams:
    """Months, hospitals and modalities of a release, and where the tables that count exams have a row for them."""

    tables: Mapping[str, _Counted]
    months: list[str]
    hospitals: list[str]
    modalities: list[str]

    @classmethod
    def of(cls, tables: Mapping[str, _Counted]) -> _Exams:
        names = ("exam_month", "hospital_id", "modality_group")
        found = [
            sorted({label for name in (VOLUME, DUPLICATES, FILM) if name in tables for label in tables[name].labels(d)})
            for d in names
        ]
        return cls(tables, *found)

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.months) + 1, len(self.hospitals) + 1, len(self.modalities) + 1

    def at(self, name: str) -> tuple[np.ndarray, ...]:
        counted = self.tables[name]
        return (
            counted.coded("exam_month", self.months),
            counted.coded("hospital_id", self.hospitals),
            counted.coded("modality_group", self.modalities),
        )

    def rows(self, name: str, chosen: np.ndarray | None = None) -> np.ndarray:
        """Row of the table at each place, or of some of its rows; -1 where there is none."""
        chosen = np.ones(len(self.tables[name]), dtype=bool) if chosen is None else chosen
        rows = np.full(self.shape, -1)
        rows[tuple(one[chosen] for one in self.at(name))] = np.flatnonzero(chosen)
        return rows

    def of_duplicates(self, window: int, scope: str) -> np.ndarray:
        data = self.tables[DUPLICATES].data
        chosen = compute.and_(compute.equal(data["window_days"], window), compute.equal(data["scope"], scope))
        return self.rows(DUPLICATES, chosen.to_numpy())

    def counts(self, name: str, count: str, rows: np.ndarray) -> np.ndarray:
        """The count of cells, not of totals; -1 where there is no row."""
        numbers = np.append(self.tables[name].numbers(count), -1)[rows]
        numbers[_is_total(rows.shape)] = -1
        return numbers

    def cube(self, policy: Policy) -> Cube:
        """Exams, in layers by the longest window for which they are observed."""
        volume = self.rows(VOLUME)
        levels = [np.maximum(self.counts(VOLUME, "n_exams", volume), 0)]
        views = [View(self.tables[VOLUME].shown, volume)]
        asked: list[tuple[View, np.ndarray]] = [(views[0], self.tables[VOLUME].numbers("n_exams"))]
        least = np.zeros(self.shape, dtype=np.int64)
        if DUPLICATES in self.tables:
            for layer, window in enumerate(WINDOWS, 1):
                for scope in ("any", *SCOPES):
                    rows = self.of_duplicates(window, scope)
                    views.append(View(self.tables[DUPLICATES].shown, rows, layers=range(layer, len(WINDOWS) + 1)))
                    if scope == "any":
                        levels.append(np.maximum(self.counts(DUPLICATES, "n_exams", rows), 0))
                        asked.append((views[-1], self.tables[DUPLICATES].numbers("n_exams")))
                        duplicates = self.counts(DUPLICATES, "n_duplicates", rows)
                        least = np.maximum(least, np.where(duplicates >= policy.threshold, duplicates, 0))
        coarse = []
        if FILM in self.tables:
            coarse.append(self._film())
            asked.append((coarse[-1], self.tables[FILM].numbers("n_exams")))
        if RATE in self.tables:
            rates = self._rates()
            coarse += rates
            asked += [(view, self.tables[RATE].numbers("n_exams")) for view in rates]
        cells = np.stack([more - fewer for more, fewer in zip(levels, [*levels[1:], 0 * levels[0]], strict=True)])
        falls = np.where(cells > 0, np.maximum(cells - np.maximum(least, 1), 0), -1)
        aims = aims_of(cells, asked, policy, least=1)
        return Cube(falls, np.where(cells > 0, _NO_LIMIT, -1), views, coarse, aims)

    def _film(self) -> View:
        """Exams of one price are a sum of their own: their cost is shown beside their number."""
        film = self.tables[FILM]
        rows = self.rows(FILM)
        n_exams = film.numbers("n_exams")
        prices = np.stack(
            [film.numbers(name) // np.maximum(n_exams, 1) for name in ("film_cost_fen", "cloud_cost_fen")]
        )
        _, price = np.unique(prices, axis=1, return_inverse=True)
        groups = np.append(np.where(n_exams > 0, price.ravel() + 1, 0), 0)[rows]
        return View(film.shown, rows, groups=groups)

    def _rates(self) -> list[View]:
        """The same exams by year and region; regions without residents stand apart from the total of the regions."""
        rate, volume = self.tables[RATE], self.tables[VOLUME]
        years, regions = rate.labels("exam_year"), rate.labels("region_code")
        at = (
            rate.coded("exam_year", years),
            rate.coded("region_code", regions),
            rate.coded("modality_group", self.modalities),
        )
        rows = np.full((len(years) + 1, len(regions) + 1, self.shape[2]), -1)
        rows[at] = np.arange(len(rate))
        year_of = np.array([0, *(years.index(m if m == "unknown" else m[:4]) + 1 for m in self.months)])
        names = (volume.data[name].to_pylist() for name in ("hospital_id", "region_code"))
        of_hospital = dict(zip(*names, strict=True))
        prefecture = [of_hospital.get(hospital, "UNKNOWN") for hospital in self.hospitals]
        prefecture = [code if code == "UNKNOWN" else f"{code[:4]}00" for code in prefecture]
        region_of = np.array([0, *(regions.index(code) + 1 if code in regions else 0 for code in prefecture)])
        has_residents = np.zeros(rows.shape[:2], dtype=bool)
        has_residents[at[0], at[1]] = rate.data["n_residents"].is_valid().to_numpy()
        is_all = np.arange(rows.shape[1]) == 0
        codes = year_of, region_of, np.arange(self.shape[2])
        return [
            View(
                rate.shown,
                np.where(is_in[:, :, None], rows, -1),
                codes,
                is_counted[np.ix_(year_of, region_of)][:, :, None],
            )
            for is_counted, is_in in (
                (has_residents, has_residents | is_all),
                (~has_residents, ~has_residents & ~is_all),
            )
        ]

    def duplicates(self, window: int, policy: Policy) -> Cube:
        """Duplicates of a window, by scope; there are not more of them than exams."""
        rows = np.stack([self.of_duplicates(window, scope) for scope in ("any", *SCOPES)])
        numbers = self.tables[DUPLICATES].numbers("n_duplicates")
        cells = np.append(numbers, -1)[rows]
        cells[_is_total(rows.shape)] = -1
        every = self.counts(DUPLICATES, "n_duplicates", rows[0])
        n_exams = self.counts(DUPLICATES, "n_exams", rows[0])
        rises = np.where(n_exams >= policy.threshold, n_exams - every, _NO_LIMIT)
        rises = np.where(cells >= 0, np.broadcast_to(rises, cells.shape), -1)
        view = View(self.tables[DUPLICATES].shown, rows)
        return Cube(cells[None], rises[None], [view], [], aims_of(cells[None], [(view, numbers)], policy, least=0))


def _is_total(shape: Sequence[int]) -> np.ndarray:
    """Places that are totals over some dimension."""
    found = np.zeros(shape, dtype=bool)
    for one in np.indices(shape, sparse=True):
        found |= one == 0
    return found
