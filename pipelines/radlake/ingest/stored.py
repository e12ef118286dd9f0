"""How many bytes a lake stores, how many came, and how many will: ops.storage, published by every build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from radlake.contracts import load_table
from radlake.contracts.rows import arrow_rows
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from radlake.lake.retention import KeptStudy, RetentionRows
from radlake.machine import shanghai_day
from radlake.retention import Cohort, RetentionClass, class_of, cost_curve, load_schedule
from radlake.retention.forecast import Growth, HistoryTooShort, growth_of, with_future

__all__ = ["cohorts_of", "monthly_bytes", "publish_storage"]

PLAN_YEARS = 10


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


def publish_storage(lake: Lake, ledger: Ledger, *, now: datetime) -> None:
    """Publish what is stored and will be stored in the next years, and what it costs; after the statistics are built.

    While the history is too short for a forecast, only what is stored today ages and expires.
    """
    table, schedule, today = load_table("ops.storage"), load_schedule(), shanghai_day(now)
    cohorts, _ = cohorts_of(lake, RetentionRows(ledger).kept())
    growth: Growth | None = None
    try:
        growth = growth_of(monthly_bytes(lake, before=today), n_years=PLAN_YEARS)
        cohorts = with_future(cohorts, growth.bytes_per_year, usual_share=schedule.province_share)
    except HistoryTooShort:
        pass
    first = min(growth.bytes_per_year) if growth else today.year
    rows: list[dict[str, Any]] = []
    for one in cost_curve(cohorts, schedule=schedule, first_year=first, n_years=PLAN_YEARS):
        rows.append(_plan_row(one.year, one.tier, one.n_bytes, round(one.yuan * 100), now=now))
    for year in range(first, first + PLAN_YEARS):
        of_year = [row for row in rows if row["plan_year"] == str(year)]
        n_bytes, fen = (sum(row[name] for row in of_year) for name in ("n_bytes", "cost_fen"))
        rows.append(_plan_row(year, "all", n_bytes, fen, now=now) | _coming(growth, year))
    version = lake.tables.version(table)
    lake.tables.overwrite(table, arrow_rows(table, rows), batch_id=f"storage-{now:%Y%m%dT%H%M%S%f}-{version}")


def _plan_row(year: int, tier: str, n_bytes: int, fen: int, *, now: datetime) -> dict[str, Any]:
    row = {"plan_year": str(year), "tier": tier, "n_bytes": n_bytes, "cost_fen": fen, "updated_at": now}
    return row | dict.fromkeys(("coming_bytes", "coming_low_bytes", "coming_high_bytes"))


def _coming(growth: Growth | None, year: int) -> dict[str, int]:
    if growth is None:
        return {}
    limits = {"coming_bytes": growth.bytes_per_year, "coming_low_bytes": growth.low, "coming_high_bytes": growth.high}
    return {name: round(of_year[year]) for name, of_year in limits.items()}
