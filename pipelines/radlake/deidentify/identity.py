"""Identifiers of a data set: gathered where they stand by right, searched for where they do not belong.

Coded attributes are misused for names and numbers (PS3.15 E.3.5 warns of it): Image Type holds a patient ID,
Manufacturer the name of the hospital. Every text that stays is therefore searched for what the data set told elsewhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import yaml
from pydicom.datadict import tag_for_keyword

from radlake.deidentify.pinyin import romanised
from radlake.errors import ConfigInvalid
from radlake.resources import schemas_root
from radlake.vocab import clean_description, manufacturer_group

__all__ = ["Identities", "identifying_concepts", "identifying_tags", "identities_from"]

_MIN_LATIN = 4
_MIN_DIGITS = 5
_MIN_CHINESE = 2
_LONG_NAME = 9  # letters; a shorter name may stand within a word by chance
# Marks and spaces say nothing: Wang^Xiulan, WANG XIULAN and wangxiulan are one name, 1964-02-24 and 19640224 one day.
_MARKS = " \t\r\n\f^=,._-/()[]{}:;'\"·"
_FOLD = bytes.maketrans(bytes(range(65, 91)), bytes(range(97, 123)))
_MARK_BYTES = _MARKS.replace("·", "").encode("ascii")
_MARK_TABLE = {ord(mark): None for mark in _MARKS}
# What devices, phantoms and earlier de-identification write in place of a name.
_NOBODY = frozenset(
    [
        "anonym",
        "anonymized",
        "anonymised",
        "anonymous",
        "none",
        "null",
        "other",
        "patient",
        "removed",
        "test",
        "unknown",
    ]
)
# A Chinese identity number, a mobile number and the word hospital tell something wherever they stand.
_TELLTALES = re.compile(
    rb"(?<![0-9])(?:[1-9][0-9]{5}(?:19|20)[0-9]{9}[0-9Xx]|1[3-9][0-9]{9})(?![0-9])|(?i:hospital|yiyuan|\bclinic\b)"
)


@dataclass(frozen=True, slots=True)
class Identities:
    """What names somebody in one data set, folded: lower case, without marks.

    Attributes
    ----------
    needles : tuple of bytes
        Names, numbers and places that may stand anywhere in a text.
    words : tuple of bytes
        Parts of names, that count as a word of their own only.
    numbers : frozenset of bytes
        Numbers that a numeric value may equal.
    """

    needles: tuple[bytes, ...]
    words: tuple[bytes, ...]
    numbers: frozenset[bytes]

    def may_be_in(self, text: bytes) -> bool:
        """Quick look at many values at once, joined by newlines; True may be wrong."""
        folded = _fold_bytes(text)
        return (
            _TELLTALES.search(text) is not None
            or any(needle in folded for needle in self.needles)
            or any(word in folded for word in self.words)
        )

    def is_in(self, value: bytes) -> bool:
        """Whether one value names somebody."""
        if _TELLTALES.search(value):
            return True
        folded = _fold_bytes(value)
        for needle in self.needles:
            if needle in folded and not (len(needle) < 8 and needle.isdigit() and not _stands_alone(needle, value)):
                return True
        return any(word in folded and _stands_alone(word, value) for word in self.words)

    def is_number(self, value: bytes) -> bool:
        """Whether a numeric value is an identifier: as a whole, because parts of numbers coincide by chance."""
        return value.strip() in self.numbers


@lru_cache(maxsize=64)
def identities_from(values: frozenset[tuple[str, str]]) -> Identities:
    """Identifiers from (kind, text); the kinds are name, id, date, text. Vocabulary words and vendors name nobody."""
    needles: set[str] = set()
    words: set[str] = set()
    for kind, text in values:
        if kind != "name":
            needles |= _telling(text)
            continue
        for group in text.split("="):
            parts = [part for part in re.split(r"[\^\s,]+", group) if part]
            for order in (parts, parts[:2], parts[1::-1]):
                needles |= _telling(" ".join(order))
            if len(parts) > 1:
                words.update(*map(_telling, parts))
            for written in romanised("".join(parts)):
                (needles if len(written) >= _LONG_NAME else words).update(_telling(written))
    return Identities(
        needles=tuple(sorted(needle.encode() for needle in needles)),
        words=tuple(sorted(word.encode() for word in words - needles if word.isascii())),
        numbers=frozenset(n.encode() for n in needles if n.isascii() and n.isdigit() and len(n) > _MIN_DIGITS),
    )


def _telling(text: str) -> set[str]:
    """The folded text as a set of one; none when it is too short or too common to identify anybody."""
    folded = _fold(text)
    shortest = _MIN_DIGITS if folded.isdigit() else _MIN_LATIN if folded.isascii() else _MIN_CHINESE
    if len(folded) < shortest or len(set(folded)) == 1 or folded.rstrip("0123456789") in _NOBODY:
        return set()
    if folded.isascii() and not folded.isdigit():
        is_common = manufacturer_group(text) != "OTHER" or _fold(clean_description(text) or "") == folded
        return set() if is_common else {folded}
    return {folded}


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().translate(_MARK_TABLE)


def _fold_bytes(text: bytes) -> bytes:
    if text.isascii():
        return text.translate(_FOLD, _MARK_BYTES.replace(b"\n", b""))
    return b"\n".join(_fold(line).encode() for line in text.decode("utf-8", "replace").split("\n"))


def _stands_alone(folded: bytes, value: bytes) -> bool:
    """Whether the folded word stands in the value between marks or at its ends, perhaps with marks inside: Li-Na."""
    text = unicodedata.normalize("NFKC", value.decode("utf-8", "replace")).casefold()
    word = r"[\W_]*".join(map(re.escape, folded.decode()))
    return re.search(rf"(?<![^\W_]){word}(?![^\W_])", text) is not None


@cache
def identifying_tags() -> Mapping[int, str]:
    """Kind of identifier by attribute (schemas/deid/identity.yaml); names are known by their VR."""
    kinds: dict[int, str] = {}
    problems = []
    for kind in ("id", "date", "text", "uid"):
        for keyword in _spec()[kind]:
            tag = tag_for_keyword(keyword)
            if tag is None:
                problems.append(f"{kind}: {keyword} is not an attribute of the standard")
            else:
                kinds[tag] = kind
    if problems:
        raise ConfigInvalid(path="schemas/deid/identity.yaml", problems=problems)
    return kinds


@cache
def identifying_concepts() -> Mapping[str, str]:
    """Kind of identifier by the code of a content item's concept (PS3.16)."""
    return dict(_spec()["concepts"])


@cache
def _spec() -> Mapping[str, Any]:
    return yaml.safe_load((schemas_root() / "deid" / "identity.yaml").read_text(encoding="utf-8"))
