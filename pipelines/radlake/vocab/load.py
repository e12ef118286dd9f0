"""Read schemas/vocab/ into one value: words and codes of body parts, modalities, laterality, contrast, vendors.

The files are under review like code. What a word means is decided there; how text is cut into words is in `words`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

import yaml

from radlake.resources import schemas_root

__all__ = ["UNKNOWN", "Lexicon", "Vocabulary", "Word", "csv_rows", "sct_code", "vocabulary", "yaml_of"]

UNKNOWN = "UNKNOWN"

# SNOMED-RT style codes under their historical designators (PS3.16 section 8.1).
_SNOMED_RT = ("SRT", "SNM3", "99SDM")


@dataclass(frozen=True)
class Word:
    """What a word or phrase of a description says.

    Attributes
    ----------
    parts : frozenset of str
        Body parts that it names.
    is_paired : bool
        The body part has a left and a right one.
    side : str or None
        L, R or B.
    contrast : bool or None
        Contrast was given, was not given, or the word says nothing about it.
    is_joining : bool
        It only joins two other words.
    is_number : bool
        A slice thickness or field strength.
    """

    parts: frozenset[str] = frozenset()
    is_paired: bool = False
    side: str | None = None
    contrast: bool | None = None
    is_joining: bool = False
    is_number: bool = False


@dataclass(frozen=True)
class Lexicon:
    """Words by their characters, phrases by their words."""

    zh: dict[str, Word]
    en: dict[tuple[str, ...], Word]

    @cached_property
    def longest_zh(self) -> int:
        """Characters of the longest Chinese word."""
        return max(map(len, self.zh))

    @cached_property
    def longest_en(self) -> int:
        """Words of the longest English phrase."""
        return max(map(len, self.en))


@dataclass(frozen=True)
class Vocabulary(Lexicon):
    """Codes, and the words that may leave in a description."""

    part_of_code: dict[str, frozenset[str]]
    part_of_term: dict[str, frozenset[str]]
    defined_terms: frozenset[str]
    region_of: dict[str, str]
    sct_of: dict[str, str]
    side_of_code: dict[str, str]
    paired: frozenset[str]
    group_of_modality: dict[str, str]
    group_precedence: tuple[str, ...]
    derived_modalities: frozenset[str]
    agent_not_given: frozenset[str]
    vendors: dict[tuple[str, ...], str]


@lru_cache(maxsize=1024)
def sct_code(value: str, scheme: str) -> str:
    """SNOMED CT code of a coded value that the vocabulary knows; the value itself otherwise."""
    if scheme not in _SNOMED_RT:
        return value
    from pydicom.sr.coding import Code  # and with it PS3.16: 14 MB of a process that mostly meets no such code

    asked = Code(value, "SRT", "")
    known = vocabulary()
    return next((sct for sct in (*known.part_of_code, *known.side_of_code) if Code(sct, "SCT", "") == asked), value)


@cache
def vocabulary() -> Vocabulary:
    """The vocabulary of this installation, read once."""
    parts, words = yaml_of("body_parts"), yaml_of("words")
    modalities = yaml_of("modalities")
    zh: dict[str, Word] = {}
    en: dict[tuple[str, ...], Word] = {}

    def add(entry: dict[str, Any], word: Word) -> None:
        zh.update(dict.fromkeys(entry.get("zh", ()), word))
        en.update({tuple(phrase.split()): word for phrase in entry.get("en", ())})

    add(words["procedure"], Word())
    add({"zh": words["joining"]}, Word(is_joining=True))
    for name in ("slice_thicknesses", "field_strengths"):
        add({"en": words[name]}, Word(is_number=True))
    for part in parts:
        add(part, Word(parts=_parts(part["code"]), is_paired=part.get("paired", False)))
    for side, entry in words["laterality"].items():
        add(entry, Word(side=side))
    # Last: a word like CTU names a body part and says that contrast was given.
    for given, entry in ((True, words["contrast"]["given"]), (False, words["contrast"]["not_given"])):
        for phrase in entry["en"]:
            known = en.get(tuple(phrase.split()), Word())
            add({"en": [phrase]}, Word(parts=known.parts, is_paired=known.is_paired, contrast=given))
        add({"zh": entry["zh"]}, Word(contrast=given))

    part_of_code = {code: _parts(part["code"]) for part in parts for code in part.get("sct", ())}
    part_of_term = {part["code"]: _parts(part["code"]) for part in parts if "+" not in part["code"]}
    rows = csv_rows("body_part_terms")
    for row in rows:
        part_of_term[row["term"]] = _parts(row["body_part_code"])
        if row["sct_code"]:
            part_of_code.setdefault(row["sct_code"], _parts(row["body_part_code"]))

    groups: dict[str, list[str]] = modalities["groups"]
    group_of = dict.fromkeys([*modalities["other"], *modalities["derived"]], "OT")
    group_of |= {term: group for group, terms in groups.items() for term in terms}
    return Vocabulary(
        zh=zh,
        en=en,
        part_of_code=part_of_code,
        part_of_term=part_of_term,
        defined_terms=frozenset(row["term"] for row in rows),
        region_of={part["code"]: part["region"] for part in parts if "+" not in part["code"]},
        sct_of={part["code"]: part["sct"][0] for part in parts if part.get("sct")},
        side_of_code={entry["sct"]: side for side, entry in words["laterality"].items()},
        paired=frozenset(part["code"] for part in parts if part.get("paired")),
        group_of_modality=group_of,
        group_precedence=(*groups, "OT"),
        derived_modalities=frozenset(modalities["derived"]),
        agent_not_given=frozenset(words["contrast"]["agent_not_given"]),
        vendors={tuple(word.split()): vendor["group"] for vendor in yaml_of("vendors") for word in vendor["words"]},
    )


def _parts(code: str) -> frozenset[str]:
    return frozenset(code.split("+")) - {UNKNOWN}


def yaml_of(name: str) -> Any:
    return yaml.load((schemas_root() / "vocab" / f"{name}.yaml").read_bytes(), Loader=yaml.CSafeLoader)


def csv_rows(name: str) -> list[dict[str, str]]:
    lines = (schemas_root() / "vocab" / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))
