"""Whether the pixels of an instance may show who the patient is: decided from the header, without reading the pixels.

The rules are schemas/deid/pixel_risk.yaml. Ordinary images of detectors need no look; what a screen, a camera, a
scanner or an ultrasound console made does, whatever its header claims. What no look can clear is for a person.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

import yaml
from pydicom import Dataset

from radlake.dicom.values import is_present, number, texts
from radlake.resources import schemas_root

__all__ = [
    "HEADER_TAGS",
    "Judgement",
    "Verdict",
    "has_embedded_overlay",
    "is_acquired",
    "is_radiograph",
    "judge",
    "load_risk_rules",
]

_TRANSFER_SYNTAX = 0x00020010
_IMAGE_TYPE = 0x00080008
_SOP_CLASS = 0x00080016
_MODALITY = 0x00080060
_CONVERSION_TYPE = 0x00080064
_SERIES_DESCRIPTION = 0x0008103E
_POSITION = 0x00200032
_PHOTOMETRIC = 0x00280004
_STORED = 0x00280101
_BURNED_IN = 0x00280301
_LABEL_IN_IMAGE = 0x00480010
_FEW_BITS = 8
_PIXELS = (0x7FE00010, 0x7FE00008, 0x7FE00009)

HEADER_TAGS = frozenset(
    [
        _TRANSFER_SYNTAX,
        _IMAGE_TYPE,
        _SOP_CLASS,
        _MODALITY,
        _CONVERSION_TYPE,
        _SERIES_DESCRIPTION,
        _POSITION,
        _PHOTOMETRIC,
        _STORED,
        _BURNED_IN,
        _LABEL_IN_IMAGE,
        *(0x60000102 | group << 17 for group in range(16)),
    ]
)
"""What `judge` reads, all at the top level, beside the presence of pixels: equal values give an equal verdict.

Of Image Position (Patient) only whether it has a value.
"""


class Verdict(StrEnum):
    """What the pixels of an instance need."""

    CLEAN = "clean"  # a glance at the most
    LOOK = "look"  # decode, find text, mask it
    HUMAN = "human"  # a person decides


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and the rule that gave it; never a value of the data set."""

    verdict: Verdict
    reason: str = ""


_CLEAN = Judgement(Verdict.CLEAN)


def judge(ds: Dataset) -> Judgement:
    """What the pixels need, from the top level of the header and the file meta information."""
    if not any(tag in ds for tag in _PIXELS):
        return _CLEAN
    rules = load_risk_rules()
    sop_class = _text(ds, _SOP_CLASS)
    if sop_class in rules["computed"] and _text(ds, _BURNED_IN).upper() != "YES" and not has_embedded_overlay(ds):
        return _CLEAN
    return _for_a_person(ds, sop_class, rules) or _for_a_look(ds, sop_class, rules) or _CLEAN


def is_acquired(ds: Dataset) -> bool:
    """Whether by its class its pixels come from a detector: these get a glance although the header clears them."""
    return _text(ds, _SOP_CLASS) in load_risk_rules()["acquired"]


def is_radiograph(ds: Dataset) -> bool:
    """Whether it is one of those of which every instance gets a glance by itself."""
    return _text(ds, _SOP_CLASS) in load_risk_rules()["radiograph_classes"]


def _for_a_person(ds: Dataset, sop_class: str, rules: Mapping[str, Any]) -> Judgement | None:
    """What no detector of text can clear."""
    syntax = _text(getattr(ds, "file_meta", Dataset()), _TRANSFER_SYNTAX)
    if syntax.startswith(rules["video_transfer_syntaxes"]):
        return Judgement(Verdict.HUMAN, "a video")
    if _text(ds, _LABEL_IN_IMAGE).upper() == "YES":
        return Judgement(Verdict.HUMAN, "Specimen Label in Image is YES")
    if not rules["handwriting_words"].isdisjoint(_words(ds)):
        return Judgement(Verdict.HUMAN, "Image Type tells of paper or a label, with handwriting")
    if _text(ds, _CONVERSION_TYPE).upper() in rules["paper_conversion_types"]:
        return Judgement(Verdict.HUMAN, "Conversion Type tells of scanned paper, with handwriting")
    if _text(ds, _MODALITY).upper() in rules["face_modalities"] or sop_class in rules["face_classes"]:
        return Judgement(Verdict.HUMAN, "a photograph, which may show a face")
    return None


