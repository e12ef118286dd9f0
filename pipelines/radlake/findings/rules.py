"""Rules of schemas/vocab/findings.yaml, compiled: names of findings and the words around them, longest first."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from radlake.errors import ConfigInvalid
from radlake.resources import schemas_root

__all__ = ["Rules", "Word", "load_rules", "normal"]

LANGUAGES = ("zh", "en")
_ROLES = {
    ("neutral",): "neutral",
    ("before", "absent"): "absent_before",
    ("before", "possible"): "possible_before",
    ("after", "absent"): "absent_after",
    ("after", "possible"): "possible_after",
    ("past",): "past",
    ("family",): "family",
    ("ends",): "end",
}


@dataclass(frozen=True)
class Word:
    """What a phrase is: the name of a finding, or the roles that it has for names around it."""

    finding: str = ""
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Rules:
    """Compiled rules.

    Attributes
    ----------
    sha256 : str
        Of the file: facts say which rules read them.
    codes : dict
        Finding -> SNOMED CT code, or empty.
    words : dict
        Phrase, as `normal` writes it -> what it is.
    pattern, goes_on, asserted, skipped : re.Pattern
        Any phrase, longest first; what a list goes on with after a comma; what says behind a name that it is there; a
        heading whose text is left out.
    """

    sha256: str
    codes: dict[str, str]
    words: dict[str, Word]
    pattern: re.Pattern[str]
    goes_on: re.Pattern[str]
    asserted: re.Pattern[str]
    skipped: re.Pattern[str]


def normal(text: str) -> str:
    """Text as rules see it: full-width forms made plain, lower case, one blank for several."""
    return re.sub(r"[^\S\n]+", " ", unicodedata.normalize("NFKC", text).lower())


@cache
def load_rules(path: Path | None = None) -> Rules:
    """The rules of a file, by default of this installation.

    Raises
    ------
    ConfigInvalid
        With all problems: a phrase that names two findings, or names one and is a word around names.
    """
    path = path or schemas_root() / "vocab" / "findings.yaml"
    content = path.read_bytes()
    data = yaml.safe_load(content)
    words: dict[str, Word] = {}
    problems = []
    for finding, entry in data["findings"].items():
        for phrase in _phrases(entry):
            if phrase in words and words[phrase].finding != finding:
                problems.append(f"{phrase!r} names {words[phrase].finding} and {finding}")
            words[phrase] = Word(finding=finding)
    for keys, role in _ROLES.items():
        section: Any = data
        for key in keys:
            section = section[key]
        for phrase in _phrases(section):
            known = words.get(phrase, Word())
            if known.finding:
                problems.append(f"{phrase!r} names {known.finding} and is a word of {'.'.join(keys)}")
            words[phrase] = Word(known.finding, known.roles | {role})
    if problems:
        raise ConfigInvalid(path=path, problems=problems)
    return Rules(
        sha256=hashlib.sha256(content).hexdigest(),
        codes={finding: entry["sct"] for finding, entry in data["findings"].items()},
        words=words,
        pattern=_any_of(words),
        goes_on=re.compile(rf"\s*(?:{_any_of(_phrases(data['goes_on'])).pattern})"),
        asserted=re.compile(rf"\s*(?:{_any_of(_phrases(data['asserted'])).pattern})"),
        skipped=re.compile(rf"(?m)^[^\S\n]*(?:{_any_of(_phrases(data['skipped'])).pattern})[^\S\n]*:[^\n]*"),
    )


def _phrases(section: dict[str, list[str]]) -> list[str]:
    return [normal(phrase) for language in LANGUAGES for phrase in section[language]]


def _any_of(phrases: Iterable[str]) -> re.Pattern[str]:
    """Any of the phrases, the longest first; one in Latin letters is a whole word."""
    longest_first = sorted(set(phrases), key=lambda phrase: (-len(phrase), phrase))
    return re.compile("|".join(_whole(re.escape(p).replace(r"\ ", r"\s+"), p) for p in longest_first))


def _whole(escaped: str, phrase: str) -> str:
    return rf"(?<![a-z]){escaped}(?![a-z])" if phrase[0].isascii() and phrase[0].isalpha() else escaped
