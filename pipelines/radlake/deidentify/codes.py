"""Meanings of codes: text that people read, and therefore a place where names hide.

A code that the standard or SNOMED CT defines has the meaning that they give it. A code of a registered scheme keeps its
meaning in ASCII. The meaning of a local code is free text of the hospital and is cleaned like any other.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

import yaml

from radlake.resources import schemas_root
from radlake.vocab import clean_description

__all__ = ["clean_meaning"]

_REMOVED = "REMOVED"
_LO_LENGTH = 64


@lru_cache(maxsize=4096)
def clean_meaning(meaning: str, *, value: str, scheme: str) -> str:
    """Code Meaning (0008,0104) that names nobody (PS3.3 8.8).

    >>> clean_meaning("Source WangXiulan", value="121322", scheme="DCM")
    'Source image for image processing operation'
    >>> clean_meaning("finding", value="121071", scheme="DCM")
    'finding'
    >>> clean_meaning("胸部平扫 王秀兰", value="CT01", scheme="99HIS")
    '胸部平扫'
    """
    if scheme not in _registered():
        return clean_description(meaning) or _REMOVED
    official = _official_meanings().get((scheme, value))
    if official is not None:
        # Brain for "Brain structure (body structure)" is well said; a word that is not in it may be a name.
        return meaning if _words(meaning) <= _words(official) else _without_semantic_tag(official)[:_LO_LENGTH]
    if meaning.isascii():
        return meaning
    return clean_description(meaning) or value or _REMOVED


def _words(meaning: str) -> set[str]:
    return set(re.findall(r"\w+", meaning.casefold()))


def _without_semantic_tag(meaning: str) -> str:
    return re.sub(r" \([a-z ]+\)$", "", meaning)


@cache
def _registered() -> frozenset[str]:
    path = schemas_root() / "deid" / "coding_schemes.yaml"
    return frozenset(yaml.safe_load(path.read_text(encoding="utf-8"))["registered"])


@cache
def _official_meanings() -> dict[tuple[str, str], str]:
    """(scheme, value) to meaning: PS3.16 as pydicom carries it. Half a second, so only when a code is met."""
    from pydicom.sr._concepts_dict import concepts
    from pydicom.sr._snomed_dict import mapping

    meanings = {
        (scheme, value): meaning
        for scheme, keywords in concepts.items()
        for codes in keywords.values()
        for value, (meaning, *_) in codes.items()
    }
    for srt, sct in mapping["SRT"].items():
        if (meaning := meanings.get(("SCT", sct))) is not None:
            meanings["SRT", srt] = meanings["SNM3", srt] = meaning
    return meanings
