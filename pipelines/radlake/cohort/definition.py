"""The definition of a cohort: a YAML file under review, read strictly, with all its problems at once.

Exams are asked for in the words of measures (`radlake.epidemiology.filters`). Who is in it is found in `select`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from radlake.epidemiology.definition import in_two_languages, is_years, years_of
from radlake.epidemiology.fields import Fields, fields_of, is_whole, nearest
from radlake.epidemiology.filters import FILTERS, filters_of
from radlake.errors import ConfigInvalid, SourceMissing
from radlake.resources import schemas_root
from radlake.vocab.load import vocabulary

__all__ = [
    "READS",
    "Cohort",
    "Controls",
    "Exclusion",
    "FollowUp",
    "Known",
    "Sample",
    "SeriesWanted",
    "cohort_from_yaml",
    "load_cohort",
    "shipped_cohorts",
]


READS = ("core.exam", "core.finding", "core.person_link", "dicom.study", "dicom.series", "dicom.instance")


@dataclass(frozen=True)
class Known:
    """What a lake has, for a definition to be held against.

    Attributes
    ----------
    versions : mapping of str to int
        Latest versions of tables that cohorts are built from.
    codes : mapping of str to collection of str
        Values of `hospital` and `region`.
    """

    versions: Mapping[str, int]
    codes: Mapping[str, Collection[str]]


@dataclass(frozen=True)
class Exclusion:
    """Exams that are left out, or persons who ever had such an exam."""

    of: Literal["exam", "person"]
    filters: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class FollowUp:
    """Later exams of the same person that an index exam needs; they are members too."""

    filters: Mapping[str, Any]
    from_days: int
    to_days: int
    at_least: int


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Persons without any exam that `include` asks for, one exam of each, matched to index exams; see `controls`.

    Attributes
    ----------
    filters : mapping
        Which exams a control may have.
    match : tuple of str
        What a control and its case have in common.
    age_band : int
        Completed years in a class of ages; 1 is the same age.
    """

    filters: Mapping[str, Any]
    per_case: int
    match: tuple[str, ...]
    age_band: int
    seed: int


MATCHED = ("sex", "age", "year", "region", "hospital", "modality", "body_part")


