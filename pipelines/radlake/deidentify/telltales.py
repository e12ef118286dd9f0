"""Texts that betray somebody whoever it is: a telephone number, an address of a network, a name that looks like one.

The second net under attributes that keep their text. It knows nothing of the data set; what the data set told is
searched for in `identity`. A false alarm costs a technical value, a missed one costs a person.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache

from radlake.deidentify.pinyin import surnames, syllables
from radlake.deidentify.wrapped import hides_text, unescaped
from radlake.vocab import clean_description, manufacturer_group

__all__ = ["betrays_somebody"]

_BETRAYING = re.compile(
    r"""
    \d{8,}                                                    # a number of a person, an order, a telephone, a day
    | (?<!\d)0\d{2,3}[-\s()]{0,3}\d{7,8}(?!\d)                # a telephone on a desk
    | (?<!\d)[12]\d{3}([-./])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])(?!\d)   # 2024-3-5
    | (?<!\d)(?:0?[1-9]|[12]\d|3[01])([-./])(?:0?[1-9]|1[0-2])\2(?:19|20)\d\d(?!\d)
    | (?<!\d)(?:0?[1-9]|1[0-2])([-./])(?:0?[1-9]|[12]\d|3[01])\3(?:19|20)\d\d(?!\d)
    | (?<![\d/])(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01])/\d\d(?![\d/])      # 3/5/24
    | (?<![\d/])(?:0?[1-9]|[12]\d|3[01])/(?:0?[1-9]|1[0-2])/\d\d(?![\d/])
    | (?<!\d)(?:19|20)\d\d[-\s.]?(?:JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)[A-Z]*[-\s.]?\d\d?(?!\d)
    | (?<!\d)\d\d?[-\s]?(?:JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)[A-Z]*[-\s,]*(?:(?:19|20)\d\d|\d\d\b)
    | \b(?:JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)[A-Z]*\.?\s?\d\d?(?:ST|ND|RD|TH)?[\s,]+(?:19|20)\d\d
    | [\^@]                                                   # PN components, electronic mail
    | :// | \bWWW\.                                           # URL
    | \b[A-Z]:/ | (?:^|[\s"'(=])(?:/[\w.~-]+){2,} | //[\w.-]+/     # path of a file; then address of a network
    | (?<![\d.])(?:(?:10|127)(?=(?:\.\d){0,2}\.\d\d)\.\d+|172\.(?:1[6-9]|2\d|3[01])|192\.168)(?:\.\d{1,3}){2}(?![\d.])
    | (?<![A-Z])(?!Y+(?![A-Z])|(?:DD)?MMYY(?![A-Z]))[A-HJ-TW-Z]{2,}YY(?![A-Z])   # initials of a hospital: ... yi yuan
    | HOSPITAL | YIYUAN | YISHENG | BINGQU | \bKESHI | \bCLINIC\b | \bINFIRMARY | \bUNIVERSITY | \bINSTITUTE\b
    | \bMEDICAL\s(?:CENT|COLLEGE|SCHOOL) | \bPEOPLE'?S\b | \b(?:WARD|BED|ROOM)[\s#:.-]*\d
    | (?:^|;\s?)\d{1,4}\s(?!(?:VIEW|LEAD|PLANE|PHASE|SLICE|FRAME|CHANNEL)S?\b)[A-Z]{3,}(?:\s[A-Z]{2,}){1,3},\s[A-Z]{3,}
    | \b(?:ROAD|STREET|AVENUE|DISTRICT|PROVINCE)\b
    | \b(?:DR|PROF|MRS|MISS)\.\s?[A-Z] | \bPROFESSOR\b | \bPATIENT\s?(?:ID|NAME)\b
    | \b(?:QQ|WX|WECHAT|WEIXIN|WXID|TEL|PHONE|MOBILE|FAX|MRN|SSN)\b\s?[:#_=]?\s?\d | \bWXID_
    | \b(?:MRN|SSN|P?ID|PAT(?:IENT)?|ACC(?:ESSION)?|CASE|ADMISSION)(?:\s?(?:NO|NUMBER|ID))?[\s.:#_=-]{0,3}\d{5,}
    """,
    re.VERBOSE,
)
_TITLED = re.compile(r"\b(?:Dr|DR|Prof|PROF|Mr|Mrs|MRS|Ms|Miss|MISS)\.?\s+([A-Z][A-Za-z]+)")
_SPACED = re.compile(r"\b(?:[A-Za-z] ){4,}[A-Za-z]\b")  # W A N G
_DIGIT_GAPS = re.compile(r"(?<=\d)[ \-](?=[\dX])")
_LETTERS = re.compile(r"[A-Za-z]+")
_CAMEL = re.compile(r"[A-Z][a-z]+|[A-Z]+(?![a-z])|[a-z]+")
_MIN_GIVEN = 5  # letters of a given name beside a surname that is a word of the field
_MIN_TOGETHER = 8  # letters: a shorter word of pinyin syllables may be any word
_MIN_PART, _MIN_SYLLABLES = 5, 5  # letters of each of two words, syllables of both: Maimaiti Aishan


@lru_cache(maxsize=65536)
def betrays_somebody(text: str) -> bool:
    """Whether a text looks like a number, address, place or name of somebody.

    >>> betrays_somebody("R5 138 0013 8000"), betrays_somebody("ZHANG XIULAN"), betrays_somebody("syngo MR XA20")
    (True, True, False)
    """
    plain = unescaped(text)
    if text.isascii() and not plain.isascii():
        return True
    text = unicodedata.normalize("NFKC", plain)
    upper = text.upper()
    return (
        _BETRAYING.search(upper) is not None
        or re.search(r"\d{11}", _DIGIT_GAPS.sub("", upper)) is not None
        or _holds_chinese_name(text)
        or any(map(_is_surname, _TITLED.findall(text)))
        or any(_is_written_together(found.replace(" ", "").lower()) for found in _SPACED.findall(text))
        or hides_text(text.encode())
    )


def _holds_chinese_name(text: str) -> bool:
    """Whether words next to each other are a Chinese surname and a given name in letters, in either order."""
    words = _LETTERS.findall(text)
    for word in words:
        parts = _CAMEL.findall(word)
        if len(parts) in (2, 3) and all(len(part) > 1 for part in parts) and _is_name(parts):
            return True
        if len(parts) == 1 and len(word) >= _MIN_TOGETHER and _is_written_together(word.lower()):
            return True
    return any(_is_name(words[n : n + length]) for length in (2, 3) for n in range(len(words) - length + 1)) or any(
        map(_is_long_name, words, words[1:])
    )


def _is_long_name(first: str, second: str) -> bool:
    """Whether two words are spelled like the Uyghur, Kazakh or Mongolian name of somebody."""
    words = first.lower(), second.lower()
    if min(map(len, words)) < _MIN_PART or any(map(_is_technical, words)):
        return False
    n_syllables = list(map(_n_syllables, words))
    return min(n_syllables) > 1 and sum(n_syllables) >= _MIN_SYLLABLES


def _is_surname(word: str) -> bool:
    return word.lower() in surnames() and not _is_technical(word.lower()) and word.lower() not in _not_names()


def _is_name(words: list[str]) -> bool:
    words = [word.lower() for word in words]
    if any((word in _not_names() and not _is_surname_beside(word, words)) or _is_technical(word) for word in words):
        return False
    for surname, given in ((words[0], words[1:]), (words[-1], words[:-1])):
        n_syllables = [_n_syllables(word) for word in given]
        if surname in surnames() and all(n_syllables) and sum(n_syllables) <= 2 and sum(map(len, words)) > 4:
            return True
    return False


def _is_surname_beside(word: str, words: list[str]) -> bool:
    """Whether a surname that is a word of the field stands with one word of two syllables: Pan Qinghua."""
    return word in surnames() and len(words) == 2 and sum(map(len, words)) - len(word) >= _MIN_GIVEN


def _is_written_together(word: str) -> bool:
    if word in _not_names() or _is_technical(word):
        return False
    starts = (word[:n] for n in range(2, min(len(word) - 1, 9)) if word[:n] in surnames())
    return any(_n_syllables(word[len(start) :]) in (1, 2) for start in starts)


@lru_cache(maxsize=16384)
def _n_syllables(word: str) -> int:
    """The fewest pinyin syllables that spell a word; 0 when none do."""
    best = [0] + [99] * len(word)
    for end in range(1, len(word) + 1):
        for start in range(max(0, end - 6), end):
            if word[start:end] in syllables():
                best[end] = min(best[end], best[start] + 1)
    return best[-1] if best[-1] < 99 else 0


@lru_cache(maxsize=16384)
def _is_technical(word: str) -> bool:
    return clean_description(word) is not None or manufacturer_group(word) != "OTHER"


@cache
def _not_names() -> frozenset[str]:
    """Words of the field that are spelled like Chinese names."""
    words = "angle ban change fan gemini hamming hanning hu language luminance lung pan range"
    return frozenset(words.split())
