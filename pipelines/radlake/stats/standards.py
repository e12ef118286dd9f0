"""Standard populations: weights of age bands, read from schemas/standards/ and proven to be those under review.

A standard and a population table rarely have the same bands at the old end: both are brought to the lower open band.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cache
from itertools import pairwise
from math import fsum
from pathlib import Path
from types import MappingProxyType

import yaml

from radlake.errors import ConfigInvalid
from radlake.resources import schemas_root

__all__ = ["Standard", "common_bands", "first_age", "load_standards"]

_BAND = re.compile(r"(\d{2,3})(?:-(\d{2,3})|\+)")


@dataclass(frozen=True, kw_only=True)
class Standard:
    """A standard population.

    Attributes
    ----------
    weights : mapping of str to float
        Age band ("00-04", ..., "85+") -> share of the standard population; they add up to 1.
    printed_sum : Decimal
        What the weights add up to as the source prints them.
    """

    name: str
    title_zh: str
    title_en: str
    dated: date
    source: str
    printed_sum: Decimal
    weights: Mapping[str, float]

    def in_bands(self, bands: Iterable[str]) -> dict[str, float]:
        """Weights of coarser bands, each of which is made of whole bands of the standard.

        Raises
        ------
        ValueError
            If a band of the standard falls into none of them.
        """
        found = dict.fromkeys(sorted(bands, key=first_age), 0.0)
        for band, weight in self.weights.items():
            target = _containing(band, found)
            if target is None:
                raise ValueError(f"{band} of the standard {self.name} is in none of the bands {', '.join(found)}")
            found[target] += weight
        return found


def first_age(band: str) -> int:
    """Youngest age of a band, in completed years.

    >>> first_age("85+"), first_age("05-09")
    (85, 5)
    """
    return _ages(band)[0]


def common_bands(first: Iterable[str], second: Iterable[str]) -> dict[str, str]:
    """Finest bands that both lists can be brought to: band of either list -> common band.

    >>> common_bands(["00-79", "80+"], ["00-79", "80-84", "85+"])
    {'00-79': '00-79', '80+': '80+', '80-84': '80+', '85+': '80+'}

    Raises
    ------
    ValueError
        If a list has gaps or bands that overlap, or the two begin or end at different ages.
    """
    lists = [sorted(set(bands), key=first_age) for bands in (first, second)]
    for bands in lists:
        ages = [_ages(band) for band in bands]
        if any(before[1] is None or before[1] + 1 != after[0] for before, after in pairwise(ages)):
            raise ValueError(f"the age bands {', '.join(bands)} have gaps or overlap")
    if not all(lists):
        raise ValueError("there are no age bands")
    ends = [(_ages(bands[0])[0], _ages(bands[-1])[1]) for bands in lists]
    if ends[0] != ends[1]:
        raise ValueError(f"age bands from {lists[0][0]} to {lists[0][-1]} and from {lists[1][0]} to {lists[1][-1]}")
    starts = sorted({first_age(band) for band in lists[0]} & {first_age(band) for band in lists[1]})
    limits = [*(start - 1 for start in starts[1:]), ends[0][1]]
    common = [_label(start, end) for start, end in zip(starts, limits, strict=True)]
    return {
        band: next(one for one in reversed(common) if first_age(one) <= first_age(band))
        for bands in lists
        for band in bands
    }


@cache
def load_standards(root: Path | None = None) -> Mapping[str, Standard]:
    """Every standard population, by name.

    Raises
    ------
    ConfigInvalid
        With all problems: a file that is not the one under review (checksum), weights that do not add up to the
        printed sum, bands with gaps, a row without source.
    """
    folder = root or schemas_root() / "standards"
    listed = yaml.safe_load((folder / "standards.yaml").read_text(encoding="utf-8"))
    problems = [f"{path.name} is not listed" for path in sorted(folder.glob("*.csv")) if path.stem not in listed]
    found: dict[str, Standard] = {}
    for name, facts in listed.items():
        try:
            content = (folder / f"{name}.csv").read_bytes()
            if hashlib.sha256(content).hexdigest() != facts["sha256"]:
                raise ValueError("its checksum is not the listed one; a changed standard is a new standard")
            found[name] = _standard(name, facts, content.decode())
        except (OSError, ValueError, KeyError, InvalidOperation) as exc:
            problems.append(f"{name}: {exc}")
    if problems:
        raise ConfigInvalid(path=folder, problems=problems)
    return MappingProxyType(found)


def _standard(name: str, facts: Mapping, text: str) -> Standard:
    rows = list(csv.DictReader(io.StringIO(text)))
    printed = {row["age_band"]: Decimal(row["weight"]) for row in rows}
    total = sum(printed.values(), Decimal(0))
    if len(printed) != len(rows) or any(weight < 0 for weight in printed.values()):
        raise ValueError("a band is given twice, or a weight is negative")
    if any(not row["source"] for row in rows):
        raise ValueError("a row has no source")
    if total != Decimal(str(facts["sum"])):
        raise ValueError(f"its weights add up to {total}, listed is {facts['sum']}")
    common_bands(printed, printed)
    weights = {band: float(weight / total) for band, weight in printed.items()}
    assert abs(fsum(weights.values()) - 1) < 1e-12
    return Standard(
        name=name,
        title_zh=facts["title"]["zh"],
        title_en=facts["title"]["en"],
        dated=facts["dated"],
        source=rows[0]["source"],
        printed_sum=total,
        weights=MappingProxyType(weights),
    )


def _containing(band: str, bands: Iterable[str]) -> str | None:
    low, high = _ages(band)
    for other in bands:
        first, last = _ages(other)
        if first <= low and (last is None or (high is not None and high <= last)):
            return other
    return None


def _ages(band: str) -> tuple[int, int | None]:
    match = _BAND.fullmatch(band)
    if match is None or (match[2] and int(match[2]) < int(match[1])):
        raise ValueError(f"{band!r} is not an age band like 00-04 or 85+")
    return int(match[1]), int(match[2]) if match[2] else None


def _label(first: int, last: int | None) -> str:
    return f"{first:02d}+" if last is None else f"{first:02d}-{last:02d}"
