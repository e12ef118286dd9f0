"""The tier plan: bytes and yuan of each year and tier, from cohorts of studies that age and expire."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from radlake.retention.classes import RetentionClass
from radlake.retention.schedule import Schedule

__all__ = ["Cohort", "PlanRow", "cost_curve", "province", "total_yuan"]

_GB = 1 << 30  # stores bill by it and call it GB


@dataclass(frozen=True)
class Cohort:
    """Bytes of the studies of one true calendar year and class."""

    year: int
    retention_class: RetentionClass
    n_bytes: int


@dataclass(frozen=True)
class PlanRow:
    """What lies in a tier in the course of a year, and what that costs."""

    year: int
    tier: str
    n_bytes: int
    yuan: float


def cost_curve(
    cohorts: Sequence[Cohort], *, schedule: Schedule, first_year: int, n_years: int = 30, ratio: float = 1.0
) -> list[PlanRow]:
    """Bytes and yuan by year and tier; a cohort counts as a whole year from its own on, and goes when it expires.

    Parameters
    ----------
    ratio : float
        Bytes before divided by bytes after recompression; 1 is none.

    Today's prices, one copy, no interest, storage only.
    """
    rows = []
    for year in range(first_year, first_year + n_years):
        by_tier = {tier.name: 0.0 for tier in schedule.tiers}
        for cohort in cohorts:
            age = year - cohort.year
            if 0 <= age <= schedule.years[cohort.retention_class]:
                by_tier[schedule.tier(age, cohort.retention_class).name] += cohort.n_bytes / ratio
        for tier in schedule.tiers:
            fen = by_tier[tier.name] / _GB * tier.price_fen_per_gb_month * 12
            rows.append(PlanRow(year, tier.name, round(by_tier[tier.name]), round(fen / 100, 2)))
    return rows


def province(schedule: Schedule, *, first_year: int, n_years: int = 30) -> list[Cohort]:
    """A province to which the same amount comes every year."""
    return [
        Cohort(year, kind, round(schedule.province_bytes_per_year * share))
        for year in range(first_year, first_year + n_years)
        for kind, share in schedule.province_share.items()
        if share
    ]


def total_yuan(rows: Iterable[PlanRow]) -> float:
    return round(sum(row.yuan for row in rows), 2)
