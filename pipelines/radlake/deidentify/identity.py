"""Identifiers of a data set: gathered where they stand by right, searched for where they do not belong.

Coded attributes are misused for names and numbers (PS3.15 E.3.5 warns of it): Image Type holds a patient ID,
Manufacturer the name of the hospital. Every text that stays is therefore searched for what the data set told elsewhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import takewhile
from typing import Any

import yaml
from pydicom.datadict import tag_for_keyword

from radlake.deidentify.pinyin import romanised, spelled, spelling
from radlake.deidentify.terms import term_of
from radlake.errors import ConfigInvalid
from radlake.resources import schemas_root
from radlake.vocab import clean_description, manufacturer_group

__all__ = ["Identities", "identifying_concepts", "identifying_tags", "identities_from"]

_MIN_LATIN = 4
_MIN_DIGITS = 5
_MIN_CHINESE = 2
_LONG = 6  # characters; a shorter identifier may stand within a word by chance
_LONG_PART = 9  # letters of a part of a name
_SHORT_NUMBER = 5  # digits of a number that has letters too
_SHORTEST_WHOLE = 3  # characters
_MIN_INITIALS = 4
_USUAL_NAME = 3  # characters: a surname and two
_MIN_RAW, _MIN_RAW_OF_MUCH = 4, 8  # bytes
_MUCH = 4096  # bytes
_ONE_NUMBER = 8  # bytes of a binary number
_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
# Marks and spaces say nothing: Wang^Xiulan, WANG XIULAN and wangxiulan are one name, 1964-02-24 and 19640224 one day.
_MARKS = " \t\r\n\f^=,._-/()[]{}:;'\""
_DOTS = "·•‧・∙"  # between the parts of Uyghur, Kazakh and Mongolian names in Chinese characters
_BETWEEN_PARTS = re.compile(rf"[\^\s,.{_DOTS}]+")
_FOLD = bytes.maketrans(bytes(range(65, 91)), bytes(range(97, 123)))
_MARK_BYTES = _MARKS.encode("ascii")
_MARKS_IN_BYTES = _MARK_BYTES + b"\0"
_NO_CONTROL = bytes(range(0x20, 0x100))
_MARK_TABLE = {ord(mark): None for mark in _MARKS + _DOTS}
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


@dataclass(frozen=True, slots=True)
class Identities:
    """What names somebody in one data set, folded: lower case, without marks.

    Attributes
    ----------
    needles : tuple of bytes
        Names, numbers and places that may stand anywhere in a text.
    words : tuple of bytes
        Parts of names, short forms and short numbers, that count as a word of their own only.
    wholes : frozenset of bytes
        Numbers so short that only a whole value counts.
    numbers : frozenset of bytes
        Numbers that a numeric value may equal.
    raw : tuple of bytes
        All of it in the encodings of Chinese archives, for values that are no text; the shortest first.
    short_raw : frozenset of bytes
        Those of `raw` that fit into one binary number.
    """

    needles: tuple[bytes, ...]
    words: tuple[bytes, ...]
    wholes: frozenset[bytes]
    numbers: frozenset[bytes]
    raw: tuple[bytes, ...]
    short_raw: frozenset[bytes]

    def may_be_in(self, text: bytes) -> bool:
        """Quick look at many values at once, joined by newlines; True may be wrong."""
        folded = _fold_bytes(text)
        return (
            any(needle in folded for needle in self.needles)
            or any(word in folded for word in self.words)
            or not self.wholes.isdisjoint(folded.replace(b"\\", b"\n").split(b"\n"))
        )

    def is_in(self, value: bytes) -> bool:
        """Whether one value names somebody."""
        folded = _fold_bytes(value)
        return (
            not self.wholes.isdisjoint(folded.split(b"\\"))
            or any(needle in folded for needle in self.needles)
            or any(word in folded and _stands_alone(word, value) for word in self.words)
        )

    def is_in_bytes(self, value: bytes) -> bool:
        """Whether bytes that are no text spell a name or a number; a short one is in much data by chance."""
        shortest = _MIN_RAW if len(value) <= _MUCH else _MIN_RAW_OF_MUCH
        plain = value.translate(_FOLD, _MARKS_IN_BYTES)
        if len(plain) <= _ONE_NUMBER:
            return not self.short_raw.isdisjoint(_pieces_of(plain))
        fitting = takewhile(lambda told: len(told) <= len(plain), self.raw)
        if any(told in plain for told in fitting if len(told) >= shortest):
            return True
        if len(plain) > _MUCH or plain.isascii() or plain.translate(None, _NO_CONTROL):
            return False
        # Müller is told without his accent.
        readings = (_fold(plain.decode(codec, "replace")).encode() for codec in ("utf-8", "latin-1", "gb18030"))
        return any(needle in reading for reading in readings for needle in self.needles)

    def is_number(self, value: bytes) -> bool:
        """Whether a numeric value is an identifier: as a whole, because parts of numbers coincide by chance."""
        return value.strip() in self.numbers


@lru_cache(maxsize=256)
def identities_from(values: frozenset[tuple[str, str]]) -> Identities:
    """Identifiers from (kind, text); the kinds are name, id, date, text. Vocabulary words and vendors name nobody."""
    found: set[str] = set()
    parts: set[str] = set()
    for kind, text in values:
        match kind:
            case "name":
                found |= _forms_of_name(text)
                parts |= _parts_of_name(text)
            case "date":
                found |= _forms_of_date(text)
            case "id":
                found |= _forms_of_number(text)
            case "time":
                found |= _telling(text[:6]) if len(text) >= 6 else set()
            case _:
                found |= _forms_of_place(text)
    needles = {form for form in found if not form.isascii() or len(form) >= (8 if form.isdigit() else _LONG)}
    needles |= {form for form in parts if not form.isascii() or len(form) >= _LONG_PART}
    found |= parts
    # A short identifier is found as a word of its own, a shorter one as a whole value.
    words = {form for form in found - needles if len(form) >= (_MIN_DIGITS if form.isdigit() else _MIN_LATIN)}
    raw = {raw for form in needles | words for raw in _encoded(form)}
    return Identities(
        needles=tuple(sorted(form.encode() for form in needles)),
        words=tuple(sorted(form.encode() for form in words)),
        wholes=frozenset(form.encode() for form in found - needles - words),
        numbers=frozenset(n.encode() for n in needles | words if n.isascii() and n.isdigit() and len(n) > _MIN_DIGITS),
        raw=tuple(sorted(raw, key=lambda raw: (len(raw), raw))),
        short_raw=frozenset(one for one in raw if len(one) <= _ONE_NUMBER),
    )


def _forms_of_name(text: str) -> set[str]:
    """A person's name in any order of its parts, and the surname with initials."""
    forms: set[str] = set()
    for parts in _groups_of_name(text):
        for written in {" ".join(order) for order in (parts, parts[:2], parts[1::-1], parts[::-1])}:
            forms |= _telling(written)
        for end in range(2, len(parts) + 1):
            initials = "".join(syllable[0] for part in parts[1:end] for syllable in spelling(part))
            forms |= _telling(f"{initials} {parts[0]}") | _telling(f"{parts[0]} {initials}")
    return forms


