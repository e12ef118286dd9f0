"""Whether the pixels of an instance may show who the patient is; pixels themselves are never changed here.

The rules are schemas/deid/pixel_risk.yaml. Ordinary images of detectors pass; what a screen, a camera, a scanner or an
ultrasound console made does not, whatever its header claims.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import yaml
from pydicom import Dataset

from radlake.deidentify.elements import Element, text_of
from radlake.resources import schemas_root

__all__ = ["pixel_risk"]

_SOP_CLASS = 0x00080016
_IMAGE_TYPE = 0x00080008
_MODALITY = 0x00080060
_CONVERSION_TYPE = 0x00080064
_SERIES_DESCRIPTION = 0x0008103E
_PHOTOMETRIC = 0x00280004
_BURNED_IN = 0x00280301
_LABEL_IN_IMAGE = 0x00480010
_PIXELS = (0x7FE00010, 0x7FE00008, 0x7FE00009)


def pixel_risk(ds: Dataset) -> str | None:
    """Why the pixels may show a name, None when they cannot or there are none.

    The reason names the rule, never a value of the data set.
    """
    if not any(tag in ds for tag in _PIXELS):
        return None
    rules = _rules()
    if text_of(ds, _BURNED_IN).upper() == "YES":
        return "Burned In Annotation is YES"
    if _has_embedded_overlay(ds):
        return "an overlay is embedded in the pixels"
    sop_class = text_of(ds, _SOP_CLASS)
    if sop_class in rules["computed"]:
        return None
    acquired = rules["acquired"].get(sop_class)
    if acquired is None:
        return "the SOP class may show text of a screen, a camera or a scan"
    modality = text_of(ds, _MODALITY).upper()
    if modality and modality not in acquired["modalities"]:
        return "the modality does not belong to the SOP class"
    image_type = text_of(ds, _IMAGE_TYPE).upper()
    if not set(re.split(r"[^A-Z]+", image_type)).isdisjoint(rules["image_type_words"]):
        return "Image Type tells of a screen, a report or a scan"
    if text_of(ds, _CONVERSION_TYPE).upper() in rules["conversion_types"]:
        return "Conversion Type tells of a secondary capture"
    description = text_of(ds, _SERIES_DESCRIPTION).casefold().replace("_", " ")
    if any(word in description for word in rules["description_words"]):
        return "Series Description tells of a screen, a report or a scan"
    photometric = text_of(ds, _PHOTOMETRIC).upper()
    if photometric not in rules["grey_photometric_interpretations"] and sop_class not in rules["colour_classes"]:
        return "colour in a class of grey values"
    if text_of(ds, _LABEL_IN_IMAGE).upper() == "YES":
        return "Specimen Label in Image is YES"
    return None


def _has_embedded_overlay(ds: Dataset) -> bool:
    """Whether a bit of the pixels is an overlay (PS3.5 8.1.2, retired): it stays when the overlay group goes."""
    positions = (elem.tag for elem in ds.values() if elem.tag >> 16 & 0xFF01 == 0x6000 and elem.tag & 0xFFFF == 0x0102)
    return any(_number(ds, tag) > 0 for tag in positions)


def _number(ds: Dataset, tag: int) -> int:
    elem = cast(Element | None, ds.get_item(tag)) if tag in ds else None
    value = elem.value if elem is not None else None
    if isinstance(value, bytes):
        return int.from_bytes(value[:2], "little")
    return value if isinstance(value, int) else 0


@cache
def _rules() -> Mapping[str, Any]:
    rules = yaml.safe_load((schemas_root() / "deid" / "pixel_risk.yaml").read_text(encoding="utf-8"))
    return rules | {key: frozenset(rules[key]) for key in rules if isinstance(rules[key], list)}
