"""Meanings of codes: text that people read, and therefore a place where names hide.

A code that the standard or SNOMED CT defines has the meaning that they give it. A code of a registered scheme keeps its
meaning in ASCII. The meaning of a local code is free text of the hospital and is cleaned like any other.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

from pydicom.sr._concepts_dict import concepts

from radlake.deidentify.telltales import betrays_somebody
from radlake.deidentify.terms import registered_schemes
from radlake.vocab import clean_description

__all__ = ["clean_meaning", "is_code"]

_REMOVED = "REMOVED"
_LO_LENGTH = 64
# Multiplication in the dihedral group of order 10, and the permutation by position (Verhoeff 1969).
_VERHOEFF = [[int(d) for d in row] for row in (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)]  # fmt: skip
_PERMUTED = [[int(d) for d in row] for row in (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)]  # fmt: skip


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
    if scheme not in registered_schemes():
        return clean_description(meaning) or _REMOVED
    official = _official_meanings(scheme).get(value)
    if official is not None:
        # Brain for "Brain structure (body structure)" is well said; a word that is not in it may be a name.
        return meaning if _words(meaning) <= _words(official) else _without_semantic_tag(official)[:_LO_LENGTH]
    if meaning.isascii() and not betrays_somebody(meaning):
        return meaning
    return clean_description(meaning) or _REMOVED


def is_code(value: str, *, scheme: str) -> bool:
    """Whether a value is a code of a registered scheme, although it may look like a number of somebody.

    >>> is_code("39607008", scheme="SCT"), is_code("13800138000", scheme="SCT"), is_code("13800138000", scheme="99HIS")
    (True, False, False)
    """
    if scheme not in registered_schemes():
        return False
    return value in _official_meanings(scheme) or (scheme == "SCT" and _is_sctid(value))


def _is_sctid(value: str) -> bool:
    """Check digit and partition of a SNOMED CT identifier of a concept (Verhoeff's dihedral check)."""
    if not re.fullmatch(r"[1-9]\d{5,17}", value) or value[-3:-1] not in ("00", "10"):
        return False
    check = 0
    for position, digit in enumerate(reversed(value)):
        check = _VERHOEFF[check][_PERMUTED[position % 8][int(digit)]]
    return check == 0


def _words(meaning: str) -> set[str]:
    return set(re.findall(r"\w+", meaning.casefold()))


def _without_semantic_tag(meaning: str) -> str:
    return re.sub(r" \([a-z ]+\)$", "", meaning)


@cache
def _official_meanings(scheme: str) -> dict[str, str]:
    """Value to meaning: PS3.16 as pydicom carries it. SNOMED CT takes a while, so only when a code of it is met."""
    meanings = {value: names[0] for codes in concepts.get(scheme, {}).values() for value, names in codes.items()}
    if scheme in ("SRT", "SNM3"):
        from pydicom.sr._snomed_dict import mapping

        snomed = _official_meanings("SCT")
        meanings |= {srt: snomed[sct] for srt, sct in mapping["SRT"].items() if sct in snomed}
    return meanings