def _for_a_look(ds: Dataset, sop_class: str, rules: Mapping[str, Any]) -> Judgement | None:
    """What may hold text in its pixels."""
    flag = _text(ds, _BURNED_IN).upper()
    reason = ""
    acquired = rules["acquired"].get(sop_class)
    modality = _text(ds, _MODALITY).upper()
    description = _text(ds, _SERIES_DESCRIPTION).casefold().replace("_", " ")
    if flag == "YES":
        reason = "Burned In Annotation is YES"
    elif has_embedded_overlay(ds):
        reason = "an overlay is embedded in the pixels"
    elif acquired is None:
        reason = "the SOP class may show text of a screen, a camera or a scan"
    elif modality and modality not in acquired["modalities"]:
        reason = "the modality does not belong to the SOP class"
    elif not rules["image_type_words"].isdisjoint(_words(ds)):
        reason = "Image Type tells of a screen, a report or a scan"
    elif _text(ds, _CONVERSION_TYPE).upper() in rules["conversion_types"]:
        reason = "Conversion Type tells of a secondary capture"
    elif any(word in description for word in rules["description_words"]):
        reason = "Series Description tells of a screen, a report or a scan"
    elif (
        _text(ds, _PHOTOMETRIC).upper() not in rules["grey_photometric_interpretations"]
        and sop_class not in rules["colour_classes"]
    ):
        reason = "colour in a class of grey values"
    elif flag != "NO":
        reason = _unflagged_risk(ds, sop_class, rules)
    return Judgement(Verdict.LOOK, reason) if reason else None


def _unflagged_risk(ds: Dataset, sop_class: str, rules: Mapping[str, Any]) -> str:
    """Risks of detector images that do not say of themselves that nothing is burned in."""
    if sop_class in rules["marked_classes"]:
        return "a radiograph may hold film markers, and nothing says that it does not"
    if sop_class not in rules["slice_classes"]:
        return ""
    words = _words(ds)
    if sop_class in rules["scout_classes"] and not rules["scout_words"].isdisjoint(words):
        return "a scout view may be annotated"
    if "DERIVED" in words and not is_present(ds, _POSITION):
        return "a derived image without a position in the patient may be a screen"
    return "few grey values for a slice" if 0 < _number(ds, _STORED) <= _FEW_BITS else ""


def _words(ds: Dataset) -> set[str]:
    return set(re.split(r"[^A-Z]+", _text(ds, _IMAGE_TYPE).upper()))


def has_embedded_overlay(ds: Dataset) -> bool:
    """Whether a bit of the pixels is an overlay (PS3.5 8.1.2, retired): it stays when the overlay group goes."""
    tags = (tag for tag in set(ds.keys()) if tag >> 16 & 0xFF01 == 0x6000 and tag & 0xFFFF == 0x0102)
    return any(_number(ds, tag) > 0 for tag in tags)


def _number(ds: Dataset, tag: int) -> int:
    """The number of an attribute: 0 when it is absent, 1 when it is no number."""
    try:
        return number(ds, tag) or 0
    except ValueError:
        return 1


def _text(ds: Dataset, tag: int) -> str:
    return "\\".join(texts(ds, tag))


@cache
def load_risk_rules() -> Mapping[str, Any]:
    """schemas/deid/pixel_risk.yaml, its lists as sets."""
    rules = yaml.safe_load((schemas_root() / "deid" / "pixel_risk.yaml").read_text(encoding="utf-8"))
    sets = {key: frozenset(rules[key]) for key in rules if isinstance(rules[key], list)}
    return rules | sets | {"video_transfer_syntaxes": tuple(rules["video_transfer_syntaxes"])}
