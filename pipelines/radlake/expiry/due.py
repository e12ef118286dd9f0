"""Which studies may go, and why; which stay although their time is over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from radlake.lake.retention import KeptStudy
from radlake.retention import RetentionClass, Schedule, class_of

__all__ = ["Due", "due_studies", "standing"]


@dataclass(frozen=True)
class Due:
    """A study whose time is over.

    Attributes
    ----------
    rule : str
        Class and years that decided it; no date.
    """

    study: KeptStudy
    retention_class: RetentionClass
    retain_until: date
    rule: str


def standing(study: KeptStudy, schedule: Schedule) -> tuple[RetentionClass, date | None]:
    """Class of a study, and the last day for which it is kept; None when it has no date: it is kept for ever."""
    retention_class = class_of(study.evidence)
    return retention_class, study.study_date and schedule.retain_until(study.study_date, retention_class)


def due_studies(kept: Iterable[KeptStudy], *, schedule: Schedule, today: date) -> list[Due]:
    """Studies whose time is over, held ones too."""
    found = []
    for study in kept:
        retention_class, until = standing(study, schedule)
        if study.study_date and until and schedule.is_due(study.study_date, retention_class, today=today):
            rule = f"{retention_class}, {schedule.years[retention_class]} years"
            found.append(Due(study, retention_class, until, rule))
    return found
