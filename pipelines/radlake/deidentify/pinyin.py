"""Chinese names as consoles romanise them: 王秀兰 is WangXiulan where the console cannot write Chinese.

A data set often tells the name in Chinese only and repeats it in pinyin where it does not belong. Readings are
schemas/deid/pinyin.yaml; a name with a character that has none is not romanised.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from itertools import islice, product
from typing import Any

import yaml

from radlake.resources import schemas_root

__all__ = ["readings", "romanised", "spelled", "spelling", "surname_readings", "surnames", "syllables"]

_MAX_READINGS = 16


@lru_cache(maxsize=1024)
def romanised(name: str) -> frozenset[str]:
    """Every usual way to write a Chinese name in letters, without spaces: surname first and surname last.

    >>> sorted(romanised("李娜"))
    ['lina', 'nali']
    >>> sorted(romanised("吕敏")), romanised("Smith")
    (['lumin', 'lvmin', 'lyumin', 'minlu', 'minlv', 'minlyu'], frozenset())
    """
    readings = [_readings().get(char, ()) for char in name]
    if len(name) < 2 or not all(readings):
        return frozenset()
    written = set()
    for syllables in islice(product(*readings), _MAX_READINGS):
        written.add("".join(syllables))
        for n_surname in (1, 2) if len(name) > 2 else (1,):
            written.add("".join(syllables[n_surname:] + syllables[:n_surname]))
    return frozenset(written)


@lru_cache(maxsize=1024)
def spelled(text: str) -> frozenset[str]:
    """A Chinese text in letters, and its initials: a hospital is often a word like SZSLDYYY on its consoles.

    >>> sorted(spelled("样例医院")), sorted(spelled("藏医院"))
    (['yangliyiyuan', 'ylyy'], ['cangyiyuan', 'cyy', 'zangyiyuan', 'zyy'])
    """
    readings = [_readings().get(char, ()) for char in text]
    if not text or not all(readings):
        return frozenset()
    initials = [sorted({form[0] for form in forms}) for forms in readings]
    return frozenset("".join(parts) for of in (readings, initials) for parts in islice(product(*of), _MAX_READINGS))


def readings(char: str) -> tuple[str, ...]:
    """Readings of one character, the commoner one first; ü in its three ways. Empty when none is known.

    >>> readings("李"), readings("娜")
    (('li',), ('na',))
    """
    return _readings().get(char, ())


@lru_cache(maxsize=1024)
def spelling(word: str) -> tuple[str, ...]:
    """The fewest syllables of Hanyu Pinyin that spell a word; the word itself when none do.

    >>> spelling("Guoxia"), spelling("John")
    (('Guo', 'xia'), ('John',))
    """
    folded = word.lower()
    best: list[tuple[str, ...] | None] = [(), *[None] * len(folded)]
    for end in range(1, len(folded) + 1):
        for start in range(max(0, end - 6), end):
            before, now = best[start], best[end]
            if before is not None and folded[start:end] in syllables() and (now is None or len(before) + 1 < len(now)):
                best[end] = (*before, word[start:end])
    return best[-1] or (word,)


@cache
def surname_readings() -> Mapping[str, tuple[str, ...]]:
    """Syllables of surnames of one or two characters that are read otherwise than elsewhere.

    >>> surname_readings()["单"], surname_readings()["尉迟"]
    (('shan',), ('yu', 'chi'))
    """
    return {name: tuple(read.split()) for name, read in _spec()["surname_readings"].items()}


@cache
def surnames() -> frozenset[str]:
    """Surnames in letters."""
    return frozenset(_spec()["surnames"].split())


@cache
def syllables() -> frozenset[str]:
    """All syllables of Hanyu Pinyin, ü in its three ways."""
    return frozenset(form for forms in _readings().values() for form in forms)


@cache
def _spec() -> Mapping[str, Any]:
    return yaml.safe_load((schemas_root() / "deid" / "pinyin.yaml").read_text(encoding="utf-8"))


@cache
def _readings() -> Mapping[str, tuple[str, ...]]:
    """Readings of a character; ü is written v, u or yu."""
    spec = _spec()
    starts = [(entry[-1].encode("gb2312"), entry[:-1]) for entry in spec["first_of_syllable"].split()]
    readings: dict[str, list[str]] = {}
    for (start, syllable), (end, _) in zip(starts, [*starts[1:], (b"\xd7\xfa", "")], strict=True):
        for code in range(int.from_bytes(start, "big"), int.from_bytes(end, "big")):
            if code & 0xFF > 0xA0 and code & 0xFF < 0xFF:
                readings.setdefault(code.to_bytes(2, "big").decode("gb2312"), []).append(syllable)
    for syllable, chars in spec["readings"].items():
        for char in chars:
            readings.setdefault(char, []).append(syllable)
    return {char: tuple(form for syllable in found for form in _forms(syllable)) for char, found in readings.items()}


def _forms(syllable: str) -> tuple[str, ...]:
    return (syllable, syllable.replace("v", "u"), syllable.replace("v", "yu")) if "v" in syllable else (syllable,)
