"""Read what became of cards (CDS Hooks 2.0, "Feedback"). A comment of a doctor may name anybody: it is not read."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from radlake.reminder.policy import ReminderPolicy
from radlake.web.cds.cards import OVERRIDE_SYSTEM
from radlake.web.cds.hook_request import HookInvalid

__all__ = ["Feedback", "read_feedback"]

_MOST = 100
_OUTCOMES = {"accepted": "ACCEPTED", "overridden": "OVERRIDDEN"}


@dataclass(frozen=True)
class Feedback:
    """About one card.

    Attributes
    ----------
    ground_code : str
        Of an override with a reason of the menu; empty when none was given.
    """

    reminder_id: str
    answer_code: str
    ground_code: str = ""


def read_feedback(data: Mapping[str, Any], *, policy: ReminderPolicy) -> list[Feedback]:
    """Every item of a feedback, or none.

    Raises
    ------
    HookInvalid
    """
    items = data.get("feedback")
    if not isinstance(items, list) or not 1 <= len(items) <= _MOST:
        raise HookInvalid(f"feedback must be a list of 1 to {_MOST}")
    return [_read(item, f"feedback[{number}]", policy) for number, item in enumerate(items)]


def _read(item: Any, place: str, policy: ReminderPolicy) -> Feedback:
    if not isinstance(item, dict):
        raise HookInvalid(f"{place} must be an object")
    outcome = item.get("outcome")
    if not isinstance(outcome, str) or outcome not in _OUTCOMES:
        raise HookInvalid(f"{place}.outcome must be accepted or overridden")
    try:
        card = str(uuid.UUID(item["card"]))
    except (KeyError, ValueError, TypeError, AttributeError):
        raise HookInvalid(f"{place}.card must be the uuid of a card") from None
    try:
        is_utc = datetime.fromisoformat(item["outcomeTimestamp"]).utcoffset() is not None
    except (KeyError, ValueError, TypeError):
        is_utc = False
    if not is_utc:
        raise HookInvalid(f"{place}.outcomeTimestamp must be an instant (ISO 8601, UTC)")
    if outcome == "accepted":
        accepted = item.get("acceptedSuggestions")
        if not isinstance(accepted, list) or not accepted or not all(isinstance(one, dict) for one in accepted):
            raise HookInvalid(f"{place}.acceptedSuggestions must name the suggestion")
        return Feedback(card, _OUTCOMES[outcome])
    return Feedback(card, _OUTCOMES[outcome], _ground(item.get("overrideReason"), place, policy))


def _ground(given: Any, place: str, policy: ReminderPolicy) -> str:
    if given is None:
        return ""
    reason = given.get("reason") if isinstance(given, dict) else given
    if reason is None and isinstance(given, dict):  # a comment only
        return ""
    code = reason.get("code") if isinstance(reason, dict) else None
    known = {one.code: one.ground for one in policy.override_reasons}
    system = reason.get("system", OVERRIDE_SYSTEM) if isinstance(reason, dict) else None
    if not isinstance(code, str) or code not in known or system != OVERRIDE_SYSTEM:
        raise HookInvalid(f"{place}.overrideReason.reason must be one of the card's overrideReasons")
    return known[code]
