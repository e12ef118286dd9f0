"""Rows of a measure: groups of persons and residents become counts, rates, and the sums that a row would show.

Residents are those of the row's years, regions, sex and ages. A dimension that residents do not have (modality, body
part) does not divide them. The total over regions holds the regions that have residents in that year, and only those.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from radlake.epidemiology.counting import UNKNOWN, Cell, Group
from radlake.epidemiology.definition import DIMENSIONS, Measure
from radlake.epidemiology.residents import Residents
from radlake.stats.rates import (
    Rate,
    Stratum,
    crude_rate,
    directly_standardised_rate,
    indirectly_standardised_ratio,
)
from radlake.stats.standards import Standard, common_bands, first_age

__all__ = ["Key", "MeasureRow", "Sums", "keys_of", "measure_rows"]

Key = tuple[str, ...]  # year, region, sex, age, modality, body part
Sums = dict[int, float]  # group -> what each person of it adds


@dataclass(frozen=True, kw_only=True)
class MeasureRow:
    """One row with exact numbers, and each of them as a sum over groups of persons.

    Attributes
    ----------
    n_persons : int
        Persons, in each year once.
    n_distinct : int
        Persons, once.
    n_unclassified : int
        Events without an age that the rate needs.
    persons, exams, person_times, unclassified : dict
        What `n_distinct`, `n_exams`, `n_persons` and `n_unclassified` are sums of.
    linear : dict
        "value", "variance" and "expected" of the rate, as far as the counts do not say them.
    """

    key: Key
    n_exams: int
    n_persons: int
    n_distinct: int
    n_unclassified: int
    person_years: int
    rate: Rate
    persons: Sums
    exams: Sums
    person_times: Sums
    unclassified: Sums
    linear: Mapping[str, Sums]


@dataclass
class _Tally:
    """Events of a row: by age band and by how often a person has one in a year, for each group."""

    exams: Sums = field(default_factory=lambda: defaultdict(float))
    person_times: Sums = field(default_factory=lambda: defaultdict(float))
    events: dict[tuple[str, int], Sums] = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))


def measure_rows(
    number: int, measure: Measure, groups: Sequence[Group], residents: Residents, *, standard: Standard | None = None
) -> list[MeasureRow]:
    """All rows of a measure, sorted; residents without an exam have a row too, with a rate of zero.

    Parameters
    ----------
    number : int
        Of the measure in the cells of the groups.

    Raises
    ------
    ValueError
        If the age bands of the population do not fit the standard, or the ages of the numerator.
    """
    table = _Table(measure, groups, residents, standard)
    for group_number, group in enumerate(groups):
        table.add(group_number, {cell: n for cell, n in group.n_exams.items() if cell.measure == number})
    table.add_empty_rows()
    return [table.row(key) for key in sorted(table.tallies)]


def keys_of(measure: Measure, residents: Residents, cell: Cell) -> Iterator[Key]:
    """Rows of a measure that a cell is counted in."""
    has_figures = bool(residents.years.intersection(measure.years))
    has_residents = bool(residents.at(cell.year, cell.region)) or not has_figures
    labels: list[tuple[str, ...]] = []
    for name in DIMENSIONS:
        own = str(getattr(cell, name))
        if name == "region" and not has_residents:
            if name not in measure.group_by:
                return
            labels.append((own,))
        else:
            labels.append((own, "all") if name in measure.group_by else ("none",))
    yield from product(*labels)


class _Table:
    def __init__(
        self, measure: Measure, groups: Sequence[Group], residents: Residents, standard: Standard | None
    ) -> None:
        self.measure, self.groups, self.residents, self.standard = measure, groups, residents, standard
        self.tallies: dict[Key, _Tally] = {}
        self.bands = {band: band for band in residents.bands}
        if standard is not None and residents.bands:
            self.bands = common_bands(residents.bands, standard.weights)
        self.ages = _ages(measure, residents.bands)
        self.within = measure.filters.get("region_code", ())

    def add(self, group: int, n_exams: Mapping[Cell, int]) -> None:
        """Count one group into every row that a cell of it is in."""
        found: dict[tuple[Key, int], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for cell, n in n_exams.items():
            for key in keys_of(self.measure, self.residents, cell):
                band = "" if self.measure.kind == "crude" else self.bands.get(cell.age, UNKNOWN)
                found[key, cell.year][band] += n
        for (key, _), by_band in found.items():
            tally = self.tallies.setdefault(key, _Tally())
            tally.exams[group] += sum(by_band.values())
            tally.person_times[group] += 1
            if self.measure.count == "persons":  # a person has a birthday within a year: the younger age
                youngest = min(
                    by_band, key=lambda band: (band == UNKNOWN, first_age(band) if band[:1].isdigit() else 0)
                )
                tally.events[youngest, 1][group] += 1
            else:
                for band, n in by_band.items():
                    tally.events[band, n][group] += 1

    def add_empty_rows(self) -> None:
        """Rows of residents of whom nobody was counted."""
        seen = list(self.tallies)
        labels: list[list[str]] = []
        for position, name in enumerate(DIMENSIONS):
            if name not in self.measure.group_by:
                labels.append(["none"])
            elif name == "year":
                labels.append([*(str(year) for year in self.measure.years if year in self.residents.years), "all"])
            elif name == "region":
                regions = {region for year in self.measure.years for region in self._regions(year)}
                labels.append([*sorted(regions), "all"])
            elif name == "sex":
                labels.append([sex for sex in ("F", "M", "all") if sex in (*self._sexes(), "all")])
            elif name == "age":
                labels.append([*self.ages, "all"])
            else:
                labels.append(sorted({key[position] for key in seen} | {"all"}))
        for key in product(*labels):
            if key not in self.tallies and sum(self._residents(key).values()):
                self.tallies[key] = _Tally()

    def row(self, key: Key) -> MeasureRow:
        tally = self.tallies[key]
        residents = self._residents(key)
        rate, linear = self._rate(key, tally, residents)
        unclassified: Sums = defaultdict(float)
        for (band, times), sums in tally.events.items():
            if band == UNKNOWN:
                for group, n in sums.items():
                    unclassified[group] += n * times
        persons = dict.fromkeys(tally.exams, 1.0)
        return MeasureRow(
            key=key,
            n_exams=self._total(tally.exams),
            n_persons=self._total(tally.person_times),
            n_distinct=self._total(persons),
            n_unclassified=self._total(unclassified),
            person_years=sum(residents.values()),
            rate=rate,
            persons=persons,
            exams=dict(tally.exams),
            person_times=dict(tally.person_times),
            unclassified=dict(unclassified),
            linear=linear,
        )

    def _total(self, sums: Mapping[int, float]) -> int:
        return round(sum(factor * self.groups[group].size for group, factor in sums.items()))

    def _rate(self, key: Key, tally: _Tally, residents: Mapping[str, int]) -> tuple[Rate, dict[str, Sums]]:
        measure = self.measure
        options: dict[str, Any] = {"per": measure.per, "confidence": measure.confidence}
        if measure.kind == "crude":
            total = sum(residents.values())
            (stratum,) = self._strata(tally, {"": total}, {"": 1.0})
            if measure.count == "persons":
                return crude_rate(stratum.events, total, method=measure.limits, **options), {}  # pyright: ignore
            rate = directly_standardised_rate([stratum], **options)
            return rate, {"variance": _weighed(tally, {"": 1.0}, power=2)}
        if measure.kind == "standardised":
            assert self.standard is not None
            whole = self.standard.in_bands(set(self.bands.values())) if residents else {}
            weights = {band: whole[band] for band in residents}
            strata = self._strata(tally, residents, weights)
            rate = directly_standardised_rate(strata, method=measure.limits, **options)  # pyright: ignore
            scale = sum(weights.values())
            shares = {band: weights[band] / n / scale for band, n in residents.items() if n and scale}
            return rate, {"value": _weighed(tally, shares), "variance": _weighed(tally, shares, power=2)}
        return self._ratio(key, tally, residents, options)

    def _ratio(
        self, key: Key, tally: _Tally, residents: Mapping[str, int], options: Mapping[str, Any]
    ) -> tuple[Rate, dict[str, Sums]]:
        """Against the rates of everybody of the measure: of the same sex, modality and body part where those divide."""
        everybody = tuple(
            "all" if label != "none" and name in ("year", "region") else label
            for name, label in zip(DIMENSIONS, key, strict=True)
        )
        base, base_residents = self.tallies.get(everybody, _Tally()), self._residents(everybody)
        bands = sorted({*residents, *base_residents, *(band for band, _ in tally.events)} - {UNKNOWN})
        ours = self._strata(tally, {band: residents.get(band, 0) for band in bands}, {})
        theirs = self._strata(base, {band: base_residents.get(band, 0) for band in bands}, {})
        rate = indirectly_standardised_ratio(ours, theirs, method=self.measure.limits, **options)  # pyright: ignore
        shares = {band: n / base_residents[band] for band, n in residents.items() if base_residents.get(band)}
        linear = {"expected": _weighed(base, shares)}
        if self.measure.count == "exams":
            linear["variance"] = _weighed(tally, dict.fromkeys(bands, 1.0), power=2)
        return rate, linear

    def _strata(self, tally: _Tally, residents: Mapping[str, int], weights: Mapping[str, float]) -> list[Stratum]:
        """Strata of the bands that residents have; one more for events of a band that none are known of."""
        frequencies: dict[str, dict[int, float]] = {band: defaultdict(float) for band in residents}
        for (band, times), sums in tally.events.items():
            if band != UNKNOWN:
                frequencies.setdefault(band, defaultdict(float))[times] += self._total(sums)
        return [
            Stratum(residents=residents.get(band, 0), weight=weights.get(band, 0.0), persons_with=dict(found))
            for band, found in frequencies.items()
        ]

    def _residents(self, key: Key) -> dict[str, int]:
        """Age band of the rate (one band for a crude rate) -> person-years of a row."""
        year, region, sex, age, *_ = key
        years = self.measure.years if year in ("all", "none") else (int(year),)
        found: dict[str, int] = defaultdict(int)
        for at in years:
            places = self._regions(at) if region in ("all", "none") else [region]
            for place in places:
                for (one, band), n in self.residents.at(at, place).items():
                    is_counted = one in self._sexes() and band in self.ages
                    if is_counted and sex in (one, "all", "none") and age in (band, "all", "none"):
                        found["" if self.measure.kind == "crude" else self.bands[band]] += n
        return dict(found)

    def _regions(self, year: int) -> list[str]:
        return self.residents.regions(year, level=self.measure.region_level, within=self.within)

    def _sexes(self) -> tuple[str, ...]:
        return self.measure.filters.get("patient_sex", ("F", "M"))


def _weighed(tally: _Tally, shares: Mapping[str, float], *, power: int = 1) -> Sums:
    """Sum over events of the share of their band, or of the squares of what a person brings."""
    found: Sums = defaultdict(float)
    for (band, times), sums in tally.events.items():
        if band in shares:
            for group, n in sums.items():
                found[group] += n * (shares[band] * times) ** power
    return dict(found)


def _ages(measure: Measure, bands: Sequence[str]) -> list[str]:
    """Bands of the population that the ages of the numerator are made of."""
    if "age" not in measure.filters or not bands:
        return list(bands)
    first, last = measure.filters["age"]
    starts = [first_age(band) for band in bands]
    chosen = [band for band, start in zip(bands, starts, strict=True) if first <= start <= last]
    ends = {*(start - 1 for start in starts[1:])}
    if first not in starts or not (last in ends or last >= 100):
        raise ValueError(
            f"ages {first} to {last} are not made of whole bands of ref.population ({', '.join(bands)}); "
            "begin where a band begins, end where one ends, or leave `to` out"
        )
    return chosen
