"""The patient's consent before images: asked and answered in one of several ways, behind one interface.

The methods here are local and real. A code by SMS and a question of the health app go out as files that a gateway of
the restricted zone takes, and come back as what the patient read aloud, or as a file of the gateway. A doctor may say
that the patient consented at the desk. A deployment brings its own by implementing `ConsentMethod`. A file names the
patient by pseudonym: the gateway knows how to reach whom.
"""

from __future__ import annotations

import hmac
import json
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from radlake.deidentify import KeyRing
from radlake.lake.store import write_whole

__all__ = ["KINDS", "ConsentMethod", "DoctorAssisted", "HealthApp", "SmsCode", "Wish", "local_methods"]

KINDS = ("sms_code", "health_app", "doctor_assisted")
_DIGITS = 6
ANSWER_WITHIN = timedelta(minutes=10)


@dataclass(frozen=True)
class Wish:
    """One wish for a patient's consent; it ends at `expires_at` (UTC)."""

    consent_id: str
    reminder_id: str
    patient_key: int
    kind: str
    expires_at: datetime


class ConsentMethod(Protocol):
    """A way to ask a patient."""

    kind: str

    def ask(self, wish: Wish) -> str:
        """Ask; returns what is needed to judge the answer and may be kept: a keyed digest, or an empty text."""
        ...

    def judge(self, wish: Wish, *, kept: str, answer: str) -> bool | None:
        """Whether consent was given; None while nobody answered.

        Parameters
        ----------
        answer : str
            What was typed on the page; empty when it only looks.
        """
        ...


class SmsCode:
    """A code by SMS: the patient reads it to the doctor."""

    kind = "sms_code"

    def __init__(self, outbox: Path, keys: KeyRing) -> None:
        self._outbox, self._keys = outbox, keys

    def ask(self, wish: Wish) -> str:
        code = f"{secrets.randbelow(10**_DIGITS):0{_DIGITS}}"
        text = f"您的既往影像调阅验证码 {code}，10分钟内有效。仅在您同意医生查看时告知。"
        _put(self._outbox / "sms", wish, text=text)
        return self._digest(wish, code)

    def judge(self, wish: Wish, *, kept: str, answer: str) -> bool | None:
        code = answer.strip()
        return hmac.compare_digest(kept, self._digest(wish, code)) if code else None

    def _digest(self, wish: Wish, code: str) -> str:
        return self._keys.pseudo_id("consent", f"{wish.consent_id}|{code}")


class HealthApp:
    """A question in the patient's health app; its gateway puts `{"granted": true}` or `false` into the inbox."""

    kind = "health_app"

    def __init__(self, outbox: Path, inbox: Path) -> None:
        self._outbox, self._inbox = outbox, inbox

    def ask(self, wish: Wish) -> str:
        self._inbox.mkdir(parents=True, exist_ok=True, mode=0o700)
        _put(self._outbox / "app", wish, text="医生申请查看您的既往影像，是否同意？")
        return ""

    def judge(self, wish: Wish, *, kept: str, answer: str) -> bool | None:  # noqa: ARG002
        try:
            said = json.loads((self._inbox / f"{wish.consent_id}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there, or not whole yet
            return None
        return said["granted"] is True if isinstance(said, dict) and "granted" in said else None


class DoctorAssisted:
    """The doctor declares that the patient, or who answers for them, consented at the desk."""

    kind = "doctor_assisted"

    def ask(self, wish: Wish) -> str:  # noqa: ARG002
        return ""

    def judge(self, wish: Wish, *, kept: str, answer: str) -> bool | None:  # noqa: ARG002
        return True if answer == "declared" else None


def local_methods(restricted: Path, keys: KeyRing) -> dict[str, ConsentMethod]:
    """The three ways of a restricted zone, by kind."""
    outbox, inbox = restricted / "consent" / "outbox", restricted / "consent" / "inbox"
    methods: list[ConsentMethod] = [SmsCode(outbox, keys), HealthApp(outbox, inbox), DoctorAssisted()]
    return {method.kind: method for method in methods}


def _put(folder: Path, wish: Wish, *, text: str) -> None:
    """A message for the gateway, which takes the file away; those that nobody took go when they have expired."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for old in folder.glob("*.json"):
        try:
            if datetime.fromisoformat(json.loads(old.read_text(encoding="utf-8"))["expires_at"]) < (
                wish.expires_at - ANSWER_WITHIN
            ):
                old.unlink(missing_ok=True)
        except (OSError, ValueError, KeyError):
            continue
    message = {
        "consent_id": wish.consent_id,
        "patient": f"{wish.patient_key:016x}",
        "text": text,
        "expires_at": wish.expires_at.isoformat(),
    }
    write_whole(folder / f"{wish.consent_id}.json", json.dumps(message, ensure_ascii=False) + "\n")
