"""When work ends that a node's calendar allows only in some hours, and then only so fast."""

from __future__ import annotations

from radlake.harvest.courtesy.week import Week

__all__ = ["ends_at"]

_HOUR = 3600
_YEARS = 20 * 366 * 24  # hours; nobody plans further


def ends_at(*, seconds: float, n_studies: int, week: Week, now: float) -> float | None:
    """Unix time at which `seconds` of work on `n_studies` end; None when that is decades away.

    An hour with fewer associations than the node's best one does proportionally less.
    """
    best = max(slot.associations for slot in week.slots)
    at, left = now, seconds
    for _ in range(_YEARS):
        end_of_hour = (at // _HOUR + 1) * _HOUR
        slot = week.at(at)
        speed = 0.0 if slot.is_rest else slot.associations / best
        if slot.studies_per_hour is not None and n_studies:
            speed = min(speed, slot.studies_per_hour * seconds / n_studies / _HOUR)
        done = speed * (end_of_hour - at)
        if done >= left:
            return at + (left / speed if left else 0.0)
        at, left = end_of_hour, left - done
    return None
