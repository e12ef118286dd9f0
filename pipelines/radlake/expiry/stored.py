"""How many bytes a lake stores, and how many came: what plans and forecasts of its cost begin with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date

from radlake.lake import Lake, duck
from radlake.lake.retention import KeptStudy
from radlake.retention import Cohort, RetentionClass, class_of

__all__ = ["cohorts_of", "monthly_bytes"]


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


def monthly_bytes(lake: Lake, *, before: date) -> dict[tuple[int, int], int]:
    """Bytes of whole months by (year, month), of all hospitals: the first one and that of `before` have only begun.

    Exact counts of the restricted zone, as the last build left them.
    """
    query = """
        SELECT exam_month, exam_bytes
        FROM stats.exam_volume
        WHERE hospital_id = 'all' AND modality_group = 'all'
            AND exam_month NOT IN ('all', 'unknown') AND exam_month < ?
        ORDER BY exam_month
    """
    with duck.connect(lake, zone="restricted", tables=["stats.exam_volume"]) as connection:
        rows = connection.execute(query, [f"{before:%Y-%m}"]).fetchall()
    return {(int(month[:4]), int(month[5:])): n_bytes for month, n_bytes in rows[1:] if n_bytes}
