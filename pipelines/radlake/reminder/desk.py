"""One question of order entry from end to end: who, what they have had, what is decided, what is kept of it.

A desk is open for many questions, of several threads. It sees the lake as it was when its index was made, and changes
to a newer one when `refresh` finds that ready; the ledger and the journal are always those of the moment.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from radlake.config import Settings
from radlake.ingest.offsets import date_offsets
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.lake.reminders import Asked, ReminderJournal, ShownReminder
from radlake.lake.vault import VaultRows
from radlake.machine import utc_now, utc_of_shanghai
from radlake.reminder.decide import SHOW, Decision, Ordered, Prior, decide, judge_order, window_days
from radlake.reminder.persons import Identifier, PersonFound, find_person
from radlake.reminder.policy import ReminderPolicy, load_policy
from radlake.reminder.references import TABLES, References, load_references
from radlake.reminder.retrievable import retrievable_exams
from radlake.stats.duplicates.recent import Recent, RecentExams, build_index, versions_of
from radlake.vault.lake_key import check_key, lake_keys

__all__ = ["Desk", "Question", "Reminder", "make_index"]

_ADULT_DAYS = 18 * 365.25


@dataclass(frozen=True, repr=False)
class Question:
    """What order entry asks; it has no repr, because it holds identifiers.

    Attributes
    ----------
    now : datetime
        Local time in Asia/Shanghai, without a time zone.
    born : date or None
        Doses are told of adults only: estimates are made for them.
    asked_by : str
        Pseudonym of the caller's user.
    """

    hospital_id: str
    hook: str
    identifiers: tuple[Identifier, ...]
    orders: tuple[Ordered, ...]
    now: datetime
    born: date | None = None
    asked_by: str = ""


@dataclass(frozen=True)
class Reminder:
    """What is to be shown of one order.

    Attributes
    ----------
    dose_msv : float or None
        Effective dose: the estimate of the earlier exam, else a typical one of an adult.
    hospital_names : tuple of str
        Of the earlier exam, Chinese and English.
    """

    reminder_id: str
    ordered: Ordered
    prior: Prior
    days: int
    hospital_names: tuple[str, str]
    price_fen: int | None
    dose_msv: float | None
    is_dose_typical: bool


class Desk:
    """The desk of one lake, opened with its key.

    Parameters
    ----------
    clock : callable
        Local time in Asia/Shanghai, without a time zone.

    Raises
    ------
    KeyMissing, KeyMismatch, ContractBroken
    """

    def __init__(
        self, settings: Settings, *, clock: Callable[[], datetime], policy: ReminderPolicy | None = None
    ) -> None:
        self._settings = settings
        self._lake = Lake.from_settings(settings)
        self.clock = clock
        self.policy = policy or load_policy()
        self.ledger = Ledger(settings.ledger)
        self.keys = lake_keys(settings)
        check_key(self.keys, settings, ledger=self.ledger)
        self.journal = ReminderJournal.from_settings(settings)
        self._vault = VaultRows(self.ledger)
        self._lock = threading.Lock()
        self._recent = RecentExams(self._lake)
        if not self._recent.has_index:
            self._recent.close()
            make_index(settings, now=clock())
            self._recent = RecentExams(self._lake)
        self._reference_versions = self._versions()
        self.references: References = load_references(self._lake)

    def close(self) -> None:
        self._recent.close()
        self.journal.close()
        self.ledger.close()

    def utc(self) -> datetime:
        """UTC of the clock that orders are placed by, without a time zone."""
        return utc_of_shanghai(self.clock())

    def ask(self, question: Question) -> list[Reminder]:
        """Decide about every order, keep what was decided, and tell what is to be shown."""
        decisions = self._decide(question)
        at = utc_of_shanghai(question.now)
        is_on = self.references.has_begun(question.hospital_id, question.now.date())
        hits = [(ordered, found.prior) for ordered, found in decisions if found.verdict == SHOW and found.prior]
        kept = [
            ShownReminder(
                reminder_id=str(uuid.uuid4()),
                hospital_id=question.hospital_id,
                patient_key=prior.patient_key,
                shown_at=at,
                is_muted=not is_on,
                modality_group=ordered.modality_group,
                body_part_code=ordered.body_part_code,
                laterality_code=ordered.laterality_code,
                earlier_hospital_id=prior.hospital_id,
                earlier_exam_pseudo_id=prior.exam_pseudo_id,
                earlier_days=prior.days_before(question.now),
                policy_version=self.policy.version,
                asked_by=question.asked_by,
                linked_at=utc_now(),
            )
            for ordered, prior in hits
        ]
        month = question.now.year * 100 + question.now.month
        asked = [
            Asked(
                hospital_id=question.hospital_id,
                order_month=month,
                hook=question.hook,
                modality_group=ordered.modality_group,
                verdict="MUTED" if found.verdict == SHOW and not is_on else found.verdict,
            )
            for ordered, found in decisions
        ]
        ids = self.journal.enter(asked, kept, since=at - self.policy.same_reminder)
        if not is_on:
            return []
        return [
            self._reminder(reminder_id, ordered, prior, question)
            for reminder_id, (ordered, prior) in zip(ids, hits, strict=True)
        ]

    def _decide(self, question: Question) -> list[tuple[Ordered, Decision]]:
        early = [judge_order(ordered, policy=self.policy) for ordered in question.orders]
        if all(early):  # nobody needs to know who it is
            return [(ordered, found) for ordered, found in zip(question.orders, early, strict=True) if found]
        person = self._person(question)
        return [
            (ordered, found or self._look_back(ordered, person, question))
            for ordered, found in zip(question.orders, early, strict=True)
        ]

    def _person(self, question: Question) -> PersonFound:
        return find_person(
            question.identifiers,
            hospital_id=question.hospital_id,
            keys=self.keys,
            vault=self._vault,
            links=self.references.links,
        )

    def _look_back(self, ordered: Ordered, person: PersonFound, question: Question) -> Decision:
        if person.verdict:
            return Decision(person.verdict)
        priors = self._priors(ordered, person.patient_keys, question)
        return decide(ordered, priors, now=question.now, policy=self.policy)

    def _priors(self, ordered: Ordered, patient_keys: Sequence[int], question: Question) -> list[Prior]:
        days = window_days(ordered, self.policy) + 1  # whole days count: the earliest began up to one before
        found: list[Prior] = []
        for patient_key in patient_keys:
            moved = self.keys.offset(patient_key)
            with self._lock:
                recent = self._recent.find(
                    patient_key,
                    modality_group=ordered.modality_group,
                    body_part_code=ordered.body_part_code,
                    now=question.now,
                    days=days,
                    moved=moved,
                )
            found += [_prior(one, patient_key, moved) for one in recent]
        if not found:
            return []
        here = retrievable_exams(self.ledger, {(prior.hospital_id, prior.exam_pseudo_id) for prior in found})
        overridden = self.journal.overridden(
            question.hospital_id,
            patient_keys,
            {prior.exam_pseudo_id for prior in found},
            since=utc_of_shanghai(question.now) - self.policy.quiet_after_override,
        )
        to_local = question.now - utc_of_shanghai(question.now)
        return [
            replace(
                prior,
                is_retrievable=(prior.hospital_id, prior.exam_pseudo_id) in here,
                overridden_at=at + to_local if (at := overridden.get(prior.exam_pseudo_id)) else None,
            )
            for prior in sorted(found, key=lambda prior: prior.at, reverse=True)
        ]

    def _reminder(self, reminder_id: str, ordered: Ordered, prior: Prior, question: Question) -> Reminder:
        now, dose = question.now, prior.effective_dose_msv
        if question.born is not None and (now.date() - question.born).days < _ADULT_DAYS:
            dose = typical = None
        else:
            typical = self.references.typical_msv(ordered.modality_group, ordered.body_part_code)
        return Reminder(
            reminder_id=reminder_id,
            ordered=ordered,
            prior=prior,
            days=prior.days_before(now),
            hospital_names=self.references.hospitals.get(prior.hospital_id, (prior.hospital_id, prior.hospital_id)),
            price_fen=self.references.price_fen(ordered.modality_group, ordered.body_part_code, now.date()),
            dose_msv=typical if dose is None else dose,
            is_dose_typical=dose is None,
        )

    def refresh(self) -> bool:
        """Change to the newest snapshot if its index is ready; False while it is not."""
        if (versions := self._versions()) != self._reference_versions:
            self.references, self._reference_versions = load_references(self._lake), versions
        if versions_of(self._lake) == self._recent.versions:
            return True
        newer = RecentExams(self._lake)
        if not newer.has_index:
            newer.close()
            return False
        with self._lock:
            self._recent, older = newer, self._recent
        older.close()
        return True

    def _versions(self) -> tuple[int | None, ...]:
        return tuple(self._lake.tables.version(name) for name in TABLES)


def make_index(settings: Settings, *, now: datetime) -> int:
    """Make the index of recent exams of the newest snapshot; returns its rows."""
    with date_offsets(settings) as offsets:
        return build_index(Lake.from_settings(settings), date_offsets=offsets, now=now)


def _prior(one: Recent, patient_key: int, moved: timedelta) -> Prior:
    return Prior(
        at=one.at - moved,
        hospital_id=one.hospital_id,
        exam_pseudo_id=one.exam_pseudo_id,
        patient_key=patient_key,
        laterality_code=one.laterality_code,
        contrast_code=one.contrast_code,
        confidence_code=one.confidence_code,
        ground_codes=frozenset(one.ground_codes.split("+")) if one.ground_codes else frozenset(),
        encounter_pseudo_id=one.encounter_pseudo_id,
        effective_dose_msv=one.effective_dose_msv,
    )
