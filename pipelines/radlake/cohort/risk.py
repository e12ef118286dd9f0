"""How well persons hide among each other: k-anonymity, l-diversity, and what the days between exams tell. Pure.

Quasi-identifiers are sex, age and place of the exam. They are told as coarsely as it takes for every class to have k
persons; who would still be alone is left out of the release. Sources: Sweeney 2002 (k-anonymity), Machanavajjhala 2007
(l-diversity), GB/T 42460-2023 annexes (both as measures of the effect of de-identification).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

__all__ = ["UNKNOWN", "Coarse", "Coarseness", "Intervals", "Person", "coarsest_needed", "intervals_of"]

UNKNOWN = "UNKNOWN"
_MOST_LEFT_OUT = 0.05


@dataclass(frozen=True)
class Person:
    """Quasi-identifiers of a person at the first index exam, and what nobody may learn by them.

    Attributes
    ----------
    sensitive : frozenset of str
        What was examined and found.
    """

    sex: str
    age_years: int | None
    region_code: str
    sensitive: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Coarseness:
    """How coarsely age (years of a band; 0: not at all) and place (digits of GB/T 2260 that stay) are told."""

    age_width: int
    region_digits: int

    def of(self, person: Person) -> tuple[str, int, str]:
        """Sex, first year of the age band (-1 when unknown or not told), region."""
        age = (
            -1
            if person.age_years is None or not self.age_width
            else person.age_years // self.age_width * self.age_width
        )
        known = person.region_code != UNKNOWN and self.region_digits
        region = person.region_code[: self.region_digits].ljust(6, "0") if known else UNKNOWN
        return person.sex, age, region


# From fine to coarse; places are prefectures, then provinces, then none.
_LADDER = tuple(Coarseness(*step) for step in ((5, 4), (5, 2), (10, 4), (10, 2), (20, 2), (20, 0), (0, 2), (0, 0)))


@dataclass(frozen=True)
class Coarse:
    """The finest coarseness that leaves few out, and what it comes to.

    Attributes
    ----------
    k, smallest_class : int
        What every class had to have, and what the smallest one has.
    l_diversity : int
        Distinct sensitive values in the class that has the fewest.
    left_out : frozenset
        Persons who would be in a class of fewer than k.
    """

    coarseness: Coarseness
    k: int
    smallest_class: int
    n_classes: int
    l_diversity: int
    left_out: frozenset[object]


def coarsest_needed(persons: Mapping[object, Person], *, k: int) -> Coarse:
    """Tell quasi-identifiers as finely as k persons in every class allow.

    Parameters
    ----------
    persons : mapping
        By any key of a person.
    """
    for coarseness in _LADDER:
        classes: dict[tuple[str, int, str], list[object]] = defaultdict(list)
        for key, person in persons.items():
            classes[coarseness.of(person)].append(key)
        alone = [key for members in classes.values() if len(members) < k for key in members]
        if len(alone) <= _MOST_LEFT_OUT * len(persons) or coarseness is _LADDER[-1]:
            kept = [members for members in classes.values() if len(members) >= k]
            told = [len(set().union(*(persons[key].sensitive for key in members))) for members in kept]
            sizes = [len(members) for members in kept]
            return Coarse(coarseness, k, min(sizes, default=0), len(kept), min(told, default=0), frozenset(alone))
    raise AssertionError("the last step always returns")


@dataclass(frozen=True)
class Intervals:
    """What somebody learns who knows on which days a person was examined: intervals survive, on purpose.

    Attributes
    ----------
    n_several : int
        Persons with several exams on different days; one day alone tells nothing, for every person is moved otherwise.
    n_unique : int
        Of those, persons whose days between exams nobody else in the release has.
    """

    n_persons: int
    n_several: int
    n_unique: int


def intervals_of(days: Mapping[object, Collection[date]]) -> Intervals:
    """The date-linkage attack on a release: days of exams by person."""
    patterns = [_pattern(sorted(set(found))) for found in days.values()]
    several = Counter(pattern for pattern in patterns if pattern)
    return Intervals(len(patterns), several.total(), sum(n == 1 for n in several.values()))


def _pattern(days: Sequence[date]) -> tuple[int, ...]:
    return tuple((later - first).days for first, later in pairwise(days))
