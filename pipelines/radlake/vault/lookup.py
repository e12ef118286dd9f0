"""Authorised look-ups: from a pseudonym to the person, and from a person to the pseudonym. Each is audited twice.

The question is entered in the audit trail before anything is opened, and the answer before it is given. Pseudonyms of
series and instances are found in the lake's tables, everything else in the vault.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom import Dataset

from radlake.config import Settings
from radlake.deidentify import KeyRing, identify_person
from radlake.deidentify.person import national_ids
from radlake.errors import PermanentError
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from radlake.lake.vault import VaultRows
from radlake.vault.lake_key import check_key, lake_keys
from radlake.vault.record import StudyRecord, VaultRecordDamaged, open_record, patient_alias
from radlake.vault.trail import AuditTrail, Reason

__all__ = ["KINDS", "Answer", "Found", "LookupRefused", "Vault", "problem_of"]

_UID = re.compile(r"2\.25\.\d{1,39}")
_HEX = re.compile(r"[0-9a-f]{16}")
_NUMBER = re.compile(r"\d{1,19}")
KINDS = {"study": (_UID,), "series": (_UID,), "instance": (_UID,), "exam": (_HEX,), "patient": (_HEX, _NUMBER)}
_COLUMNS = {"series": "series_instance_uid", "instance": "sop_instance_uid"}
_NOT_TOLD = "(not a pseudonym)"


class LookupRefused(PermanentError):
    sentence = "Nothing was looked up: {reason}."


@dataclass(frozen=True)
class Found:
    """A study of the answer, and its record as far as it could be opened."""

    hospital_id: str
    study_uid: str
    patient_key: int
    exam_pseudo_id: str
    record: StudyRecord | None  # None: damaged


@dataclass(frozen=True)
class Answer:
    """What a look-up came to: studies for a pseudonym, persons for an identifier."""

    audit_seq: int
    found: tuple[Found, ...] = ()
    patient_keys: tuple[int, ...] = ()

    @property
    def damaged(self) -> tuple[Found, ...]:
        return tuple(item for item in self.found if item.record is None)


class Vault:
    """The vault of one lake, opened with its key.

    Raises
    ------
    KeyMissing, KeyMismatch
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clock = clock
        self.ledger = Ledger(settings.ledger)
        self.keys: KeyRing = lake_keys(settings)
        self.rows = VaultRows(self.ledger)
        check_key(self.keys, settings, ledger=self.ledger)
        self.trail = AuditTrail(self.ledger, self.keys, restricted=settings.prepare_restricted())

    def close(self) -> None:
        self.ledger.close()

    def find(self, kind: str, pseudonym: str, *, reason: Reason) -> Answer:
        """Who and what is behind a pseudonym.

        Parameters
        ----------
        kind : str
            One of `KINDS`.
        pseudonym : str
            Replaced UID; exam_pseudo_id; patient_key as a number or as the Patient ID of the objects.

        Raises
        ------
        LookupRefused
            If it has not the form of a pseudonym, or who and why is not told; this is audited too.
        """
        pseudonym = pseudonym.strip().lower()
        is_one = any(form.fullmatch(pseudonym) for form in KINDS[kind])

        def look() -> Answer:
            if not is_one:
                raise LookupRefused(
                    reason=f"that is no pseudonym of a {kind}; identifiers are asked for with --forward"
                )
            found = [self._opened(row) for row in self._rows(kind, pseudonym)]
            return Answer(0, found=tuple(item for item in found if _is_part(item.record, kind, pseudonym)))

        return self._audited(look, kind=kind, pseudonym=pseudonym if is_one else _NOT_TOLD, reason=reason)

    def forward(self, hospital_id: str, patient_id: str, *, issuer: str = "", reason: Reason) -> Answer:
        """Pseudonyms of the patient whom a hospital calls by a number: computed, and looked up among those it used.

        Several when the number was used for several persons.

        Raises
        ------
        LookupRefused
            If the number names nobody (UNKNOWN, 0), or stands in who or why.
        """
        asked = Dataset()
        asked.PatientID, asked.IssuerOfPatientID = patient_id, issuer
        person = identify_person([asked], hospital_id=hospital_id, keys=self.keys)
        known = self.rows.patient_keys(patient_alias(self.keys, hospital_id=hospital_id, patient_id=patient_id))

        def look() -> Answer:
            if not person.is_known:
                raise LookupRefused(reason="that number is one that consoles write for nobody in particular")
            return Answer(0, patient_keys=tuple(sorted(known | {person.patient_key})))

        pseudonym = f"{person.patient_key:016x}"
        return self._audited(
            look, kind="forward", pseudonym=pseudonym, hospital_id=hospital_id, reason=reason, secret=patient_id
        )

    def n_studies(self, patient_key: int) -> int:
        """Stored studies of a person that the vault knows."""
        return len({row["lake_study_uid"] for row in self.rows.find(patient_keys=[patient_key])})

    def damaged(self, *, reason: Reason) -> tuple[int, list[Found]]:
        """Open every record; how many there are, and those that cannot be opened."""

        self.record("check", reason=reason)
        n, bad = 0, []
        for page in self.rows.pages(500):
            n += len(page)
            bad += [item for row in page if (item := self._opened(row)).record is None]
        self.record("checked", reason=reason, outcome=f"{n} records, {len(bad)} damaged")
        return n, bad

    def record(self, action: str, *, reason: Reason, **fields: str) -> int:
        """Enter an act in the audit trail."""
        return self.trail.record(action, reason=reason, now=self._clock(), **fields)

    def _audited(
        self,
        look: Callable[[], Answer],
        *,
        kind: str,
        pseudonym: str,
        reason: Reason,
        hospital_id: str = "",
        secret: str = "",
    ) -> Answer:
        problem = problem_of(reason, secret=secret)
        told = Reason("(not told)", "(not told)") if problem else reason
        what = {"kind": kind, "pseudonym": pseudonym, "hospital_id": hospital_id}
        asked = self.record("ask", reason=told, **what)
        try:
            if problem:
                raise LookupRefused(reason=problem)
            answer = look()
        except Exception as exc:
            self.record("answer", reason=told, outcome=f"to {asked}: failed, {type(exc).__name__}", **what)
            raise
        n = f"{len(answer.patient_keys)} pseudonyms" if kind == "forward" else f"{len(answer.found)} records"
        bad = f", {len(answer.damaged)} damaged" if answer.damaged else ""
        self.record("answer", reason=told, outcome=f"to {asked}: {n}{bad}", **what)
        return Answer(asked, answer.found, answer.patient_keys)

    def _rows(self, kind: str, pseudonym: str) -> list[dict[str, Any]]:
        if kind == "study":
            return self.rows.find(studies=[pseudonym])
        if kind == "exam":
            return self.rows.find(exams=[pseudonym])
        if kind == "patient":
            numbers = {int(pseudonym)} if _NUMBER.fullmatch(pseudonym) else set()
            numbers |= {int(pseudonym, 16)} if _HEX.fullmatch(pseudonym) else set()
            return self.rows.find(patient_keys=[number for number in numbers if number < 1 << 63])
        with duck.connect(Lake.from_settings(self._settings), tables=[f"dicom.{kind}"]) as connection:
            query = f"SELECT DISTINCT study_instance_uid FROM dicom.{kind} WHERE {_COLUMNS[kind]} = $uid"
            studies = [row[0] for row in connection.execute(query, {"uid": pseudonym}).fetchall()]
        return self.rows.find(studies=studies)

    def _opened(self, row: dict[str, Any]) -> Found:
        try:
            record = open_record(self.keys, row)
        except VaultRecordDamaged:
            record = None
        return Found(row["hospital_id"], row["lake_study_uid"], row["patient_key"], row["exam_pseudo_id"], record)


def _is_part(record: StudyRecord | None, kind: str, pseudonym: str) -> bool:
    """Whether the series or instance is in this record: a study that came in parts has several."""
    if record is None or kind not in _COLUMNS:
        return True
    pairs = record.series if kind == "series" else record.instances
    return any(new == pseudonym for _, new in pairs)


def problem_of(reason: Reason, *, secret: str = "") -> str:
    """Why a look-up is not even tried, or an empty text: who and why must not tell an identifier to the audit trail."""
    if not reason.by.strip() or not reason.why.strip():
        return "say who asks and why (--by, --why)"
    text = f"{reason.by}\n{reason.why}"
    if (secret and secret in text) or national_ids(text):
        return "who and why must not hold the identifier of a patient: they are kept in the audit trail"
    return ""
