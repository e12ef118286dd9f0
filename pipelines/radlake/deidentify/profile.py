"""Profiles: what happens to every attribute, compiled from the reference table, options and overrides.

A profile is YAML that an ethics board can read and sign (schemas/profiles/). It is compiled once into one rule per
attribute; the de-identifier then only looks rules up. An attribute without a rule does not survive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import tag_for_keyword

from radlake.deidentify.elements import TEXT_VRS, dictionary_vr
from radlake.deidentify.reference_table import OPTIONS, Row, reference_rows
from radlake.errors import ConfigInvalid
from radlake.resources import schemas_root

__all__ = ["CLEAN_PIXEL_DATA", "OPTION_CODES", "Action", "Profile", "Rule", "SafePrivate", "load_profile"]

REMOVED = "REMOVED"
CLEAN_PIXEL_DATA = "clean_pixel_data"  # PS3.15 E.3.1; no column of the table, what it does is in radlake.pixels
_DUMMIES = {
    "PN": REMOVED,
    "AE": REMOVED,
    "CS": "OTHER",
    "DA": "19000101",
    "TM": "000000",
    "DT": "19000101000000",
    "AS": "000Y",
    "DS": "0",
    "IS": "0",
    "UR": "urn:removed",
}


class Action(StrEnum):
    """What happens to the value of an attribute."""

    KEEP = "keep"  # as it is, unless it holds an identifier; of a sequence: treat every item
    REMOVE = "remove"
    EMPTY = "empty"
    DUMMY = "dummy"
    UID = "uid"  # keyed replacement
    SHIFT = "shift"  # by the person's constant
    CLEAN = "clean"  # only words of the vocabulary stay
    AGE = "age"  # ages above 90 years told as 90
    PATIENT = "patient"  # the person's pseudonym
    PSEUDONYM = "pseudonym"  # keyed replacement, the same value always gives the same
    CODE = "code"  # one code that says: removed


_ACTION_OF_CODE = {
    "K": Action.KEEP,
    "X": Action.REMOVE,
    "Z": Action.EMPTY,
    "D": Action.DUMMY,
    "U": Action.UID,
    "X/Z/U*": Action.KEEP,  # sequences of references: kept, the UIDs in their items are replaced
}
_CLEANING = {
    "retain_modified_dates": Action.SHIFT,
    "clean_descriptors": Action.CLEAN,
    "clean_structured_content": Action.KEEP,
    "clean_graphics": Action.KEEP,
    "retain_patient_characteristics": Action.CLEAN,
    "retain_device_identity": Action.DUMMY,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to one attribute, and why.

    Attributes
    ----------
    otherwise : Action
        What happens to a value that `action` cannot treat: no vocabulary word in it, not a date.
    vr : str
        From PS3.6; empty when unknown.
    dummy : str
        The value that DUMMY writes.
    values : frozenset of str
        The only values that KEEP lets pass; empty means any.
    terms : str
        Instead of `values`, the vocabulary whose terms KEEP lets pass: `body_part`.
    code : str
        Action of the Basic Profile in Table E.1-1; empty when the table does not list the attribute.
    origin : str
        `basic`, the name of an option, `unlisted` (rule of its VR), or the name of the profile that overrides.
    why : mapping of str to str
        Reason for people, by language.
    """

    tag: int
    action: Action
    otherwise: Action
    vr: str
    dummy: str = REMOVED
    values: frozenset[str] = frozenset()
    terms: str = ""
    code: str = ""
    origin: str = "basic"
    why: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SafePrivate:
    """A private attribute that is known to be safe (PS3.15 E.3.10): group, creator, element within its block."""

    group: int
    creator: str
    element: int
    vr: str


@dataclass(frozen=True)
class Profile:
    """A compiled profile. `rules` has every attribute that may survive, and many that may not."""

    name: str
    version: int
    title: Mapping[str, str]
    about: Mapping[str, str]
    options: tuple[str, ...]
    rules: Mapping[int, Rule]
    safe_private: Mapping[tuple[int, str, int], SafePrivate]

    @property
    def label(self) -> str:
        """Name and version, as rows and objects carry it."""
        return f"{self.name} v{self.version}"

    @property
    def temporal_information(self) -> str:
        """Longitudinal Temporal Information Modified (0028,0303)."""
        if "retain_full_dates" in self.options:
            return "UNMODIFIED"
        return "MODIFIED" if "retain_modified_dates" in self.options else "REMOVED"

    @cached_property
    def codes(self) -> tuple[tuple[str, str], ...]:
        """Codes of CID 7050 (PS3.16) with their meaning, the Basic Profile first; not every object has each."""
        return (
            ("113100", "Basic Application Confidentiality Profile"),
            *((OPTION_CODES[option], _MEANINGS[option]) for option in self.options),
        )


