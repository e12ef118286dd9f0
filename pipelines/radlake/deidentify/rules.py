"""Rules: what happens to one attribute, from the table, the chosen options, or the VR of what the table does not list.

How options, overrides and bases make a whole profile is in `profile`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pydicom._dicom_dict import DicomDictionary

from radlake.deidentify.elements import dictionary_vr
from radlake.deidentify.reference_table import Row, reference_rows

__all__ = ["Action", "Rule", "SafePrivate", "rules_by_vr", "rules_of_table"]

REMOVED = "REMOVED"
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
    "retain_device_identity": Action.PSEUDONYM,  # titles of application entities: devices stay comparable
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
    meaning: str = ""


def rules_by_vr(by_vr: Mapping[str, Action], *, options: Collection[str]) -> dict[int, Rule]:
    """Rules of the standard's attributes that the table does not list: by their VR."""
    rules = {}
    for tag, (vr, *_) in DicomDictionary.items():
        if tag >> 16 <= 6 or tag & 0xFFFF == 0:  # command, file meta, directory; group lengths
            continue
        action, origin = by_vr.get(vr, Action.KEEP), "unlisted"
        if vr == "UI" and "retain_uids" in options:
            action, origin = Action.KEEP, "retain_uids"  # or references would point nowhere
        rules[tag] = Rule(tag, action, _failing_that(action), vr, _DUMMIES.get(vr, REMOVED), origin=origin)
    return rules


def rules_of_table(options: Collection[str], choices: Mapping[str, Action]) -> dict[int, Rule]:
    """Rules of the attributes that the table lists; what an option says goes before the Basic Profile."""
    return {row.number: _rule_of_row(row, row.number, options, choices) for row in reference_rows() if row.number}


def _rule_of_row(row: Row, tag: int, options: Collection[str], choices: Mapping[str, Action]) -> Rule:
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
