"""Single values against the vocabulary: defined terms of coded attributes, and vendors.

Coded attributes are misused for free text (PS3.15 E.3.5 warns of it): only what is on a list is a value.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache

from radlake.vocab.load import UNKNOWN, vocabulary

__all__ = ["body_part_term", "manufacturer_group", "modality_group", "modality_group_of", "modality_term"]


def body_part_term(text: str) -> str | None:
    """The defined term of Body Part Examined (PS3.16 Annex L) that a value spells; None when it is not one.

    >>> body_part_term("c_spine"), body_part_term("WANG XIULAN")
    ('CSPINE', None)
    """
    term = _squeezed(text)
    return term if term in vocabulary().defined_terms else None


def modality_term(text: str) -> str:
    """A listed term of Modality (PS3.3 C.7.3.1.1.1), UNKNOWN for anything else."""
    term = text.strip().upper()
    return term if term in vocabulary().group_of_modality else UNKNOWN


def modality_group_of(terms: Iterable[str]) -> str:
    """Leading modality group of listed terms, in the order of schemas/vocab/modalities.yaml."""
    known = vocabulary()
    groups = {known.group_of_modality[term] for term in terms if term != UNKNOWN}
    return next((group for group in known.group_precedence if group in groups), UNKNOWN)


def modality_group(modalities: Iterable[str]) -> str:
    """Leading modality of a study that is known by its Modalities in Study (0008,0061) only.

    >>> modality_group(["SR", "CT", "PT"]), modality_group(["?"])
    ('PT', 'UNKNOWN')
    """
    return modality_group_of(map(modality_term, modalities))


@lru_cache(maxsize=1024)
def manufacturer_group(text: str) -> str:
    """The vendor of a Manufacturer value, OTHER when it is not on the list, UNKNOWN when it is empty.

    >>> manufacturer_group("GE MEDICAL SYSTEMS"), manufacturer_group("UIH (某某医院)"), manufacturer_group("张三")
    ('GE', 'UIH', 'OTHER')
    """
    value = unicodedata.normalize("NFKC", text).upper()
    if not value.strip():
        return UNKNOWN
    any_vendor, vendors = _vendors()
    if any_vendor.search(value) is None:  # most texts: a hundred times as fast as one vendor after another
        return "OTHER"
    return next(group for pattern, group in vendors if pattern.search(value))


@cache
def _vendors() -> tuple[re.Pattern[str], list[tuple[re.Pattern[str], str]]]:
    """What finds any vendor, and what finds each, with its group."""
    groups = {" ".join(words): group for words, group in vocabulary().vendors.items()}
    return _one_of(groups), [(_one_of([name]), group) for name, group in groups.items()]


def _one_of(names: Iterable[str]) -> re.Pattern[str]:
    """A Chinese name stands anywhere, one in letters as words of its own."""
    chinese = [re.escape(name) for name in names if name[0] > "\u3400"]
    letters = [re.escape(name) for name in names if name[0] <= "\u3400"]
    patterns = [*chinese, rf"(?<![^\W_])(?:{'|'.join(letters)})(?![^\W_])"] if letters else chinese
    return re.compile("|".join(patterns))


def _squeezed(text: str) -> str:
    return re.sub(r"[\s_\-/.]+", "", unicodedata.normalize("NFKC", text)).upper()