def _parts_of_name(text: str) -> set[str]:
    """The longer parts of a name, and Chinese ones in letters."""
    forms: set[str] = set()
    for parts in _groups_of_name(text):
        spelled_out = {"".join(parts), "".join(parts[::-1]), *parts}
        if len(parts) > 1:
            forms.update(*map(_telling, parts))
        elif parts:  # nobody tells where the surname ends: 王秀兰, 扎西顿珠
            (name,) = parts
            spelled_out |= {name[1:]} if len(name) == _USUAL_NAME else {name[:2], name[2:]}
        for written in map(romanised, spelled_out):
            forms.update(*map(_telling, written))
    return forms


def _groups_of_name(text: str) -> Iterator[list[str]]:
    """The parts of each component group of a PN (PS3.5 6.2.1)."""
    for group in text.split("="):
        yield [part for part in _BETWEEN_PARTS.split(group) if part]


def _forms_of_number(text: str) -> set[str]:
    """A number as it stands, without its letters, and without leading zeros."""
    forms = _telling(text, shortest=_SHORTEST_WHOLE)
    for digits in re.findall(r"\d+", text):
        forms |= _telling(digits, shortest=_SHORT_NUMBER) | _telling(digits.lstrip("0"), shortest=_SHORT_NUMBER)
    return forms


def _forms_of_date(text: str) -> set[str]:
    """A day as people write it: 20240305, 05-MAR-2024, 2024MAR05, Mar 5 2024, 03/05/2024, 05/03/2024, 24-03-05."""
    if not (found := re.match(r"(\d{4})[.\-/]?(\d{2})[.\-/]?(\d{2})", text)):
        return _telling(text)
    year, month, day = found.groups()
    if not "01" <= month <= "12":
        return set()
    name = _MONTHS[int(month) - 1]
    short = f"{int(day)}", f"{int(month)}"
    forms = {year + month + day, month + day + year, day + month + year, f"{year}{short[1]}{short[0]}"}
    forms |= {f"{d}{month_name}{year}" for d in (day, short[0]) for month_name in (name, name[:3])}
    forms |= {f"{year}{month_name}{d}" for d in (day, short[0]) for month_name in (name, name[:3])}
    forms |= {f"{month_name}{d}{year}" for d in (day, short[0]) for month_name in (name, name[:3])}
    forms |= {f"{year}年{int(month)}月{int(day)}日", f"{year}年{month}月{day}日"}
    forms |= {year[2:] + month + day, day + month + year[2:], month + day + year[2:]}
    forms |= {f"{d}{name[:3]}{year[2:]}" for d in (day, short[0])}
    return {form for form in forms if len(form) > _MIN_DIGITS}


