"""PS3.15 Table E.1-1 as the referee reads it, and what an object may look like under it.

An object is judged by what it claims: the options of its De-identification Method Code Sequence (0012,0064), or, where
the caller knows the profile, by the profile too. The table is the CSV of the standard; how the de-identifier compiles
it is not looked at.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, Protocol

from radlake.resources import schemas_root

__all__ = ["OPTION_OF_CODE", "Outcome", "Policy", "Row", "codes_of_dicom", "rows", "table_row"]

# CID 7050 (PS3.16) to the column of the table.
OPTION_OF_CODE = {
    "113101": "clean_pixel_data",
    "113102": "clean_recognizable_visual_features",
    "113103": "clean_graphics",
    "113104": "clean_structured_content",
    "113105": "clean_descriptors",
    "113106": "retain_full_dates",
    "113107": "retain_modified_dates",
    "113108": "retain_patient_characteristics",
    "113109": "retain_device_identity",
    "113110": "retain_uids",
    "113111": "retain_safe_private",
    "113112": "retain_institution_identity",
}
Outcome = str  # remove, empty, dummy, uid, clean, keep, patient, age
_OUTCOME_OF_CODE = {"X": "remove", "Z": "empty", "D": "dummy", "U": "uid", "U*": "keep", "C": "clean", "K": "keep"}
# Actions of a profile whose outcome has another name; an action that is not known restricts nothing.
_OUTCOME_OF_ACTION = {"pseudonym": "dummy", "code": "dummy", "shift": "clean"}
_OUTCOMES = frozenset(["remove", "empty", "dummy", "uid", "clean", "keep", "patient", "age"])


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: action of the Basic Profile, and action by option."""

    keyword: str
    vr: str
    basic: str
    options: Mapping[str, str]

    @property
    def is_identifier(self) -> bool:
        """Whether no option but those for devices, institutions and UIDs ever keeps the value."""
        return not self.options.keys() - {"retain_device_identity", "retain_institution_identity", "retain_uids"}


@cache
def codes_of_dicom() -> frozenset[str]:
    """Code values of the DICOM Controlled Terminology (PS3.16 Annex D), as pydicom ships them."""
    from pydicom.sr._concepts_dict import concepts  # 0.4 s

    return frozenset(code for entries in concepts["DCM"].values() for code in entries)


@cache
def rows() -> Mapping[str, Row]:
    """Rows by tag as the table writes it: `00100010`, `60xx3000`."""
    path = schemas_root() / "deid" / "table_e1_1.csv"
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(line for line in file if not line.startswith("#")))
    options = [name for name in lines[0] if name.startswith(("retain_", "clean_"))]
    return {
        line["tag"].lower(): Row(
            line["keyword"], line["vr"], line["basic"], {name: line[name] for name in options if line[name]}
        )
        for line in lines
    }


@lru_cache(maxsize=16384)
def table_row(tag: int) -> Row | None:
    """The row of an attribute, also of a repeating group."""
    name = f"{tag:08x}"
    table = rows()
    return table.get(name) or table.get(f"{name[:2]}xx{name[4:]}") or table.get(f"{name[:2]}xxxxxx")


class ProfileLike(Protocol):
    """What the referee wants to know of a compiled profile."""

    @property
    def options(self) -> tuple[str, ...]: ...
    @property
    def rules(self) -> Mapping[int, Any]: ...
    @property
    def safe_private(self) -> Iterable[tuple[int, str, int]]: ...


@dataclass(frozen=True)
class Policy:
    """What an object may look like.

    Attributes
    ----------
    options : frozenset of str
        Options in force.
    overrides : mapping of int to frozenset of str
        Outcomes that a profile allows for an attribute instead of the table's.
    ruled : frozenset of int or None
        Attributes that may survive; None when only the table is known.
    safe_private : frozenset of (group, creator, element)
        Private attributes that may survive.
    """

    options: frozenset[str]
    overrides: Mapping[int, frozenset[Outcome]] = field(default_factory=dict)
    ruled: frozenset[int] | None = None
    safe_private: frozenset[tuple[int, str, int]] = frozenset()

    @classmethod
    def of_codes(cls, codes: Iterable[str]) -> Policy:
        """The policy that an object claims for itself."""
        return cls(frozenset(OPTION_OF_CODE[code] for code in codes if code in OPTION_OF_CODE))

    @classmethod
    def of_profile(cls, profile: ProfileLike) -> Policy:
        """The policy of a profile; of its rules only those that it sets against the table are taken."""
        by_table = {"basic", "unlisted", *OPTION_OF_CODE.values()}
        overrides = {
            tag: frozenset(map(_outcome, (rule.action, rule.otherwise)))
            for tag, rule in profile.rules.items()
            if rule.origin not in by_table or rule.why  # the base profile sets some too, each with a reason
        }
        return cls(
            options=frozenset(profile.options) & frozenset(OPTION_OF_CODE.values()),
            overrides=overrides,
            ruled=frozenset(profile.rules),
            safe_private=frozenset(profile.safe_private),
        )

    @property
    def is_of_profile(self) -> bool:
        return self.ruled is not None

    def outcomes(self, tag: int) -> frozenset[Outcome] | None:
        """What may become of an attribute; None when neither table nor profile says anything."""
        if tag in self.overrides:
            return self.overrides[tag]
        row = table_row(tag)
        if row is None:
            return None
        given = [row.options[option] for option in self.options if option in row.options]
        codes = re.split("/", "/".join([row.basic, *given]))
        found = {_OUTCOME_OF_CODE.get(code, "keep") for code in codes}
        if "empty" in found and not self.is_of_profile:
            found.add("dummy")  # Z is a value of zero length, or a dummy (PS3.15 Table E.1-1a)
        return frozenset(found)


def _outcome(action: object) -> Outcome:
    word = str(action)
    word = _OUTCOME_OF_ACTION.get(word, word)
    return word if word in _OUTCOMES else "keep"
