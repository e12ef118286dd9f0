"""Elements as bytes and text: what is kept is never decoded, that is where the speed comes from.

Data sets come from `radlake.dicom.part10.read_instance`: explicit VR little endian, sequences parsed, text in UTF-8.
An element is raw until somebody looks at it; both forms are served. Built in memory it may be anything that pydicom
takes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import TypeAlias, cast

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from radlake.dicom.charset import choose_decoder
from radlake.dicom.part10 import encode_instance, read_bytes

__all__ = [
    "SINGLE_VALUED",
    "TEXT_VRS",
    "Element",
    "canonical",
    "dataset",
    "decoded",
    "dictionary_vr",
    "items_of",
    "raw_element",
    "sequence_element",
    "text_bytes",
    "text_of",
    "unshared",
]

Element: TypeAlias = DataElement | RawDataElement

TEXT_VRS = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"]
)
SINGLE_VALUED = frozenset(["LT", "ST", "UR", "UT"])  # a backslash is text in these (PS3.5 6.2)


@lru_cache(maxsize=16384)
def dictionary_vr(tag: int) -> str | None:
    """VR of PS3.6, None when the attribute is not known; "US or SS" where the standard leaves it open."""
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return None


def canonical(ds: Dataset) -> Dataset:
    """The data set as `read_instance` gives it or as built in memory; one that pydicom read is read anew."""
    is_ready = "notes" in ds.__dict__ or ds.original_encoding == (None, None)
    return ds if is_ready else read_bytes(encode_instance(ds))


def dataset(elements: Mapping[BaseTag, Element]) -> Dataset:
    """A data set or item of elements whose bytes are explicit VR little endian and UTF-8."""
    # A dose report has tens of thousands of items, and the assignments of pydicom's constructor were half of the work.
    ds = Dataset.__new__(Dataset)
    state, own = _blank_state()
    ds.__dict__.update(state)
    ds.__dict__.update((name, value.copy()) for name, value in own.items())
    ds.__dict__["_dict"] = elements
    return ds


@cache
def _blank_state() -> tuple[dict[str, object], dict[str, dict[str, object]]]:
    """State of an empty data set, and the part of it that no two may share."""
    ds = Dataset()
    ds.set_original_encoding(False, True, ["utf8"])
    return ds.__dict__, {name: value for name, value in ds.__dict__.items() if isinstance(value, dict)}


def raw_element(tag: int, vr: str, value: bytes) -> RawDataElement:
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    return RawDataElement(BaseTag(tag), vr, len(value), value, 0, False, True)


def sequence_element(tag: int, items: list[Dataset]) -> DataElement:
    return DataElement(BaseTag(tag), "SQ", Sequence(items), already_converted=True)


def unshared(elem: Element) -> Element:
    """The element as it is, such that a later change of one data set does not change the other."""
    return elem if isinstance(elem, RawDataElement) else copy.copy(elem)


def text_bytes(elem: Element) -> bytes:
    """The value of a text element in UTF-8, without padding; nothing behind a NUL is part of it."""
    value = elem.value
    if value is None:
        return b""
    if not isinstance(value, bytes):
        parts = value if isinstance(value, (MultiValue, list, tuple)) else [value]
        value = "\\".join(map(str, parts)).encode("utf-8", "replace")
    if b"\0" in value:
        value = value.split(b"\0", 1)[0]
    return value.rstrip(b" ")


def decoded(value: bytes) -> str:
    """UTF-8, or whatever it is when nobody recoded it."""
    if b"\x1b" not in value:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return choose_decoder([], [value])(value)


def text_of(ds: Dataset, tag: int) -> str:
    """Text of one attribute without padding; empty when it is absent. Several values keep their backslash."""
    elem = ds.get_item(tag)
    return "" if elem is None else decoded(text_bytes(cast(Element, elem))).strip()


def items_of(elem: Element | None) -> list[Dataset]:
    """Items of a sequence element; none when it is absent, empty or no sequence."""
    return list(elem.value) if elem is not None and isinstance(elem.value, Sequence) else []
