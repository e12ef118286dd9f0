"""Closed vocabularies for attributes that keep their text: vendors, models of devices, coding schemes, body parts.

What is not a word of schemas/deid/devices.yaml or coding_schemes.yaml may be a hospital, a room or a person. A model
keeps its known words and short designations (CT750, 1.5T); a scheme that nobody registered is told as a local one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any

import yaml

from radlake.deidentify.telltales import betrays_somebody
from radlake.resources import schemas_root
from radlake.vocab import body_part_term, manufacturer_group

__all__ = ["VOCABULARIES", "registered_schemes", "term_of"]

_DESIGNATION = re.compile(r"[A-Za-z]{0,3}\d{1,4}[A-Za-z]{0,3}(?:\d{1,2}[A-Za-z]{0,2})?|\d{1,2}\.\d{1,2}T?")
_LOCAL_SCHEME = "99LOCAL"


def term_of(vocabulary: str, text: str) -> str | None:
    """What a vocabulary lets stay of a text; None when nothing.

    >>> term_of("device_model", "uCT 760"), term_of("device_model", "JSPH scanner 3F"), term_of("vendor", "JSPH")
    ('uCT 760', 'scanner 3F', 'OTHER')
    >>> term_of("coding_scheme", "SCT"), term_of("coding_scheme", "99_JSPH_RIS")
    ('SCT', '99LOCAL')
    """
    return VOCABULARIES[vocabulary](text)


def _body_part(text: str) -> str | None:
    return text if body_part_term(text) else None


@lru_cache(maxsize=4096)
def _vendor(text: str) -> str:
    words = re.findall(r"[^\W_]+", text)
    is_known = bool(words) and all(word.casefold() in _vendor_words() for word in words)
    return text if is_known else manufacturer_group(text)


@lru_cache(maxsize=4096)
def _device_model(text: str) -> str | None:
    words = re.findall(r"[^\W_]+(?:\.\d+T?)?", text)
    if betrays_somebody(text):  # then no digits of it either
        kept = [word for word in words if word.casefold() in _model_words()]
    else:
        kept = [word for word in words if word.casefold() in _model_words() or _DESIGNATION.fullmatch(word)]
    return text if words and kept == words and text.isascii() else " ".join(kept) or None


def _coding_scheme(text: str) -> str:
    return text if text in registered_schemes() or text in _schemes()["private"] else _LOCAL_SCHEME


VOCABULARIES: Mapping[str, Callable[[str], str | None]] = {
    "body_part": _body_part,
    "coding_scheme": _coding_scheme,
    "device_model": _device_model,
    "vendor": _vendor,
}


@cache
def registered_schemes() -> frozenset[str]:
    """Designators of PS3.16 Table 8-1: the meanings of their codes are published."""
    return frozenset(_schemes()["registered"])


@cache
def _vendor_words() -> frozenset[str]:
    return frozenset(_devices()["vendors"].casefold().split())


@cache
def _model_words() -> frozenset[str]:
    return _vendor_words() | frozenset(_devices()["models"].casefold().split())


@cache
def _devices() -> Mapping[str, str]:
    return yaml.safe_load((schemas_root() / "deid" / "devices.yaml").read_text(encoding="utf-8"))


@cache
def _schemes() -> Mapping[str, Any]:
    return yaml.safe_load((schemas_root() / "deid" / "coding_schemes.yaml").read_text(encoding="utf-8"))
