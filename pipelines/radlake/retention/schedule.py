"""The schedule: schemas/retention/schedule.yaml, read strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydicom.datadict import tag_for_keyword

from radlake.errors import ConfigInvalid
from radlake.net import Hospital
from radlake.resources import schemas_root
from radlake.retention.classes import RetentionClass, Rule

__all__ = ["Schedule", "Tier", "load_schedule", "rules_of"]


@dataclass(frozen=True)
class Tier:
    """A tier of storage: fen for a GB (2^30 bytes) and month, and the age in years at which each class enters it."""

    name: str
    price_fen_per_gb_month: float
    from_years: Mapping[RetentionClass, int]


@dataclass(frozen=True)
class Schedule:
    """Years by class, rules that decide the class, tiers, and the province of the cost curve."""

    years: Mapping[RetentionClass, int]
    sources: Mapping[RetentionClass, str]
    rules: tuple[Rule, ...]
    tiers: tuple[Tier, ...]
    price_source: str
    province_bytes_per_year: int
    province_share: Mapping[RetentionClass, float]

    def retain_until(self, study_date: date, retention_class: RetentionClass) -> date:
        """The last day for which the law wants a study kept: its true date and the years of its class.

        Of 29 February it is 1 March, when the year has none.
        """
        year = study_date.year + self.years[retention_class]
        try:
            return study_date.replace(year=year)
        except ValueError:
            return date(year, 3, 1)

    def is_due(self, study_date: date, retention_class: RetentionClass, *, today: date) -> bool:
        """Whether a study may go: its last day lies in an earlier calendar year.

        Whoever sees what vanishes from the lake learns the true year of a study, and no day (ADR 23).
        """
        return self.retain_until(study_date, retention_class).year < today.year

    def tier(self, age_years: int, retention_class: RetentionClass) -> Tier:
        return [tier for tier in self.tiers if tier.from_years[retention_class] <= age_years][-1]


def rules_of(hospital: Hospital) -> tuple[Rule, ...]:
    """The rules of the schedule and the hospital's own."""
    own = (Rule(item.keyword, item.matches, RetentionClass(item.retention_class)) for item in hospital.retention)
    return (*load_schedule().rules, *own)


@cache
def load_schedule(path: Path | None = None) -> Schedule:
    """Read a schedule.

    Raises
    ------
    ConfigInvalid
        With every problem of the file.
    """
    path = path or schemas_root() / "retention" / "schedule.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        schedule = _schedule(data)
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as exc:
        raise ConfigInvalid(path=path, problems=[f"{type(exc).__name__}: {exc}"]) from exc
    if problems := _problems(schedule):
        raise ConfigInvalid(path=path, problems=problems)
    return schedule


def _schedule(data: dict[str, Any]) -> Schedule:
    classes = {kind: data["classes"][kind.value] for kind in RetentionClass}
    province = data["province"]
    return Schedule(
        years={kind: int(item["years"]) for kind, item in classes.items()},
        sources={kind: str(item["source"]) for kind, item in classes.items()},
        rules=tuple(Rule(item["keyword"], item["matches"], RetentionClass(item["class"])) for item in data["rules"]),
        tiers=tuple(
            Tier(
                item["name"],
                float(item["price_fen_per_gb_month"]),
                {kind: int(item["from_years"][kind.value]) for kind in RetentionClass},
            )
            for item in data["tiers"]
        ),
        price_source=" ".join(str(data["price_source"]).split()),
        province_bytes_per_year=int(province["bytes_per_year"]),
        province_share={kind: float(province["share"][kind.value]) for kind in RetentionClass},
    )


def _problems(schedule: Schedule) -> list[str]:
    problems = []
    longest = max(schedule.years.values())
    for kind in (RetentionClass.MIXED, RetentionClass.UNKNOWN):
        if schedule.years[kind] != longest:
            problems.append(f"classes.{kind}.years must be the longest, {longest}")
    for rule in schedule.rules:
        if tag_for_keyword(rule.keyword) is None:
            problems.append(f"rules: {rule.keyword} is no DICOM keyword")
        try:
            re.compile(rule.matches)
        except re.error as exc:
            problems.append(f"rules: {rule.matches}: {exc}")
    for kind in RetentionClass:
        ages = [tier.from_years[kind] for tier in schedule.tiers]
        if not ages or ages[0] != 0 or ages != sorted(ages):
            problems.append(f"tiers: the ages of {kind} must begin with 0 and rise")
    if abs(sum(schedule.province_share.values()) - 1) > 1e-9:
        problems.append("province.share must add up to 1")
    return problems