_MEANINGS = {
    "retain_safe_private": "Retain Safe Private Option",
    "retain_uids": "Retain UIDs Option",
    "retain_device_identity": "Retain Device Identity Option",
    "retain_institution_identity": "Retain Institution Identity Option",
    "retain_patient_characteristics": "Retain Patient Characteristics Option",
    "retain_full_dates": "Retain Longitudinal Temporal Information Full Dates Option",
    "retain_modified_dates": "Retain Longitudinal Temporal Information Modified Dates Option",
    "clean_descriptors": "Clean Descriptors Option",
    "clean_structured_content": "Clean Structured Content Option",
    "clean_graphics": "Clean Graphics Option",
    CLEAN_PIXEL_DATA: "Clean Pixel Data Option",
}
OPTION_CODES = {option: code for option, (_, code) in OPTIONS.items()} | {CLEAN_PIXEL_DATA: "113101"}
_NOT_OFFERED = {
    "retain_uids": "the lake knows studies by their replaced UIDs",
    "clean_recognizable_visual_features": "faces are not removed; keep photographs and head series out, see ADR 9",
}


def load_profile(name_or_path: str | Path) -> Profile:
    """Read and compile a profile: a name in schemas/profiles/, or a path.

    Raises
    ------
    ConfigInvalid
        With all problems of the file.
    """
    path = _path_of(name_or_path)
    problems: list[str] = []
    layers = _layers(path, problems)
    spec = layers[-1]
    options = next((layer["options"] for layer in reversed(layers) if "options" in layer), [])
    problems += [
        f"options: {option} is not possible, {_NOT_OFFERED[option]}"
        if option in _NOT_OFFERED
        else f"options: {option} is not one of {', '.join(OPTION_CODES)}"
        for option in options
        if option in _NOT_OFFERED or option not in OPTION_CODES
    ]
    if {"retain_full_dates", "retain_modified_dates"} <= set(options):
        problems.append("options: retain_full_dates and retain_modified_dates exclude each other")
    choices = _actions(layers, "choices", problems)
    by_vr = _actions(layers, "unlisted", problems)
    if problems:
        raise ConfigInvalid(path=str(path), problems=problems)

    rules = _rules_by_vr(by_vr) | _rules_of_table(options, choices)
    for layer in layers:
        for entry in layer.get("attributes", []):
            rule = _override(entry, rules, origin=layer["name"], problems=problems)
            if rule is not None:
                rules[rule.tag] = rule
    private = [_safe_private(entry, problems) for layer in layers for entry in layer.get("safe_private", [])]
    if private and "retain_safe_private" not in options:
        problems.append("safe_private: needs the option retain_safe_private")
    if problems:
        raise ConfigInvalid(path=str(path), problems=problems)
    return Profile(
        name=spec["name"],
        version=spec["version"],
        title=spec["title"],
        about=spec.get("about", {}),
        options=tuple(options),
        rules=rules,
        safe_private={(entry.group, entry.creator, entry.element): entry for entry in private if entry},
    )


def _actions(layers: list[dict[str, Any]], key: str, problems: list[str]) -> dict[str, Action]:
    """One of the small tables of a profile: code or VR to action."""
    actions = {}
    for layer in layers:
        for name, action in layer.get(key, {}).items():
            if action in list(Action):
                actions[name] = Action(action)
            else:
                problems.append(f"{key}: {name}: action is not one of {', '.join(Action)}")
    return actions


def _path_of(name_or_path: str | Path) -> Path:
    named = schemas_root() / "profiles" / f"{name_or_path}.yaml"
    return named if named.is_file() else Path(name_or_path)


_BASE = "basic"
_KEYS = {"name", "version", "title", "about", "extends", "options", "choices", "unlisted", "attributes", "safe_private"}