def _forms_of_place(text: str) -> set[str]:
    """A hospital, department, station, address or telephone; a hospital also in pinyin and by its initials."""
    forms = _telling(text)
    for written in spelled("".join(re.findall(r"[\u4e00-\u9fff]+", text))):
        forms |= _telling(written)
    words = re.findall(r"[A-Za-z]+", text)
    if len(words) >= _MIN_INITIALS:
        forms |= _telling("".join(word[0] for word in words), shortest=_MIN_INITIALS)
    digits = "".join(re.findall(r"\d+", text))
    if len(digits) >= 10 and len(digits) > len(re.findall(r"\w", text)) / 2:
        forms |= _telling(digits) | _telling(digits[-8:])
    return forms


def _telling(text: str, *, shortest: int = 0) -> set[str]:
    """The folded text as a set of one; none when it is too short or too common to identify anybody."""
    folded = _fold(text)
    usual = _MIN_DIGITS if folded.isdigit() else _MIN_LATIN if folded.isascii() else _MIN_CHINESE
    if len(folded) < (shortest or usual) or len(set(folded)) == 1 or folded.rstrip("0123456789") in _NOBODY:
        return set()
    if folded.isascii() and not folded.isdigit():
        return set() if _is_common(text, folded) else {folded}
    return {folded}


def _is_common(text: str, folded: str) -> bool:
    """Whether a text is a vendor, words of the procedure vocabulary, or words of a device: a station is named so."""
    return (
        manufacturer_group(text) != "OTHER"
        or _fold(clean_description(text) or "") == folded
        or (not any(char.isdigit() for char in text) and term_of("device_model", text) == text)
    )


def _encoded(form: str) -> set[bytes]:
    """A folded form as bytes; UTF-16 without its zeros is ASCII."""
    codecs = ("utf-8",) if form.isascii() else ("utf-8", "gb18030", "utf-16-le", "utf-16-be")
    encoded = (form.encode(codec, "replace").translate(_FOLD, _MARKS_IN_BYTES) for codec in codecs)
    return {raw for raw in encoded if len(raw) >= _MIN_RAW}


def _pieces_of(number: bytes) -> Iterator[bytes]:
    """All that the bytes of a number could spell."""
    n = len(number)
    return (number[start:end] for start in range(n) for end in range(start + _MIN_RAW, n + 1))


def _fold(text: str) -> str:
    return _plain(text).casefold().translate(_MARK_TABLE)


def _plain(text: str) -> str:
    """Without the accents that a console may not have: Müller is Muller."""
    text = unicodedata.normalize("NFKC", text)
    if text.isascii():
        return text
    letters = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in letters if not "\u0300" <= c <= "\u036f"))


def _fold_bytes(text: bytes) -> bytes:
    if text.isascii():
        return text.translate(_FOLD, _MARK_BYTES.replace(b"\n", b""))
    return b"\n".join(_fold(line).encode() for line in text.decode("utf-8", "replace").split("\n"))


def _stands_alone(folded: bytes, value: bytes) -> bool:
    """Whether the folded word stands in the value between marks or at its ends, perhaps with marks inside: Li-Na.

    Digits end where digits end: 512345 stands in CT512345. A date with its marks ends anywhere: 1964.2.24 stands in
    1964.2.2407.
    """
    text = _plain(value.decode("utf-8", "replace")).casefold()
    word = r"[\W_]*".join(map(re.escape, folded.decode()))
    beside = r"\d" if folded.isdigit() else r"[^\W_]"
    if re.search(rf"(?<!{beside}){word}(?!{beside})", text):
        return True
    return folded.isdigit() and any(len(re.findall(r"[\W_]+", found)) > 1 for found in re.findall(word, text))


@cache
def identifying_tags() -> Mapping[int, str]:
    """Kind of identifier by attribute (schemas/deid/identity.yaml); names are known by their VR."""
    kinds: dict[int, str] = {}
    problems = []
    for kind in ("id", "date", "time", "text", "uid"):
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
