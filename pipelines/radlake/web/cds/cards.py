"""Cards of CDS Hooks: what a doctor reads in two seconds, and what can be done about it. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from radlake.reminder.desk import Reminder
from radlake.reminder.policy import ReminderPolicy
from radlake.web.cds.words import exam_name
from radlake.web.i18n import Words

__all__ = ["OVERRIDE_SYSTEM", "SUMMARY_LENGTH", "TOPIC_SYSTEM", "card"]

OVERRIDE_SYSTEM, TOPIC_SYSTEM = "urn:radlake:override", "urn:radlake:cds-topic"
SUMMARY_LENGTH = 139  # "less than 140 characters"
_NAMESPACE = uuid.UUID("5f0f3a3c-7a0e-4c53-9c1b-3d6f5f0d2a10")


def card(reminder: Reminder, words: Words, *, policy: ReminderPolicy, link: str = "") -> dict[str, Any]:
    """The card of one reminder.

    Parameters
    ----------
    link : str
        URL where the earlier images can be opened; empty when nobody opens them here.
    """
    ordered, prior = reminder.ordered, reminder.prior
    is_chinese = words.language == "zh-CN"
    facts = {
        "days": reminder.days,
        "date": f"{prior.at:%Y-%m-%d}",
        "hospital": reminder.hospital_names[0 if is_chinese else 1],
        "exam": exam_name(
            words,
            modality_group=ordered.modality_group,
            body_part_code=ordered.body_part_code,
            laterality_code=prior.laterality_code,
        ),
    }
    lines = [words("detail", **{name: _plain(value) for name, value in facts.items()})]
    if reminder.dose_msv:
        key = "dose.typical" if reminder.is_dose_typical else "dose.own"
        lines.append(words(key, msv=f"{reminder.dose_msv:.2g}"))
    if reminder.price_fen is not None:
        lines.append(words("price", yuan=f"{Decimal(reminder.price_fen) / 100:,.0f}"))
    found: dict[str, Any] = {
        "uuid": reminder.reminder_id,
        "summary": _summary(words, facts),
        "detail": "\n\n".join(lines),
        "indicator": "warning",
        "source": {
            "label": words("source"),
            "topic": {"system": TOPIC_SYSTEM, "code": "duplicate-imaging", "display": words("topic")},
        },
        "overrideReasons": [
            {"system": OVERRIDE_SYSTEM, "code": one.code, "display": one.zh if is_chinese else one.en}
            for one in policy.override_reasons
        ],
    }
    if link:
        found["links"] = [{"label": words("open"), "url": link, "type": "absolute"}]
    if ordered.resource_id:
        action = {
            "type": "delete",
            "description": words("accept.action", exam=facts["exam"]),
            "resourceId": ordered.resource_id,
        }
        suggestion = str(uuid.uuid5(_NAMESPACE, reminder.reminder_id))
        found["suggestions"] = [{"label": words("accept"), "uuid": suggestion, "actions": [action]}]
        found["selectionBehavior"] = "at-most-one"
    return found


def _summary(words: Words, facts: Mapping[str, object]) -> str:
    """A long name of a hospital is cut, never the rest."""
    summary = words("summary", **facts)
    if (over := len(summary) - SUMMARY_LENGTH) > 0:
        hospital = str(facts["hospital"])
        summary = words("summary", **{**facts, "hospital": f"{hospital[: max(0, len(hospital) - over - 1)]}…"})
    return summary[:SUMMARY_LENGTH]


def _plain(value: object) -> str:
    """Text in Markdown that stays text."""
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>()#+!|~" else char for char in str(value))
