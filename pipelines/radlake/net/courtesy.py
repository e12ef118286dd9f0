"""When a node may be asked, and how much: the `courtesy` of a node in the hospitals file.

What is declared stands here. What follows from it at an instant, and from how the node feels, is decided in
`radlake.harvest.courtesy`.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

__all__ = ["HOURS_A_WEEK", "Courtesy", "Hours"]

HOURS_A_WEEK = 168
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _days(text: str) -> str:
    _weekdays(text)
    return text


def _hours(text: str) -> str:
    match = re.fullmatch(r"\s*(\d{1,2})\s*-\s*(\d{1,2})\s*", text)
    if not match or not int(match[1]) < int(match[2]) <= 24:
        raise ValueError("must be whole hours as in 8-20, the first before the last; a night is two lines: 20-24, 0-6")
    return text


def _weekdays(text: str) -> list[int]:
    """Days of the week that a text names, 0 is Monday; a range may go over Sunday.

    >>> _weekdays("sat-mon,wed")
    [5, 6, 0, 2]
    """
    found: list[int] = []
    for part in text.lower().split(","):
        first, _, last = (name.strip() for name in part.partition("-"))
        if first not in _DAYS or (last or first) not in _DAYS:
            raise ValueError(f"must be days as in mon-fri or sat,sun; known are {', '.join(_DAYS)}")
        begin = _DAYS.index(first)
        n_days = (_DAYS.index(last or first) - begin) % 7 + 1
        found += [(begin + n) % 7 for n in range(n_days)]
    return found


class Hours(BaseModel):
    """Some hours of some weekdays, in Asia/Shanghai.

    Attributes
    ----------
    days : str
        As in `mon-fri` or `sat,sun`; every day when left out.
    hours : str
        As in `8-20`: from 08:00 until 20:00; the whole day when left out.
    associations : int, optional
        How many at once at most; 0 is do not disturb. All that the node bears when left out.
    studies_per_hour : int, optional
        How many are begun at most, evenly spread; 0 is do not disturb. No limit when left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: Annotated[str, AfterValidator(_days)] = "mon-sun"
    hours: Annotated[str, AfterValidator(_hours)] = "0-24"
    associations: int | None = Field(default=None, ge=0, le=64, strict=True)
    studies_per_hour: int | None = Field(default=None, ge=0, strict=True)

    @property
    def is_rest(self) -> bool:
        """Do not disturb."""
        return self.associations == 0 or self.studies_per_hour == 0

    def of_week(self) -> list[int]:
        """Hours of the week that are meant; 0 begins on Monday at 00:00."""
        first, last = (int(part) for part in self.hours.split("-"))
        return [24 * day + hour for day in _weekdays(self.days) for hour in range(first, last)]


class Courtesy(BaseModel):
    """How a node wants to be treated.

    Attributes
    ----------
    calendar : tuple of Hours
        In hours that no line names, the node's `max_associations` is the only limit.
    slow_factor : float
        So many times its own usual waiting time means that the node is under load: we do less.
    fetch_any_hour : bool
        Whether what somebody waits for is fetched, one study at a time, in hours of do not disturb too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    calendar: tuple[Hours, ...] = ()
    slow_factor: float = Field(default=2.0, gt=1, le=1000)
    fetch_any_hour: bool = Field(default=False, strict=True)

    @model_validator(mode="after")
    def _one_line_an_hour(self) -> Courtesy:
        taken: dict[int, int] = {}
        for n, line in enumerate(self.calendar):
            for hour in line.of_week():
                if (first := taken.setdefault(hour, n)) != n:
                    where = f"{_DAYS[hour // 24]} {hour % 24}:00"
                    raise ValueError(f"calendar[{first}] and calendar[{n}] both name {where}; let only one of them")
        if len(taken) == HOURS_A_WEEK and all(line.is_rest for line in self.calendar):
            raise ValueError("the calendar leaves no hour in which the node may be asked; allow one")
        return self
