"""Single values of a data set, without decoding more than is asked for and without raising on nonsense."""

from __future__ import annotations

import re
from collections.abc import Sized
from datetime import date, time
from functools import lru_cache
from typing import Any

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

__all__ = ["date_from_text", "first_text", "is_present", "number", "texts", "time_from_text"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,12}")  # PS3.5 6.2, IS
_DATE = re.compile(r"\s*(\d{4})([.-]?)(\d{2})\2(\d{2})", re.ASCII)
_WIDTHS = {"US": 2, "SS": 2, "UL": 4, "SL": 4}


def is_present(ds: Dataset, tag: int) -> bool:
    """Whether the element is there with a value."""
    value = _value(ds, tag)
    return value is not None and (not isinstance(value, Sized) or len(value) > 0)


def texts(ds: Dataset, tag: int) -> list[str]:
    """The values as text without padding."""
    value = _value(ds, tag)
    if value is None or value in (b"", ""):
        return []
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace").split("\\")
    return [str(part).strip(" \0") for part in (value if isinstance(value, (list, MultiValue)) else [value])]


def first_text(ds: Dataset, tag: int) -> str:
    """The first value as text without padding; empty when there is none."""
    return next(iter(texts(ds, tag)), "")


@lru_cache(maxsize=256)
def date_from_text(text: str) -> date | None:
    """The date of a DA or DT, also with the dots of ACR-NEMA or with hyphens (PS3.5 6.2); None when it is none.

    >>> date_from_text("20260301"), date_from_text("2026.03.01"), date_from_text("20260230")
    (datetime.date(2026, 3, 1), datetime.date(2026, 3, 1), None)
    """
    found = _DATE.match(text)
    try:
        return date(int(found[1]), int(found[3]), int(found[4])) if found else None
    except ValueError:
        return None


def time_from_text(text: str) -> time | None:
    """A time of VR TM, as far as it is given (PS3.5 6.2), or of ACR-NEMA (10:30:00); None when it is none.

    >>> time_from_text("103000.123"), time_from_text("10"), time_from_text("morning")
    (datetime.time(10, 30), datetime.time(10, 0), None)
    """
    digits = text.strip().replace(":", "").partition(".")[0]
    if len(digits) not in (2, 4, 6) or not digits.isdecimal():
        return None
    try:
        return time(int(digits[:2]), int(digits[2:4] or 0), int(digits[4:6] or 0))
    except ValueError:
        return None


def number(ds: Dataset, tag: int) -> int | None:
    """A whole number, written as US, UL, SS, SL or as text of digits; None when it is absent.

    Raises
    ------
    ValueError
        If there is something else, or more than one value. The message does not quote it.
    """
    element = ds.get_item(tag) if tag in ds else None
    value: Any = element.value if element is not None else None
    if value is None or value in (b"", ""):
        return None
    if isinstance(element, RawDataElement):
        width = _WIDTHS.get(str(element.VR))
        if width is None:
            return _integer(value.decode("ascii", errors="replace"))
        if len(value) != width:
            raise ValueError("not one number")
        return int.from_bytes(value, "little", signed=str(element.VR).startswith("S"))
    return _integer(str(value))


def _integer(text: str) -> int:
    text = text.strip(" \0")
    if not _INTEGER.fullmatch(text):
        raise ValueError("not one number")
    return int(text)


def _value(ds: Dataset, tag: int) -> Any:
    element = ds.get_item(tag) if tag in ds else None
    return None if element is None else element.value
