"""Whether an order is reminded of an earlier exam: a pure decision over values.

A reminder is only worth its place when the doctor can act on it: the earlier exam is of the same kind, recent, of
another episode, surely read, and can be opened. Everything else is silence, with the rule that said so, because the
silence is counted too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from radlake.reminder.policy import ReminderPolicy

__all__ = ["SHOW", "VERDICTS", "Decision", "Ordered", "Prior", "decide", "judge_order", "window_days"]

SHOW = "SHOW"
# Why there is silence, in the order in which it is looked at.
VERDICTS = (
    "NOT_IMAGING",
    "EXAM_UNREAD",
    "EXCUSED",
    "PERSON_UNKNOWN",
    "PERSON_AMBIGUOUS",
    "NO_PRIOR",
    "OTHER_SIDE",
    "SAME_EPISODE",
    "CONTRAST_ADDED",
    "PRIOR_UNSURE",
    "PRIOR_EXCUSES",
    "NOT_RETRIEVABLE",
    "OVERRIDDEN_BEFORE",
    SHOW,
)
_WITH = {"WITH", "WITHOUT_AND_WITH"}


@dataclass(frozen=True)
class Ordered:
    """A draft order as the vocabulary reads it; nothing of it names a person.

    Attributes
    ----------
    resource_id : str
        Of the caller: what a suggestion would delete, as `ServiceRequest/1`.
    ground_codes : frozenset of str
        Grounds that the order itself tells.
    encounter_pseudo_id : str
        Pseudonym of the visit; empty when the caller tells none.
    """

    resource_id: str
    modality_group: str
    body_part_code: str
    laterality_code: str = "NONE"
    contrast_code: str = "UNKNOWN"
    confidence_code: str = "MEDIUM"
    ground_codes: frozenset[str] = frozenset()
    encounter_pseudo_id: str = ""


@dataclass(frozen=True)
class Prior:
    """An earlier exam of the person, of the same modality and body part; `at` is the true local time."""

    at: datetime
    hospital_id: str
    exam_pseudo_id: str
    patient_key: int
    laterality_code: str = "NONE"
    contrast_code: str = "UNKNOWN"
    confidence_code: str = "MEDIUM"
    ground_codes: frozenset[str] = frozenset()
    encounter_pseudo_id: str = ""
    effective_dose_msv: float | None = None
    is_retrievable: bool = True
    overridden_at: datetime | None = None

    def days_before(self, now: datetime) -> int:
        return (now.date() - self.at.date()).days


@dataclass(frozen=True)
class Decision:
    """SHOW with the exam, or why not; the exam is then the one that came nearest."""

    verdict: str
    prior: Prior | None = None
    ground_code: str = ""


def window_days(ordered: Ordered, policy: ReminderPolicy) -> int:
    """Days that are looked back; 0 for an order that is never reminded of."""
    return policy.windows.get(ordered.modality_group, 0)


def decide(ordered: Ordered, priors: Sequence[Prior], *, now: datetime, policy: ReminderPolicy) -> Decision:
    """The decision about one order.

    Parameters
    ----------
    priors : sequence of Prior
        The latest first; those out of the window do not count.
    now : datetime
        Local time of the order.
    """
    if early := judge_order(ordered, policy=policy):
        return early
    days = window_days(ordered, policy)
    near = [prior for prior in priors if prior.at < now and prior.days_before(now) <= days]
    looked = [_judge(ordered, prior, now=now, policy=policy) for prior in near]
    shown = next((found for found in looked if found.verdict == SHOW), None)
    # A prior that the doctor said no to silences all: the older one would be the same question again.
    silenced = next((found for found in looked if found.verdict == "OVERRIDDEN_BEFORE"), None)
    if silenced or shown:
        return silenced or shown  # pyright: ignore[reportReturnType]
    return max(looked, key=lambda found: VERDICTS.index(found.verdict), default=Decision("NO_PRIOR"))


def judge_order(ordered: Ordered, *, policy: ReminderPolicy) -> Decision | None:
    """Silence that the order alone decides; None when the past must be asked."""
    if not window_days(ordered, policy):
        return Decision("NOT_IMAGING")
    if ordered.body_part_code == "UNKNOWN" or ordered.confidence_code not in policy.confidence:
        return Decision("EXAM_UNREAD")
    for ground in policy.order_grounds:
        if ground in ordered.ground_codes:
            return Decision("EXCUSED", ground_code=ground)
    return None


def _judge(ordered: Ordered, prior: Prior, *, now: datetime, policy: ReminderPolicy) -> Decision:
    if ordered.laterality_code + prior.laterality_code in ("LR", "RL"):
        return Decision("OTHER_SIDE", prior)
    if prior.days_before(now) == 0 or (
        ordered.encounter_pseudo_id and ordered.encounter_pseudo_id == prior.encounter_pseudo_id
    ):
        return Decision("SAME_EPISODE", prior)
    if ordered.contrast_code in _WITH and prior.contrast_code not in _WITH:
        return Decision("CONTRAST_ADDED", prior)
    if prior.confidence_code not in policy.confidence:
        return Decision("PRIOR_UNSURE", prior)
    for ground in policy.prior_grounds:
        if ground in prior.ground_codes:
            return Decision("PRIOR_EXCUSES", prior, ground)
    if not prior.is_retrievable:
        return Decision("NOT_RETRIEVABLE", prior)
    if prior.overridden_at is not None and now - prior.overridden_at < policy.quiet_after_override:
        return Decision("OVERRIDDEN_BEFORE", prior)
    return Decision(SHOW, prior)