@dataclass(frozen=True)
class Sample:
    """So many persons, drawn by a seed; all when there are fewer."""

    persons: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class SeriesWanted:
    """Which series of the exams are wanted; empty means any.

    Attributes
    ----------
    slice_thickness_mm : (float, float)
        Inclusive; instances that tell none are not wanted then.
    is_largest : bool
        Of each exam only the series with the most instances.
    """

    modalities: tuple[str, ...] = ()
    at_least_instances: int = 1
    slice_thickness_mm: tuple[float, float] | None = None
    is_largest: bool = False


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """A valid definition.

    Attributes
    ----------
    years : tuple of int
        Calendar years of the index exams; empty means any.
    include : mapping
        Column of core.exam -> values; `age` -> (first, last) completed years; `finding` -> (code, certainties).
    index : {"every", "first", "last"}
        Which of a person's exams that are left is an index exam.
    snapshot : mapping of str to int
        Versions of tables that it is to be built from; of others the latest.
    content : mapping
        The file as it was read, without the snapshot.
    """

    name: str
    version: int
    title: Mapping[str, str]
    years: tuple[int, ...] = ()
    include: Mapping[str, Any] = field(default_factory=dict)
    exclude: tuple[Exclusion, ...] = ()
    index: Literal["every", "first", "last"] = "every"
    follow_up: FollowUp | None = None
    sample: Sample | None = None
    controls: Controls | None = None
    series: SeriesWanted | None = None
    snapshot: Mapping[str, int] = field(default_factory=dict)
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def definition(self) -> str:
        """Canonical JSON: the same definition gives the same text, whatever its layout."""
        return json.dumps(self.content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    def cohort_id(self, snapshot: Mapping[str, int]) -> str:
        """Name, version and 12 digits of a digest of definition and snapshot: what it names never changes."""
        text = f"{self.definition}\n{json.dumps(dict(snapshot), sort_keys=True)}"
        return f"{self.name}.v{self.version}.{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def shipped_cohorts() -> dict[str, Path]:
    """Definitions that come with radlake, by name."""
    return {path.stem: path for path in sorted((schemas_root() / "cohorts").glob("*.yaml"))}


def load_cohort(path: Path, known: Known | None = None) -> Cohort:
    """Read a definition, or one that comes with radlake by its name.

    Parameters
    ----------
    known : Known, optional
        Of the lake that it is for: without it, hospitals, regions and versions are not looked up.

    Raises
    ------
    SourceMissing
    ConfigInvalid
        With all problems, each with its line and the nearest name that exists.
    """
    path = shipped_cohorts().get(str(path), path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise SourceMissing(path=path) from exc
    return cohort_from_yaml(text, path=path, known=known)


def cohort_from_yaml(text: str, *, path: Path | str = "cohort", known: Known | None = None) -> Cohort:
    """The cohort of a text; see `load_cohort`."""
    reader = fields_of(text, path=path)
    found = _cohort(reader, known)
    if reader.problems:
        raise ConfigInvalid(path=path, problems=[problem for _, problem in sorted(reader.problems)])
    return found


_ALL = ("cohort", "version", "title", "years", "include", "exclude", "index", "follow_up", "sample",
        "controls", "series", "snapshot")  # fmt: skip
_Codes = Mapping[str, Collection[str]]


def _cohort(top: Fields, known: Known | None) -> Cohort:
    codes = known.codes if known else {}
    top.only(_ALL, required=["cohort", "version", "title", "include"])
    include = top.inside("include")
    if include is not None:
        include.only(FILTERS)
    return Cohort(
        name=top.get("cohort", _is_name, "a snake_case name of up to 40 characters", ""),
        version=top.get("version", is_whole, "a whole number from 1", 1),
        title=in_two_languages(top, "title"),
        years=years_of(top.get("years", is_years, "a year like 2026, a range like 2024-2026, or a list of years", [])),
        include=filters_of(include, codes) if include is not None else {},
        exclude=tuple(_exclusion(one, codes) for one in top.each("exclude")),
        index=top.one_of("index", ("every", "first", "last"), "every"),
        follow_up=_follow_up(inside, codes) if (inside := top.inside("follow_up")) is not None else None,
        sample=_sample(inside) if (inside := top.inside("sample")) is not None else None,
        controls=_controls(inside, codes) if (inside := top.inside("controls")) is not None else None,
        series=_series(inside) if (inside := top.inside("series")) is not None else None,
        snapshot=_snapshot(inside, known) if (inside := top.inside("snapshot")) is not None else {},
        content={name: value for name, value in top.values.items() if name != "snapshot"},
    )


def _exclusion(reader: Fields, codes: _Codes) -> Exclusion:
    reader.only(["of", *FILTERS])
    filters = filters_of(reader, codes)
    if not reader.values.keys() & set(FILTERS):
        reader.tell("of", f"{reader.where.rstrip('.')} has no filter: it would leave out everything")
    return Exclusion(reader.one_of("of", ("exam", "person"), "exam"), filters)


def _follow_up(reader: Fields, codes: _Codes) -> FollowUp:
    reader.only(["from_days", "to_days", "at_least", *FILTERS], required=["to_days"])
    first = reader.get("from_days", is_whole, "a whole number from 1", 1)
    last = reader.get("to_days", is_whole, "a whole number from 1", first)
    if first > last:
        reader.tell("from_days", "follow_up.from_days is above follow_up.to_days")
    at_least = reader.get("at_least", is_whole, "a whole number from 1", 1)
    return FollowUp(filters=filters_of(reader, codes), from_days=first, to_days=last, at_least=at_least)


def _sample(reader: Fields) -> Sample:
    reader.only(["persons", "seed"], required=["persons", "seed"])
    persons = reader.get("persons", is_whole, "a whole number from 1", 1)
    return Sample(persons, reader.get("seed", lambda v: is_whole(v, 0), "a whole number from 0", 0))


def _controls(reader: Fields, codes: _Codes) -> Controls:
    own = ("per_case", "match", "age_band", "seed")
    reader.only([*own, *FILTERS], required=["per_case", "match", "seed"])
    match = reader.several("match", set(MATCHED))
    if not match:
        reader.tell("match", f"{reader.where}match is empty: name some of {', '.join(MATCHED)}")
    return Controls(
        filters=filters_of(reader, codes),
        per_case=reader.get("per_case", is_whole, "a whole number from 1", 1),
        match=match,
        age_band=reader.get("age_band", is_whole, "a whole number from 1", 5),
        seed=reader.get("seed", lambda v: is_whole(v, 0), "a whole number from 0", 0),
    )


def _snapshot(reader: Fields, known: Known | None) -> dict[str, int]:
    found = {}
    for name in reader.values:
        if name not in READS:
            reader.tell(name, f"{reader.where}{name} is no table that a cohort is built from.{nearest(name, READS)}")
            continue
        found[name] = reader.get(name, lambda v: is_whole(v, 0), "a version: a whole number from 0", 0)
        if known is None:
            continue
        if (latest := known.versions.get(name)) is None:
            reader.tell(name, f"{reader.where}{name}: this lake does not have that table")
        elif found[name] > latest:
            reader.tell(name, f"{reader.where}{name} has no version {found[name]}; its latest is {latest}")
    return found


def _series(reader: Fields) -> SeriesWanted:
    reader.only(["modality", "at_least_instances", "slice_thickness_mm", "largest"])
    thickness = reader.inside("slice_thickness_mm")
    limits = None
    if thickness is not None:
        thickness.only(["from", "to"])
        low, high = (
            thickness.get(name, _is_length, "millimetres", bound) for name, bound in (("from", 0), ("to", 1e3))
        )
        if low > high:
            thickness.tell("from", f"{thickness.where}from is above {thickness.where}to")
        limits = (float(low), float(high))
    return SeriesWanted(
        modalities=reader.several("modality", _modalities()),
        at_least_instances=reader.get("at_least_instances", is_whole, "a whole number from 1", 1),
        slice_thickness_mm=limits,
        is_largest=reader.get("largest", lambda v: isinstance(v, bool), "true or false", False),
    )


def _modalities() -> set[str]:
    """Modalities of series: of images, and of objects about them."""
    known = vocabulary()
    return {*known.group_of_modality, *known.derived_modalities}


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9_]{0,39}", value) is not None


def _is_length(value: Any) -> bool:
    return type(value) in (int, float) and value >= 0
