"""The definition of a measure: a YAML file under review, read strictly, with all its problems at once.

What is counted is in `counting`, what it comes to in `rows`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from radlake.epidemiology.fields import Fields, fields_of, is_whole
from radlake.epidemiology.filters import FILTERS, filters_of
from radlake.epidemiology.residents import DIGITS
from radlake.errors import ConfigInvalid, SourceMissing
from radlake.resources import schemas_root
from radlake.stats.standards import load_standards

__all__ = [
    "DIMENSIONS",
    "Measure",
    "in_two_languages",
    "is_years",
    "load_measure",
    "measure_from_yaml",
    "shipped_measures",
    "years_of",
]

# Dimension of a measure -> column of stats.measure.
DIMENSIONS = {
    "year": "exam_year",
    "region": "region_code",
    "sex": "patient_sex",
    "age": "age_band",
    "modality": "modality_group",
    "body_part": "body_part_code",
}
LIMITS = {
    "crude": ("byar", "exact", "byar_from_10"),
    "standardised": ("dobson", "fay_feuer"),
    "ratio": ("byar", "exact", "byar_from_10"),
}


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A valid definition.

    Attributes
    ----------
    count : {"persons", "exams"}
        Persons are counted once in each calendar year, whatever they had done.
    filters : mapping
        Column of core.exam -> values; `age` -> (first, last) completed years; `finding` -> (code, certainties).
    years : tuple of int
        Calendar years; the denominators are the residents of each, added up.
    region_level : {"county", "prefecture", "province"}
    kind : {"crude", "standardised", "ratio"}
    content : mapping
        The file as it was read; the id is its digest.
    """

    name: str
    version: int
    title: Mapping[str, str]
    formula: Mapping[str, str]
    count: Literal["persons", "exams"]
    years: tuple[int, ...]
    group_by: tuple[str, ...] = ()
    filters: Mapping[str, Any] = field(default_factory=dict)
    region_level: str = "prefecture"
    kind: str = "crude"
    per: float = 1000.0
    standard: str = ""
    limits: str = "byar"
    confidence: float = 0.95
    is_smoothed: bool = False
    has_trend: bool = False
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def definition(self) -> str:
        """Canonical JSON: the same definition gives the same text, whatever its layout."""
        return json.dumps(self.content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    @property
    def measure_id(self) -> str:
        return hashlib.sha256(self.definition.encode()).hexdigest()[:16]


def shipped_measures() -> dict[str, Path]:
    """Definitions that come with radlake, by name."""
    return {path.stem: path for path in sorted((schemas_root() / "measures").glob("*.yaml"))}


def load_measure(path: Path) -> Measure:
    """Read a definition, or one that comes with radlake by its name.

    Raises
    ------
    SourceMissing
    ConfigInvalid
        With all problems, each with its line and the nearest name that exists.
    """
    path = shipped_measures().get(str(path), path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise SourceMissing(path=path) from exc
    return measure_from_yaml(text, path=path)


def measure_from_yaml(text: str, *, path: Path | str = "measure") -> Measure:
    """The measure of a text; see `load_measure`."""
    reader = fields_of(text, path=path)
    found = _measure(reader)
    if reader.problems or found is None:
        raise ConfigInvalid(path=path, problems=[problem for _, problem in sorted(reader.problems)])
    return found


_ALL = ("measure", "version", "title", "formula", "numerator", "years", "region_level", "group_by", "rate")


def _measure(top: Fields) -> Measure | None:
    top.only(_ALL, required=[name for name in _ALL if name not in ("region_level", "group_by")])
    name = top.get(
        "measure", lambda v: isinstance(v, str) and bool(re.fullmatch(r"[a-z][a-z0-9_]*", v)), "a snake_case name"
    )
    version = top.get("version", is_whole, "a whole number from 1")
    titles = {field: in_two_languages(top, field) for field in ("title", "formula")}
    years = top.get("years", is_years, "a year like 2026, a range like 2024-2026, or a list of years", [])
    group_by = top.several("group_by", DIMENSIONS)
    level = top.one_of("region_level", ("county", "prefecture", "province"), "prefecture")
    numerator, rate = top.inside("numerator"), top.inside("rate")
    if numerator is not None:
        digits = DIGITS[level]
        for code in numerator.several("region", None):
            if not re.fullmatch(r"\d{6}", str(code)) or str(code)[digits:].strip("0"):
                numerator.tell("region", f"numerator.region {code} is not a 6-digit code of a {level} or above it")
    count, filters = _numerator(numerator) if numerator else (None, {})
    found = _rate(rate, group_by=group_by) if rate else {}
    if found.get("is_smoothed") and "region" not in group_by:
        top.tell("rate", "rate.smooth needs region in group_by")
    if found.get("has_trend") and "year" not in group_by:
        top.tell("rate", "rate.trend needs year in group_by")
    if found.get("has_trend") and len(years_of(years)) < 2:
        top.tell("years", "rate.trend needs two years or more")
    if count == "exams" and found.get("limits") in ("exact", "byar_from_10"):
        top.tell("rate", "rate.limits: exact limits are of events that do not repeat; count persons, or use byar")
    if top.problems:
        return None
    return Measure(
        name=name,
        version=version,
        title=titles["title"],
        formula=titles["formula"],
        count=count,  # pyright: ignore[reportArgumentType]
        years=years_of(years),
        group_by=tuple(name for name in DIMENSIONS if name in group_by),
        filters=filters,
        region_level=level,
        content=top.values,
        **found,
    )


def _numerator(reader: Fields) -> tuple[str | None, dict[str, Any]]:
    reader.only(["count", *FILTERS], required=["count"])
    return reader.one_of("count", ("persons", "exams")), filters_of(reader)


def _rate(reader: Fields, *, group_by: Collection[str]) -> dict[str, Any]:
    reader.only(["kind", "per", "standard", "limits", "confidence", "smooth", "trend"], required=["kind"])
    kind = reader.one_of("kind", LIMITS)
    if kind is None:
        return {}
    standards = load_standards()
    if kind == "standardised" and "standard" not in reader.values:
        reader.tell("kind", f"rate.standard is missing; there are {', '.join(sorted(standards))}")
    if kind != "standardised" and "standard" in reader.values:
        reader.tell("standard", f"rate.standard is for a standardised rate, and this one is {kind}")
    if kind != "crude" and "age" in group_by:
        reader.tell("kind", f"a {kind} rate takes the ages together; take age out of group_by or make it crude")
    if kind == "standardised" and reader.values.get("smooth"):
        reader.tell("smooth", "rate.smooth smooths crude rates and ratios; a standardised rate is not one of events")
    return {
        "kind": kind,
        "per": float(reader.get("per", lambda v: _is_number(v) and v > 0, "a number above 0", 1000)),
        "standard": reader.one_of("standard", standards, ""),
        "limits": reader.one_of("limits", LIMITS[kind], LIMITS[kind][0]),
        "confidence": reader.get("confidence", lambda v: _is_number(v) and 0.5 <= v < 1, "from 0.5 to below 1", 0.95),
        "is_smoothed": reader.get("smooth", lambda v: isinstance(v, bool), "true or false", False),
        "has_trend": reader.get("trend", lambda v: isinstance(v, bool), "true or false", False),
    }


def in_two_languages(top: Fields, name: str) -> dict[str, str]:
    """A text of a field in Chinese and English."""
    reader = top.inside(name)
    if reader is None:
        return {}
    reader.only(["zh", "en"], required=["zh", "en"])
    return {key: reader.get(key, lambda v: isinstance(v, str) and v != "", "text", "") for key in ("zh", "en")}


def is_years(value: Any) -> bool:
    """Whether a value is a year, a range like 2024-2026, or a list of years."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{4})-(\d{4})", value)
        return match is not None and 1900 <= int(match[1]) <= int(match[2]) <= 2200
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(is_whole(v, 1900) and v <= 2200 for v in values) and len(set(values)) == len(values)


def years_of(value: Any) -> tuple[int, ...]:
    """The years of such a value, in order."""
    if isinstance(value, str):
        first, last = value.split("-")
        return tuple(range(int(first), int(last) + 1))
    return tuple(sorted(value if isinstance(value, list) else [value]))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)
