"""Which studies may go, and why; which stay although their time is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from radlake.lake import Lake, duck
from radlake.lake.retention import KeptStudy
from radlake.retention import Cohort, RetentionClass, Schedule, class_of

__all__ = ["Due", "cohorts_of", "due_studies", "standing"]


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


def cohorts_of(lake: Lake, kept: Iterable[KeptStudy]) -> tuple[list[Cohort], int]:
    """Bytes that this lake stores by true year and class, and those of studies without a date.

    What hospitals keep themselves costs us nothing and is not counted.
    """
    query = """
        SELECT hospital_id, study_instance_uid, sum(object_bytes)::BIGINT
        FROM dicom.series
        WHERE residency = 'central'
        GROUP BY ALL
    """
    with duck.connect(lake, tables=["dicom.series"]) as connection:
        sizes = {(hospital, uid): n for hospital, uid, n in connection.execute(query).fetchall()}
    by_cohort: Counter[tuple[int, RetentionClass]] = Counter()
    undated = 0
    for study in kept:
        n_bytes = sizes.get((study.hospital_id, study.lake_study_uid), 0)
        if study.study_date is None:
            undated += n_bytes
        else:
            by_cohort[study.study_date.year, class_of(study.evidence)] += n_bytes
    return [Cohort(year, kind, n_bytes) for (year, kind), n_bytes in sorted(by_cohort.items())], undated
