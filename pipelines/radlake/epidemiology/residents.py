"""Denominators: residents by year, region, sex and age band.

A region without a figure of its own has that of its parts. A figure of a prefecture itself wins over the sum of its
counties, as in stats.exam_rate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import cache

from radlake.stats.standards import first_age

__all__ = ["DIGITS", "Residents", "region_at"]

DIGITS = {"county": 6, "prefecture": 4, "province": 2}

Figures = Mapping[tuple[int, str, str, str], int]  # year, region, sex, age band -> residents


def region_at(code: str, level: str) -> str:
    """The region of a level that a GB/T 2260 code lies in.

    >>> region_at("320583", "prefecture"), region_at("320583", "province")
    ('320500', '320000')
    """
    return code[: DIGITS[level]].ljust(6, "0")


class Residents:
    """The rows of ref.population."""

    def __init__(self, figures: Figures) -> None:
        self.bands = tuple(sorted({band for *_, band in figures}, key=first_age))
        self.years = frozenset(year for year, *_ in figures)
        self._of: dict[tuple[int, str], dict[tuple[str, str], int]] = defaultdict(lambda: defaultdict(int))
        for (year, region, sex, band), residents in figures.items():
            self._of[year, region][sex, band] += residents
        self.at = cache(self._at)

    def regions(self, year: int, *, level: str, within: Collection[str] = ()) -> list[str]:
        """Regions of a level that have residents in a year; those of some larger regions, if any are named."""
        codes = {code for at, code in self._of if at == year}
        found = {region_at(code, level) for code in codes if len(code.rstrip("0")) > DIGITS[level] - 2}
        inside = [region for region in found if not within or any(_lies_in(region, one) for one in within)]
        return sorted(region for region in inside if self.at(year, region))

    def _at(self, year: int, region: str) -> Mapping[tuple[str, str], int]:
        """Sex and age band -> residents; empty when there is no figure."""
        if (year, region) in self._of:
            return self._of[year, region]
        digits = _digits(region)
        if digits == 6:
            return {}
        level = "prefecture" if digits == 2 else "county"
        parts = {region_at(code, level) for at, code in self._of if at == year and code[:digits] == region[:digits]}
        total: dict[tuple[str, str], int] = defaultdict(int)
        for part in sorted(parts - {region}):
            for key, residents in self.at(year, part).items():
                total[key] += residents
        return total


def _digits(region: str) -> int:
    return 2 if region.endswith("0000") else 4 if region.endswith("00") else 6


def _lies_in(region: str, larger: str) -> bool:
    digits = _digits(larger)
    return region[:digits] == larger[:digits]
