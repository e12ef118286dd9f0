"""The duplicate exams that really happened, so that a statistic can be held against them.

Definition (look-back). Exam B repeats exam A when

- both are of the same person, modality group and body part,
- their lateralities are compatible: not left against right (an exam that states no side goes with either),
- they are different exams, on different days, and B comes `days` after A with 1 <= days <= window, counted in
  calendar days of the hospitals' local time; two exams on one day are one episode and never duplicates,
- A is the latest such exam.

Scope `within_hospital` looks for A in the hospital of B only, `across_hospitals` in the other hospitals only.
An exam counts in the denominator when its whole window lies in the observed period: day of B >= start + window.
After Lammers, Med Care 2014;52:227 (30 days) and Vest, AJMC 2014;20(SP):eSP16 (90 days).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from operator import attrgetter
from typing import Literal

from radlake.synth.province import Exam

__all__ = ["DuplicatePair", "Scope", "count_duplicates", "duplicate_pairs"]

Scope = Literal["any", "within_hospital", "across_hospitals"]


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    earlier: Exam
    later: Exam

    @property
    def days(self) -> int:
        return (self.later.day - self.earlier.day).days


def duplicate_pairs(
    exams: Iterable[Exam],
    *,
    window_days: int,
    scope: Scope = "any",
    person_of: Callable[[Exam], str] = attrgetter("person.person_id"),
) -> list[DuplicatePair]:
    """Every exam that repeats an earlier one, with the latest such earlier exam.

    Parameters
    ----------
    person_of : callable
        Who is the same person. The default is the truth; `attrgetter("recorded_person")` is what can be known from
        the headers, where a visit without national identity number cannot be linked to other hospitals.
    """
    groups: dict[tuple[str, str, str], list[Exam]] = defaultdict(list)
    for exam in exams:
        groups[person_of(exam), exam.protocol.modality, exam.protocol.body_part].append(exam)
    pairs = []
    for group in groups.values():
        group.sort(key=attrgetter("started_at"))
        for position, later in enumerate(group):
            for earlier in reversed(group[:position]):
                days = (later.day - earlier.day).days
                if 1 <= days <= window_days and _is_compatible(earlier, later) and _is_in_scope(earlier, later, scope):
                    pairs.append(DuplicatePair(earlier, later))
                    break
    return sorted(pairs, key=lambda pair: (pair.later.started_at, pair.later.exam_id))


def count_duplicates(
    exams: Iterable[Exam],
    *,
    start: date,
    window_days: int,
    scope: Scope = "any",
    person_of: Callable[[Exam], str] = attrgetter("person.person_id"),
) -> tuple[int, int]:
    """Exams whose whole window was observed, and how many of them are duplicates."""
    exams = list(exams)
    pairs = duplicate_pairs(exams, window_days=window_days, scope=scope, person_of=person_of)
    first = start + timedelta(days=window_days)
    return sum(exam.day >= first for exam in exams), sum(pair.later.day >= first for pair in pairs)


def _is_compatible(one: Exam, other: Exam) -> bool:
    return {one.laterality, other.laterality} != {"L", "R"}


def _is_in_scope(earlier: Exam, later: Exam, scope: Scope) -> bool:
    return scope == "any" or (earlier.hospital_id == later.hospital_id) == (scope == "within_hospital")
