"""The rules of the reminder: a versioned file under review, read strictly, as a value. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from radlake.errors import ConfigInvalid
from radlake.resources import schemas_root
from radlake.stats.duplicates.packs import load_grounds, load_packs, load_windows

__all__ = ["OverrideReason", "ReminderPolicy", "load_policy"]

_MOST_REASONS = 7  # a menu that is read
_FIELDS = {
    "version",
    "source",
    "windows",
    "rule_pack",
    "confidence",
    "encounter_classes",
    "priorities",
    "reasons",
    "quiet_hours_after_override",
    "same_reminder_hours",
    "override_reasons",
}


@dataclass(frozen=True)
class OverrideReason:
    """Why an order is placed in spite of a reminder; `ground` is its word in statistics."""

    code: str
    ground: str
    zh: str
    en: str


@dataclass(frozen=True)
class ReminderPolicy:
    """One version of the rules.

    Attributes
    ----------
    windows : mapping
        Modality group -> days.
    order_grounds, prior_grounds : tuple of str
        Grounds of the rule pack that excuse an order, in its order: of the order itself, and of the earlier exam.
    encounter_classes, priorities : mapping
        What an order says -> ground.
    reasons : tuple of (str, str)
        First characters of an ICD-10 code without the dot, and the ground.
    """

    version: int
    windows: Mapping[str, int]
    order_grounds: tuple[str, ...]
    prior_grounds: tuple[str, ...]
    confidence: frozenset[str]
    encounter_classes: Mapping[str, str]
    priorities: Mapping[str, str]
    reasons: tuple[tuple[str, str], ...]
    quiet_after_override: timedelta
    same_reminder: timedelta
    override_reasons: tuple[OverrideReason, ...]

    def grounds_of_reasons(self, codes: Sequence[str]) -> set[str]:
        """Grounds that ICD-10 codes of an order tell.

        >>> load_policy().grounds_of_reasons(["C34.1", "R05", "z51.1"])
        {'oncology'}
        """
        plain = [code.upper().replace(".", "") for code in codes]
        return {ground for prefix, ground in self.reasons if any(code.startswith(prefix) for code in plain)}


@cache
def load_policy(path: Path | None = None) -> ReminderPolicy:
    """The newest version, or that of a file.

    Raises
    ------
    ConfigInvalid
        With all problems.
    """
    folder = schemas_root() / "rules" / "reminder"
    path = path or max(folder.glob("v*.yaml"), key=lambda file: int(file.stem[1:]))
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as exc:
        raise ConfigInvalid(path=path, problems=[str(exc)]) from exc
    if not isinstance(data, dict) or set(data) != _FIELDS:
        raise ConfigInvalid(path=path, problems=[f"must have the fields {sorted(_FIELDS)}"])
    if problems := _problems(data):
        raise ConfigInvalid(path=path, problems=problems)
    excusing = [exclusion.ground for exclusion in load_packs()[data["rule_pack"]].exclusions]
    return ReminderPolicy(
        version=data["version"],
        windows=data["windows"],
        order_grounds=tuple(ground.code for ground in excusing if ground.of == "later"),
        prior_grounds=tuple(ground.code for ground in excusing if ground.of == "earlier"),
        confidence=frozenset(data["confidence"]),
        encounter_classes=data["encounter_classes"],
        priorities=data["priorities"],
        reasons=tuple((prefix, ground) for ground, prefixes in data["reasons"].items() for prefix in prefixes),
        quiet_after_override=timedelta(hours=data["quiet_hours_after_override"]),
        same_reminder=timedelta(hours=data["same_reminder_hours"]),
        override_reasons=tuple(OverrideReason(**row) for row in data["override_reasons"]),
    )


def _problems(data: Mapping[str, Any]) -> list[str]:
    days, grounds = load_windows().days, load_grounds()
    problems = [
        f"windows: {name} has {n} days, not one of {days}" for name, n in data["windows"].items() if n not in days
    ]
    if data["rule_pack"] not in load_packs():
        problems.append(f"rule_pack: there is no {data['rule_pack']}")
    named = [
        *data["encounter_classes"].values(),
        *data["priorities"].values(),
        *data["reasons"],
        *(row.get("ground") for row in data["override_reasons"]),
    ]
    problems += [f"there is no ground {ground}" for ground in sorted(set(map(str, named)) - grounds.keys())]
    if len(data["override_reasons"]) > _MOST_REASONS:
        problems.append(f"override_reasons: at most {_MOST_REASONS}, or nobody reads them")
    return problems
