"""Dates and times of one person, moved together by one constant (PS3.15 E.3.6, Retain Longitudinal ... Modified Dates).

Every interval survives: between the exams of a person, between injection and scan, across midnight. A value that is no
date or time (PS3.5 6.2) gives None; what then happens to its attribute is the profile's business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache, lru_cache

from pydicom.datadict import dictionary_keyword, tag_for_keyword

from radlake.deidentify.elements import dictionary_vr

__all__ = ["OLDEST", "Shift", "cap_age", "time_tag_of"]

OLDEST = 90  # years; few persons are older

_SECONDS_OF_DAY = 86_400
# DA and TM as PS3.5 writes them, and with the marks of ACR-NEMA and of consoles.
_DATE = re.compile(r"(\d{4})([.\-/]?)(\d{2})\2(\d{2})")
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.(\d{1,6}))?)?)?")
_DATETIME = re.compile(r"(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(?:\.(\d{1,6}))?([+-]\d{4})?")
_AGE = re.compile(r"(\d{3})([DWMY])")


@dataclass(frozen=True, slots=True)
class Shift:
    """The constant of one person: whole days into the past, and seconds of the clock into the future."""

    days: int
    seconds: int

    def of_date(self, value: str, *, time: str = "") -> str | None:
        """Shift a DA; the time that belongs to it decides whether midnight is passed.

        >>> Shift(-10, 30).of_date("20240301", time="235945")
        '20240221'
        """
        seconds = _seconds_of(time)
        carried = 0 if seconds is None else (seconds + self.seconds) // _SECONDS_OF_DAY
        return _moved_date(value, self.days + carried)

    def of_time(self, value: str) -> str | None:
        """Shift a TM; the precision stays.

        >>> Shift(-10, 30).of_time("235945.123")
        '000015.123'
        """
        return _moved_time(value, self.seconds)

    def of_datetime(self, value: str) -> str | None:
        """Shift a DT; precision and offset from UTC stay.

        >>> Shift(-10, 30).of_datetime("20240301235945+0800"), Shift(-10, 30).of_datetime("2024")
        ('20240221000015+0800', '2023')
        """
        found = _DATETIME.fullmatch(value.strip())
        if not found:
            return None
        year, month, day, hour, minute, second = (int(part) if part else None for part in found.groups()[:6])
        try:
            start = datetime(year or 0, month or 1, day or 1, hour or 0, minute or 0, min(second or 0, 59))
            moved = start + timedelta(days=self.days, seconds=self.seconds if hour is not None else 0)
        except (ValueError, OverflowError):
            return None
        text = f"{moved.year:04d}{moved.month:02d}{moved.day:02d}{moved.hour:02d}{moved.minute:02d}{moved.second:02d}"
        n_digits = sum(len(part) for part in found.groups()[:6] if part)
        return text[:n_digits] + (f".{found[7]}" if found[7] else "") + (found[8] or "")


# The same moment stands in several attributes of an instance, the same day in all of a series: hence the caches.


@lru_cache(maxsize=256)
def _moved_date(value: str, days: int) -> str | None:
    found = _DATE.fullmatch(value.strip())
    if not found:
        return None
    try:
        moved = date(int(found[1]), int(found[3]), int(found[4])) + timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return f"{moved.year:04d}{moved.month:02d}{moved.day:02d}"


@lru_cache(maxsize=256)
def _moved_time(value: str, seconds: int) -> str | None:
    start, found = _seconds_of(value), _TIME.fullmatch(value.strip())
    if start is None or found is None:
        return None
    minutes, second = divmod((start + seconds) % _SECONDS_OF_DAY, 60)
    text = f"{minutes // 60:02d}{minutes % 60:02d}{second:02d}"
    return text[: 2 * sum(part is not None for part in found.groups()[:3])] + (f".{found[4]}" if found[4] else "")


@lru_cache(maxsize=256)
def _seconds_of(time: str) -> int | None:
    """Seconds since midnight."""
    found = _TIME.fullmatch(time.strip())
    if not found:
        return None
    hour, minute, second = int(found[1]), int(found[2] or 0), int(found[3] or 0)
    if hour > 23 or minute > 59 or second > 60:
        return None
    return hour * 3600 + minute * 60 + min(second, 59)  # a leap second has no second of its own


@cache
def time_tag_of(date_tag: int) -> int | None:
    """The TM attribute that belongs to a DA attribute: Study Date and Study Time.

    >>> hex(time_tag_of(0x00080020))
    '0x80030'
    """
    try:
        keyword = dictionary_keyword(date_tag)
    except KeyError:
        return None
    tag = tag_for_keyword(keyword.replace("Date", "Time"))
    return tag if tag is not None and dictionary_vr(tag) == "TM" else None


def cap_age(value: str) -> str | None:
    """An AS with ages above 90 years told as 90 (few persons are that old).

    >>> cap_age("034Y"), cap_age("097Y"), cap_age("34")
    ('034Y', '090Y', None)
    """
    found = _AGE.fullmatch(value.strip())
    if not found:
        return None
    years = int(found[1]) / {"Y": 1, "M": 12, "W": 52, "D": 365}[found[2]]
    return f"{OLDEST:03d}Y" if years > OLDEST else found[0]