def _layers(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """The profile and everything that it extends, the base first."""
    layers: list[dict[str, Any]] = []
    read: list[Path] = []
    while True:
        try:
            spec = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
            raise ConfigInvalid(path=str(path), problems=[f"cannot be read ({type(exc).__name__})"]) from exc
        if not isinstance(spec, dict) or not {"name", "version", "title"} <= set(spec):
            raise ConfigInvalid(path=str(path), problems=["needs name, version and title"])
        problems += [f"{path.name}: unknown key {key}" for key in sorted(set(spec) - _KEYS)]
        layers.insert(0, spec)
        read.append(path)
        if "extends" not in spec:
            if path != _path_of(_BASE):
                problems.append(f"{path.name}: must extend {_BASE} or a profile that does")
            return layers
        base = _path_of(spec["extends"])
        path = base if base.is_file() else path.parent / base
        if path in read:
            raise ConfigInvalid(path=str(path), problems=["a profile extends itself"])


def _rules_by_vr(by_vr: Mapping[str, Action]) -> dict[int, Rule]:
    """Rules of the standard's attributes that the table does not list: by their VR."""
    rules = {}
    for tag, (vr, *_) in DicomDictionary.items():
        if tag >> 16 <= 6 or tag & 0xFFFF == 0:  # command, file meta, directory; group lengths
            continue
        action = by_vr.get(vr, Action.KEEP)
        rules[tag] = Rule(tag, action, _failing_that(action), vr, _DUMMIES.get(vr, REMOVED), origin="unlisted")
    return rules


def _rules_of_table(options: list[str], choices: Mapping[str, Action]) -> dict[int, Rule]:
    return {row.number: _rule_of_row(row, row.number, options, choices) for row in reference_rows() if row.number}


def _rule_of_row(row: Row, tag: int, options: list[str], choices: Mapping[str, Action]) -> Rule:
    vr = dictionary_vr(tag) or row.vr
    basic = choices.get(row.basic) or _ACTION_OF_CODE[row.basic]
    given = {option: row.options[option] for option in options if option in row.options}
    # Where several options speak, cleaning wins over keeping.
    option = next((option for option, code in given.items() if code == "C"), next(iter(given), None))
    action, otherwise = basic, basic
    if option is not None:
        action = _CLEANING[option] if given[option] == "C" else Action.KEEP
        if action is Action.CLEAN and vr == "SQ":
            action = Action.KEEP
        elif action is Action.SHIFT and vr not in ("DA", "TM", "DT"):
            action = Action.DUMMY if vr == "OB" else Action.KEEP  # time stamps in bytes; the offset from UTC
        if action is Action.SHIFT:
            otherwise = Action.REMOVE if "X" in row.basic else Action.EMPTY
    if basic is Action.DUMMY and action is Action.DUMMY and vr == "SQ":
        action = Action.KEEP  # a dummy sequence is its own items, each treated
    dummy = _DUMMIES.get(vr, REMOVED)
    return Rule(tag, action, otherwise, vr, dummy, code=row.basic, origin=option or "basic")


def _failing_that(action: Action) -> Action:
    """Of an attribute whose type is not known: text that says removed is valid wherever text is required."""
    return {Action.REMOVE: Action.REMOVE, Action.DUMMY: Action.DUMMY, Action.CLEAN: Action.DUMMY}.get(
        action, Action.EMPTY
    )


def _override(
    entry: Mapping[str, Any],
    rules: Mapping[int, Rule],
    *,
    origin: str,
    problems: list[str],
) -> Rule | None:
    keyword = str(entry.get("attribute", ""))
    tag = tag_for_keyword(keyword) or next((r.number for r in reference_rows() if r.keyword == keyword), None)
    if tag is None:
        problems.append(f"attributes: {keyword} is not an attribute of the standard")
        return None
    foreign = set(entry) - {"attribute", "action", "otherwise", "dummy", "values", "terms", "why"}
    problems += [f"attributes: {keyword}: unknown key {key}" for key in sorted(foreign)]
    try:
        action = Action(entry["action"])
        otherwise = Action(entry["otherwise"]) if "otherwise" in entry else None
    except (KeyError, ValueError):
        problems.append(f"attributes: {keyword}: action is not one of {', '.join(Action)}")
        return None
    if entry.get("terms", "body_part") != "body_part":
        problems.append(f"attributes: {keyword}: the vocabulary of terms is body_part")
    before = rules[tag]
    if action is Action.CLEAN and before.vr not in TEXT_VRS:
        problems.append(f"attributes: {keyword}: only text can be cleaned")
    return replace(
        before,
        action=action,
        otherwise=otherwise or before.otherwise,
        dummy=str(entry.get("dummy", before.dummy)),
        values=frozenset(map(str, entry.get("values", ()))),
        terms=str(entry.get("terms", "")),
        origin=origin,
        why=entry.get("why", {}),
    )


def _safe_private(entry: Mapping[str, Any], problems: list[str]) -> SafePrivate | None:
    try:
        group, element = int(str(entry["group"]), 16), int(str(entry["element"]), 16)
        if not group % 2 or not 0 <= element <= 0xFF or entry["vr"] in ("SQ", "UN"):
            raise ValueError
        return SafePrivate(group, str(entry["creator"]).strip(), element, str(entry["vr"]))
    except (KeyError, ValueError):
        problems.append(
            "safe_private: needs an odd group, a creator, an element 00 to FF and a VR other than SQ and UN"
        )
        return None
