"""The weekly calendar of a node, hour by hour, in Asia/Shanghai. Instants are Unix time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from radlake.net import DimseNode, WebNode
from radlake.net.courtesy import HOURS_A_WEEK, Hours

__all__ = ["Slot", "Week", "week_of"]

_HOUR = 3600
_SHANGHAI = 8 * _HOUR  # always: China has had no summer time since 1991
_MONDAY = 4 * 24 * _HOUR  # 1970-01-05; Unix time begins on a Thursday


@dataclass(frozen=True, slots=True)
class Slot:
    """What is allowed in one hour of the week.

    Attributes
    ----------
    associations : int
        At once; 0 is do not disturb.
    studies_per_hour : int, optional
        No limit when None.
    """

    associations: int
    studies_per_hour: int | None = None

    @property
    def is_rest(self) -> bool:
        return self.associations == 0 or self.studies_per_hour == 0


@dataclass(frozen=True)
class Week:
    """168 hours, from Monday 00:00."""

    slots: tuple[Slot, ...]

    def at(self, now: float) -> Slot:
        return self.slots[_hour_of_week(now)]

    def any_hour(self) -> Week:
        """The same without rests and without limits of an hour."""
        return Week(tuple(Slot(max(1, slot.associations)) for slot in self.slots))

    def opens_at(self, now: float) -> float:
        """The first instant from now on at which the node may be asked."""
        hour = _hour_of_week(now)
        for n in range(HOURS_A_WEEK):
            if not self.slots[(hour + n) % HOURS_A_WEEK].is_rest:
                return now if n == 0 else (now // _HOUR + n) * _HOUR
        raise AssertionError("the file of hospitals is checked for this")


def week_of(node: DimseNode | WebNode) -> Week:
    """The calendar of a node; in hours that it does not name, `max_associations` is the limit."""
    return _week(node.courtesy.calendar, node.max_associations)


@lru_cache(maxsize=4096)
def _week(calendar: tuple[Hours, ...], most: int) -> Week:
    slots = [Slot(most)] * HOURS_A_WEEK
    for line in calendar:
        associations = most if line.associations is None else line.associations
        for hour in line.of_week():
            slots[hour] = Slot(associations, line.studies_per_hour)
    return Week(tuple(slots))


def _hour_of_week(now: float) -> int:
    return int((now + _SHANGHAI - _MONDAY) // _HOUR) % HOURS_A_WEEK
