"""From a card to the images: consent is asked, and what is granted opens them once, within five minutes, all audited.

Who holds the link of a card may ask; nobody sees anything of the images before the patient consented.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from radlake.config import Settings
from radlake.errors import PermanentError
from radlake.lake import Lake, duck
from radlake.lake.reminders import ShownReminder
from radlake.reminder.consent import ANSWER_WITHIN, ConsentMethod, Wish, local_methods
from radlake.reminder.desk import Desk
from radlake.reminder.retrievable import studies_of_exam
from radlake.vault.trail import AuditTrail, Reason

__all__ = ["Opened", "Opening", "OpeningRefused", "SeriesRecord"]

_LINK_LIVES = timedelta(minutes=5)
_CARD_LIVES = timedelta(hours=12)
_MOST_TRIES = 5
_MOST_WISHES = 5  # of one reminder: a code cannot be asked for until one is guessed


class OpeningRefused(PermanentError):
    """`code` says why: unknown, expired, used, denied, wrong, burnt, many, gone."""

    sentence = "Nothing was opened: {code}."


@dataclass(frozen=True)
class SeriesRecord:
    """What the study record tells of a series."""

    modality: str
    description: str
    n_instances: int


@dataclass(frozen=True)
class Opened:
    """What a link opened: the studies of the exam, and their record."""

    reminder: ShownReminder
    study_uids: tuple[str, ...]
    series: tuple[SeriesRecord, ...]


class Opening:
    """Consents and links of a desk.

    Parameters
    ----------
    clock : callable
        UTC without a time zone: the real one, since links and consents end by it.
    methods : mapping, optional
        Ways to ask a patient, by kind; else the local ones.
    """

    def __init__(
        self,
        desk: Desk,
        settings: Settings,
        *,
        clock: Callable[[], datetime],
        methods: Mapping[str, ConsentMethod] | None = None,
    ) -> None:
        restricted = settings.prepare_restricted()
        self._desk, self._journal, self._clock = desk, desk.journal, clock
        self._lake = Lake.from_settings(settings)
        self._trail = AuditTrail(desk.ledger, desk.keys, restricted=restricted)
        self.methods = methods or local_methods(restricted, desk.keys)

    def reminder(self, reminder_id: str) -> ShownReminder:
        """The reminder behind the link of a card.

        Raises
        ------
        OpeningRefused
        """
        found = self._journal.find(reminder_id)
        if found is None or found.is_muted:
            raise OpeningRefused(code="unknown")
        if found.linked_at + _CARD_LIVES < self._clock():
            raise OpeningRefused(code="expired")
        return found

    def ask(self, reminder_id: str, kind: str) -> str:
        """Ask for consent; returns the id of the wish."""
        reminder = self.reminder(reminder_id)
        method = self.methods.get(kind)
        if method is None:
            raise OpeningRefused(code="unknown")
        now = self._clock()
        if self._journal.n_wishes(reminder_id) >= _MOST_WISHES:
            self._audit("consent-ask", reminder, "refused: asked too often")
            raise OpeningRefused(code="many")
        wish = Wish(str(uuid.uuid4()), reminder_id, reminder.patient_key, kind, now + ANSWER_WITHIN)
        self._audit("consent-ask", reminder, kind)
        self._journal.enter_wish(wish.consent_id, reminder_id, kind, kept=method.ask(wish), expires_at=wish.expires_at)
        return wish.consent_id

    def kind_of(self, reminder_id: str, consent_id: str) -> str:
        return self._wish(reminder_id, consent_id)[0].kind

    def grant(self, reminder_id: str, consent_id: str, answer: str) -> str | None:
        """The token of a link that works once, when the patient consented; None while nobody answered.

        Raises
        ------
        OpeningRefused
            `wrong`, and when it was tried too often `burnt`; `denied`, `expired`.
        """
        reminder = self.reminder(reminder_id)
        wish, kept = self._wish(reminder_id, consent_id)
        said = self.methods[wish.kind].judge(wish, kept=kept, answer=answer)
        if said is None:
            return None
        if not said:
            is_over = wish.kind != "sms_code"
            n_tried = self._journal.try_wish(consent_id, is_over=is_over, most=_MOST_TRIES)
            code = "denied" if is_over else "burnt" if n_tried >= _MOST_TRIES else "wrong"
            self._audit("consent-answer", reminder, f"{wish.kind}: {code}")
            raise OpeningRefused(code=code)
        token = secrets.token_urlsafe(32)
        if not self._journal.grant_wish(consent_id, link=_digest(token), expires_at=self._clock() + _LINK_LIVES):
            raise OpeningRefused(code="used")  # somebody was first
        self._audit("consent-answer", reminder, f"{wish.kind}: granted")
        return token

    def open(self, token: str) -> Opened:
        """Use a link up, and tell what there is.

        Raises
        ------
        OpeningRefused
            `used`, also for a link that never was; `expired`; `gone` when the exam cannot be opened any more.
        """
        now = self._clock()
        link = self._journal.take_link(_digest(token))
        if link is None:
            raise OpeningRefused(code="used")
        reminder_id, kind, expires_at = link
        reminder = self._journal.find(reminder_id)
        if reminder is None or expires_at < now:
            raise OpeningRefused(code="expired")
        exam = reminder.earlier_hospital_id, reminder.earlier_exam_pseudo_id
        studies = studies_of_exam(self._desk.ledger, *exam)
        if not studies:
            self._audit("images-open", reminder, f"{kind}: the exam cannot be opened any more")
            raise OpeningRefused(code="gone")
        self._audit("images-open", reminder, f"{kind}: {len(studies)} studies")
        self._journal.open(reminder_id, by=kind, at=self._desk.utc())
        return Opened(reminder, tuple(studies), self._record(studies))

    def _wish(self, reminder_id: str, consent_id: str) -> tuple[Wish, str]:
        found = self._journal.wish(consent_id)
        if found is None or found["reminder_id"] != reminder_id:
            raise OpeningRefused(code="unknown")
        if found["state"] != "asked":
            raise OpeningRefused(code="burnt" if found["state"] == "burnt" else "used")
        if found["expires_at"] < self._clock():
            raise OpeningRefused(code="expired")
        reminder = self.reminder(reminder_id)
        return Wish(consent_id, reminder_id, reminder.patient_key, found["kind"], found["expires_at"]), found["kept"]

    def _record(self, studies: list[str]) -> tuple[SeriesRecord, ...]:
        with duck.connect(self._lake, tables=["dicom.series"]) as connection:
            rows = connection.execute(
                "SELECT modality, coalesce(series_description, ''), n_instances FROM dicom.series"
                " WHERE list_contains($studies, study_instance_uid) ORDER BY ALL",
                {"studies": studies},
            ).fetchall()
        return tuple(SeriesRecord(*row) for row in rows)

    def _audit(self, action: str, reminder: ShownReminder, outcome: str) -> None:
        self._trail.record(
            action,
            reason=Reason(reminder.asked_by or "(not told)", "reminder at order entry"),
            now=self._clock(),
            kind="exam",
            pseudonym=reminder.earlier_exam_pseudo_id,
            hospital_id=reminder.hospital_id,
            outcome=outcome,
        )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
