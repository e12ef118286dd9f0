"""Exams as columns of numbers, and the period they lie in."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from functools import cached_property

import numpy as np

__all__ = ["BOTH", "LEFT", "NOT_STATED", "RIGHT", "SIDES", "Exams", "Period", "joined"]

SIDES = ("NONE", "L", "R", "B")
NOT_STATED, LEFT, RIGHT, BOTH = range(4)

_MONTH_WEIGHTS = (1.25, 0.85, 1.1, 1.0, 0.95, 0.9, 0.95, 0.9, 0.95, 1.0, 1.05, 1.25)
_WEEKDAY_WEIGHTS = (1.3, 1.15, 1.1, 1.05, 1.1, 0.6, 0.4)


@dataclass(frozen=True)
class Period:
    """First and last day of exams, and how busy each day is: winters, and Mondays."""

    start: date
    end: date

    @cached_property
    def n_days(self) -> int:
        return (self.end - self.start).days + 1

    @cached_property
    def cumulated(self) -> np.ndarray:
        days = [self.start + timedelta(days=number) for number in range(self.n_days)]
        weights = np.cumsum([_MONTH_WEIGHTS[day.month - 1] * _WEEKDAY_WEIGHTS[day.weekday()] for day in days])
        return weights / weights[-1]

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Days since `start`."""
        return np.minimum(np.searchsorted(self.cumulated, rng.random(n)), self.n_days - 1).astype(np.int32)


@dataclass(frozen=True)
class Exams:
    """Exams as columns; those of a course follow each other in time.

    Attributes
    ----------
    person : np.ndarray
        Number of the recorded person within this draw; `n_persons` of them.
    position : np.ndarray
        Number of the exam in its course, from 0.
    day, second : np.ndarray
        True days since the start of the period, and true seconds of the day.
    is_dated, is_known : np.ndarray
        The exam has a date; its person is known.
    is_shared_number : np.ndarray
        Its person is a number that many share.
    encounter : np.ndarray
        Number of the encounter in this draw; -1 when nobody recorded it.
    ground_bits, operation_days : np.ndarray
        What is on record of grounds; -1 when no operation follows.
    """

    person: np.ndarray
    position: np.ndarray
    day: np.ndarray
    second: np.ndarray
    hospital: np.ndarray
    modality: np.ndarray
    part: np.ndarray
    side: np.ndarray
    is_dated: np.ndarray
    is_known: np.ndarray
    is_shared_number: np.ndarray
    encounter: np.ndarray
    ground_bits: np.ndarray
    operation_days: np.ndarray
    sex: np.ndarray
    age: np.ndarray
    contrast: np.ndarray
    size: np.ndarray
    n_persons: int

    def __len__(self) -> int:
        return len(self.person)


def joined(one: Exams, other: Exams) -> Exams:
    """Both; persons and encounters of the second are others than those of the first."""
    moved = replace(
        other,
        person=other.person + np.int32(one.n_persons),
        encounter=np.where(other.encounter >= 0, other.encounter + int(one.encounter.max()) + 1, -1),
    )
    columns = {
        field.name: np.concatenate([getattr(one, field.name), getattr(moved, field.name)])
        for field in fields(Exams)
        if field.name != "n_persons"
    }
    return Exams(**columns, n_persons=one.n_persons + other.n_persons)
