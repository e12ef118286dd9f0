"""One name in the forms that hospitals write it in: 劉曉梅, 刘晓梅, Liu^Xiaomei, XIAO MEI LIU.

A name is compared in two forms: its Chinese characters, simplified, and its sound, the syllables of Hanyu Pinyin
without tones in alphabetical order, so that spacing and the order of surname and given name do not count. Who reads a
character with another reading writes another sound; a surname has the reading of surnames (单 is shan, 尉迟 is yu chi).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache

from radlake.deidentify.person import names_nobody
from radlake.deidentify.pinyin import readings, surname_readings, surnames, syllables

__all__ = ["Name", "name_from_texts"]

_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
# What wards write of a child who has no name yet: 王芳之子, 王芳女婴, 王芳双A, Baby of Wang Fang. Nobody's own name.
_NEWBORN = re.compile(r"..(之[长次大小]?[子女婴]|[男女]?婴儿?|新生儿|双?[A-D甲乙丙])$")
_NEWBORN_LATIN = re.compile(r"\b(BABY|NEWBORN|INFANT|(BOY|GIRL|SON|DAUGHTER) OF)\b", re.IGNORECASE)
_MARKS = re.compile(r"[\s^=,._\-·•'’\"()（）\d*]+")
_LONGEST_SYLLABLE = 6


@dataclass(frozen=True, repr=False)
class Name:
    """A person's name, normalised; it has no repr, because it identifies.

    Attributes
    ----------
    zh : str
        Simplified characters without marks; empty when no Chinese form was written.
    sound : str
        Syllables of pinyin in alphabetical order, joined by spaces; letters that are no pinyin stay as words.
    is_newborn : bool
        The child of somebody, who has no name of its own yet.
    """

    zh: str
    sound: str
    is_newborn: bool


@lru_cache(maxsize=65536)
def name_from_texts(texts: tuple[str, ...]) -> Name | None:
    """The name of values of Patient's Name (PN, PS3.5 6.2.1); None when they name nobody.

    >>> one, other = name_from_texts(("LIU^XIAOMEI=劉^曉梅",)), name_from_texts(("Xiao Mei Liu",))
    >>> one.zh, one.sound == other.sound, other.sound
    ('刘晓梅', True, 'liu mei xiao')
    >>> name_from_texts(("无名氏",)), name_from_texts(("UNKNOWN^PATIENT",)), name_from_texts(("王芳之子",)).is_newborn
    (None, None, True)
    """
    groups = [group for text in texts for group in unicodedata.normalize("NFKC", text).split("=")]
    groups = [group for group in groups if not _is_nobody(group)]
    chinese = sorted({zh for group in groups if (zh := "".join(_HAN.findall(group)))})
    latin = sorted({group for group in groups if not _HAN.search(group)})
    is_newborn = any(_is_newborn(group) for group in groups)
    zh = _simplified(chinese[0]) if chinese else ""
    sound = _sound_of_han(zh) or next((found for group in latin if (found := _sound_of_letters(group))), "")
    if len(zh) < 2 and len(sound.replace(" ", "")) < 3:
        return None
    return Name(zh if len(zh) >= 2 else "", sound, is_newborn)


def _is_nobody(group: str) -> bool:
    words = [word for word in _MARKS.split(group.upper()) if word]
    return not words or names_nobody("".join(words)) or all(len(word) > 1 and names_nobody(word) for word in words)


def _is_newborn(group: str) -> bool:
    if _HAN.search(group):
        return _NEWBORN.search("".join(char for char in group if char.isalpha())) is not None
    return _NEWBORN_LATIN.search(_MARKS.sub(" ", group)) is not None


def _sound_of_han(zh: str) -> str:
    """Empty when a character has no known reading: half a sound is another person's."""
    surname = next((name for name in (zh[:2], zh[:1]) if name in surname_readings()), "")
    rest = [_reading(char, is_surname=place == 0) for place, char in enumerate(zh) if place >= len(surname)]
    read = [*surname_readings().get(surname, ()), *rest]
    return " ".join(sorted(_plain_syllable(one) for one in read)) if all(read) and len(read) > 1 else ""


def _sound_of_letters(group: str) -> str:
    plain = unicodedata.normalize("NFD", group).encode("ascii", "ignore").decode()
    words = [word.lower() for word in _MARKS.split(plain) if word]
    return " ".join(sorted(part for word in words for part in _syllables_of(word)))


@lru_cache(maxsize=65536)
def _syllables_of(word: str) -> tuple[str, ...]:
    """The fewest syllables that a word is made of, the longest ones first; the word itself when it is no pinyin.

    NANA is na na: a syllable that begins with a vowel would have a mark before it (nan'a; 汉语拼音方案, 1958, 5).
    """
    if not word:
        return ()
    best: list[tuple[str, ...] | None] = [(), *[None] * len(word)]
    for end in range(1, len(word) + 1):
        starts = range(max(0, end - _LONGEST_SYLLABLE), end)
        splits = [(*before, word[start:end]) for start in starts if (before := best[start]) is not None]
        known = [split for split in splits if split[-1] in syllables()]
        best[end] = min(known, key=_split_order, default=None)
    return tuple(map(_plain_syllable, best[-1] or (word,)))


def _split_order(split: tuple[str, ...]) -> tuple[int, int, list[int]]:
    n_unmarked = sum(part[0] in "aoe" for part in split[1:])
    return n_unmarked, len(split), [-len(part) for part in split]


def _plain_syllable(syllable: str) -> str:
    """ü is written v, u or yu: 吕 is lv, lu and lyu."""
    return re.sub(r"^([ln])(v|yu)(?=$|e)", r"\1u", syllable)


@cache
def _reading(char: str, *, is_surname: bool) -> str:
    found = readings(char)
    if not found:
        from pypinyin import lazy_pinyin  # 0.1 s of import, for rare characters only

        told = lazy_pinyin(char, errors="ignore")
        return told[0] if told else ""
    return next((one for one in found if is_surname and one in surnames()), found[0])


@cache
def _converter() -> object:
    from opencc import OpenCC  # pyright: ignore[reportMissingImports]

    return OpenCC("t2s")


def _simplified(zh: str) -> str:
    return _converter().convert(zh)  # pyright: ignore[reportAttributeAccessIssue]
