"""Profiles: the bases that they extend, the options that they choose, and what they decide beyond the table.

A profile is YAML that an ethics board can read and sign (schemas/profiles/). It is compiled once into one rule per
attribute (`rules`); the de-identifier then only looks rules up. An attribute without a rule does not survive.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml
from pydicom.datadict import tag_for_keyword

from radlake.deidentify.elements import TEXT_VRS
from radlake.deidentify.reference_table import OPTIONS, reference_rows
from radlake.deidentify.rules import Action, Rule, SafePrivate, rules_by_vr, rules_of_table
from radlake.deidentify.terms import VOCABULARIES
from radlake.errors import ConfigInvalid
from radlake.resources import schemas_root

__all__ = [
    "CLEAN_PIXEL_DATA",
    "DOCUMENT_POLICIES",
    "OPTION_CODES",
    "Action",
    "Profile",
    "Rule",
    "SafePrivate",
    "load_profile",
    "profile_names",
    "read_profile",
]

CLEAN_PIXEL_DATA = "clean_pixel_data"  # PS3.15 E.3.1; no column of the table, what it does is in radlake.pixels
# Kinds of encapsulated documents, and what a profile may do with each: a PDF is a picture, no text can be taken out.
DOCUMENT_POLICIES = {
    "pdf": ("quarantine",),
    "cda": ("quarantine", "text_removed"),
    "model": ("quarantine", "text_removed"),
}


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
    documents: Mapping[str, str] = field(default_factory=dict)

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
    "clean_recognizable_visual_features": "faces are not removed; keep photographs and head series out, see ADR 9",
}


def profile_names() -> list[str]:
    """Names of the profiles that come with radlake."""
    return sorted(path.stem for path in (schemas_root() / "profiles").glob("*.yaml"))


def load_profile(name_or_path: str | Path) -> Profile:
    """Read a profile for the lake: a name in schemas/profiles/, or a path.

    Raises
    ------
    ConfigInvalid
        With all problems of the file, or when the profile keeps what the lake must replace.
    """
    profile = read_profile(name_or_path)
    if "retain_uids" in profile.options:
        problem = "options: retain_uids is not possible here, the lake knows studies by their replaced UIDs"
        raise ConfigInvalid(path=str(_path_of(name_or_path)), problems=[problem])
    return profile


def read_profile(name_or_path: str | Path) -> Profile:
    """Read and compile any profile, also one that the lake cannot be filled with; each that comes with radlake once.

    Raises
    ------
    ConfigInvalid
        With all problems of the file.
    """
    path = _path_of(name_or_path)
    return _compiled_once(path) if path.parent == schemas_root() / "profiles" else _compiled(path)


def _compiled(path: Path) -> Profile:
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
    documents = _documents(layers, problems)
    if problems:
        raise ConfigInvalid(path=str(path), problems=problems)

    rules = rules_by_vr(by_vr, options=options) | rules_of_table(options, choices)
    for layer, young in zip(layers, _younger_options(layers, options), strict=True):
        for entry in layer.get("attributes", []):
            for rule in _overrides(entry, rules, origin=layer["name"], problems=problems):
                if young.isdisjoint(_options_of(rule.tag)):
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
        documents=documents,
    )


_compiled_once = cache(_compiled)  # 30 ms of each harvest and of each batch


def _younger_options(layers: list[dict[str, Any]], options: list[str]) -> list[set[str]]:
    """For each layer the options that only a later one chose: they override what the layer says (PS3.15 E.3)."""
    first: dict[str, int] = {}
    for n, layer in enumerate(layers):
        if "options" in layer:
            first = {option: first.get(option, n) for option in layer["options"]}
    return [{option for option in options if first[option] > n} for n in range(len(layers))]


def _options_of(tag: int) -> frozenset[str]:
    return _options_by_tag().get(tag, frozenset())


@cache
def _options_by_tag() -> dict[int, frozenset[str]]:
    return {row.number: frozenset(row.options) for row in reference_rows() if row.number}


def _documents(layers: list[dict[str, Any]], problems: list[str]) -> dict[str, str]:
    """What happens to each kind of encapsulated document; quarantine unless a profile says otherwise."""
    policies = dict.fromkeys(DOCUMENT_POLICIES, "quarantine")
    for layer in layers:
        for kind, policy in layer.get("documents", {}).items():
            if policy not in DOCUMENT_POLICIES.get(kind, ()):
                known = "; ".join(f"{name}: {' or '.join(some)}" for name, some in DOCUMENT_POLICIES.items())
                problems.append(f"documents: {kind}: {policy} is not possible; {known}")
            policies[kind] = policy
    return policies


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
_KEYS = {"name", "version", "title", "about", "extends", "options", "choices", "unlisted", "attributes"} | {
    "safe_private",
    "documents",
}


def _layers(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """The profile and everything that it extends, the base first."""
    layers: list[dict[str, Any]] = []
    read: list[Path] = []
    while True:
        try:
            spec = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        except FileNotFoundError as exc:
            raise ConfigInvalid(path=str(path), problems=[_not_there(path)]) from exc
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


def _not_there(path: Path) -> str:
    names = profile_names()
    near = difflib.get_close_matches(path.name.removesuffix(".yaml"), names, n=2, cutoff=0.5)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"is neither a profile that comes with radlake ({', '.join(names)}) nor a file{meant}"


def _overrides(
    entry: Mapping[str, Any],
    rules: Mapping[int, Rule],
    *,
    origin: str,
    problems: list[str],
) -> list[Rule]:
    """Rules of one entry, which may name several attributes."""
    named = entry.get("attribute", "")
    keywords = [str(keyword) for keyword in (named if isinstance(named, list) else [named])]
    told = ", ".join(keywords[:3]) + (", ..." if len(keywords) > 3 else "")
    foreign = set(entry) - {"attribute", "action", "otherwise", "dummy", "values", "terms", "why"}
    problems += [f"attributes: {told}: unknown key {key}" for key in sorted(foreign)]
    try:
        action = Action(entry["action"])
        otherwise = Action(entry["otherwise"]) if "otherwise" in entry else None
    except (KeyError, ValueError):
        problems.append(f"attributes: {told}: action is not one of {', '.join(Action)}")
        return []
    if entry.get("terms", "body_part") not in VOCABULARIES:
        problems.append(f"attributes: {told}: terms is not one of {', '.join(VOCABULARIES)}")
    made = []
    for keyword in keywords:
        tag = tag_for_keyword(keyword) or next((r.number for r in reference_rows() if r.keyword == keyword), None)
        if tag is None:
            problems.append(f"attributes: {keyword} is not an attribute of the standard")
            continue
        before = rules[tag]
        if action is Action.CLEAN and before.vr not in TEXT_VRS:
            problems.append(f"attributes: {keyword}: only text can be cleaned")
        made.append(
            replace(
                before,
                action=action,
                otherwise=otherwise or before.otherwise,
                dummy=str(entry.get("dummy", before.dummy)),
                values=frozenset(map(str, entry.get("values", ()))),
                terms=str(entry.get("terms", "")),
                origin=origin,
                why=entry.get("why", {}),
            )
        )
    return made


# Bytes that only their maker can read (OB, UN) may hold a whole header (PS3.15 E.3.10).
_PRIVATE_VRS = TEXT_VRS | {"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "OF", "OD", "SQ"}


def _safe_private(entry: Mapping[str, Any], problems: list[str]) -> SafePrivate | None:
    try:
        group, element = int(str(entry["group"]), 16), int(str(entry["element"]), 16)
        if not group % 2 or not 0 <= element <= 0xFF or entry["vr"] not in _PRIVATE_VRS:
            raise ValueError
        return SafePrivate(
            group, str(entry["creator"]).strip(), element, str(entry["vr"]), str(entry.get("meaning", ""))
        )
    except (KeyError, ValueError):
        problems.append(
            "safe_private: needs an odd group, a creator, an element 00 to FF and a VR of text, numbers or SQ"
        )
        return None
