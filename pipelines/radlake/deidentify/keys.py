"""Pseudonyms: keyed replacements for identifiers, the same in every process, every hospital and every year.

Only this module derives from the root secret. Every purpose has a key of its own (HKDF, RFC 5869), so that a pseudonym
of one purpose says nothing about another; unkeyed hashes of identifiers can be searched and are avoided (PS3.15 E.1.1).
docs/reference/keys.md describes the derivation for those who write it again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, NoReturn

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from radlake.errors import ConfigInvalid

__all__ = ["KeyRing"]

_MIN_SECRET_BYTES = 32
_MAX_DAYS = 365
_MAX_SECONDS = 59
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class KeyRing:
    """The keys of one deployment.

    It cannot be printed, copied or pickled: a worker process resolves the secret itself.

    >>> keys = KeyRing.from_secret("00" * 32)
    >>> keys
    KeyRing(...)
    >>> keys.uid("1.2.156.1") == keys.uid("1.2.156.1 ")
    True
    """

    __slots__ = ("_keys", "_padded", "_root")

    def __init__(self, root: bytes) -> None:
        if len(root) < _MIN_SECRET_BYTES:
            problem = f"the root key must have at least {_MIN_SECRET_BYTES} bytes ({_MIN_SECRET_BYTES * 2} hex digits)"
            raise ConfigInvalid(path="root key", problems=[problem])
        self._root = root
        self._keys: dict[str, bytes] = {}
        self._padded: dict[str, tuple[Any, Any]] = {}

    @classmethod
    def from_secret(cls, secret: str) -> KeyRing:
        """Read the root key, a string of hexadecimal digits."""
        try:
            root = bytes.fromhex(secret.strip())
        except ValueError:
            # Not chained: the text of that error could show part of the secret.
            raise ConfigInvalid(path="root key", problems=["the root key must be hexadecimal digits"]) from None
        return cls(root)

    def for_project(self, name: str) -> KeyRing:
        """The keys of a project: its pseudonyms, UIDs and offsets join with nobody else's.

        Parameters
        ----------
        name : str
            Lower-case letters, digits, `_` and `-`; the same name gives the same keys for ever.

        Raises
        ------
        ConfigInvalid
        """
        if not _PROJECT.fullmatch(name):
            problem = "use up to 64 lower-case letters, digits, _ and -, beginning with a letter or digit"
            raise ConfigInvalid(path="The name of the project", problems=[problem])
        return KeyRing(self._key(f"project/{name}"))

    def check_value(self) -> str:
        """32 hexadecimal digits that tell this root from another one, and nothing about either."""
        return self._digest("check", "").hex()[:32]

    def vault_cipher(self, version: int) -> AESGCM:
        """AES-256-GCM under a key of the vault; each version is a key of its own."""
        return AESGCM(self._key(f"vault/{version}"))

    def offset_cipher(self) -> AESGCM:
        """AES-256-GCM under which offsets that were derived may be kept."""
        return AESGCM(self._key("offset/known"))

    def audit_mac(self, text: str) -> str:
        """Keyed digest of an entry of the audit trail: who cannot read the key cannot write the trail anew."""
        return self._digest("audit", text).hex()

    def ledger_mac(self, text: str) -> str:
        """Keyed digest of an event or a certificate of the ledger."""
        return self._digest("ledger", text).hex()

    def withdrawal_mac(self, text: str) -> str:
        """Keyed digest of a report of a withdrawal, and of whom it was about."""
        return self._digest("withdrawal", text).hex()

    def withdrawal_cipher(self) -> AESGCM:
        """AES-256-GCM under which it is kept whom a withdrawal is about, until nothing is left of them."""
        return AESGCM(self._key("withdrawal/sealed"))

    def patient_key(self, text: str) -> int:
        """Pseudonym of a person: 63 bits, so that it is a positive BIGINT."""
        return int.from_bytes(self._digest("patient", text)[:8], "big") >> 1

    def uid(self, uid: str) -> str:
        """Replacement of a UID: `2.25.` and 128 bits in decimal (PS3.5 B.2), at most 44 characters.

        Padding is not part of a UID. What must not be replaced (SOP classes, coding schemes) is the caller's decision.
        """
        value = int.from_bytes(self._digest("uid", uid.strip(" \0"))[:16], "big")
        return f"2.25.{value}"

    def pseudo_id(self, purpose: str, text: str) -> str:
        """Pseudonym of any other identifier: 16 hexadecimal digits."""
        return self._digest(f"id/{purpose}", text)[:8].hex()

    def exam_pseudo_id(self, *, hospital_id: str, accession_number: str, study_uid: str) -> str:
        """An exam is an accession number of the hospital; a study without one is an exam of its own."""
        name = f"accession|{accession_number}" if accession_number else f"study|{study_uid}"
        return self.pseudo_id("exam", f"{hospital_id}|{name}")

    def date_offset_days(self, patient_key: int) -> int:
        """Whole days, -365 to -1, by which all dates of a person move: always into the past."""
        return -1 - self._number("days", patient_key) % _MAX_DAYS

    def clock_offset_seconds(self, patient_key: int) -> int:
        """Seconds, 1 to 59, by which all times of a person move.

        A time of day to the second is a key into the logs of a hospital that a shift by whole days leaves intact.
        Less than a minute keeps hours of the day true; being constant, it keeps every interval.
        """
        return 1 + self._number("seconds", patient_key) % _MAX_SECONDS

    def offset(self, patient_key: int) -> timedelta:
        """The whole shift of a date and time of a person; subtract it to come back to the true one."""
        return timedelta(
            days=self.date_offset_days(patient_key),
            seconds=self.clock_offset_seconds(patient_key),
        )

    def offset_seconds(self, patient_keys: Iterable[int]) -> list[int]:
        """`offset` of many persons in seconds: a province has tens of millions of them."""
        (days_in, days_out), (seconds_in, seconds_out) = (
            self._hashed_pads(f"offset/{of}") for of in ("days", "seconds")
        )
        number = int.from_bytes
        offsets = []
        for patient_key in patient_keys:
            text = b"%d" % patient_key
            inner, outer = days_in.copy(), days_out.copy()
            inner.update(text)
            outer.update(inner.digest())
            days = -1 - number(outer.digest()[:8], "big") % _MAX_DAYS
            inner, outer = seconds_in.copy(), seconds_out.copy()
            inner.update(text)
            outer.update(inner.digest())
            offsets.append(days * 86_400 + 1 + number(outer.digest()[:8], "big") % _MAX_SECONDS)
        return offsets

    def _number(self, purpose: str, patient_key: int) -> int:
        return int.from_bytes(self._digest(f"offset/{purpose}", str(patient_key))[:8], "big")

    def _digest(self, purpose: str, text: str) -> bytes:
        """HMAC-SHA-256 under the key of a purpose (RFC 2104)."""
        inner, outer = (pad.copy() for pad in self._hashed_pads(purpose))
        inner.update(text.encode("utf-8", "surrogatepass"))
        outer.update(inner.digest())
        return outer.digest()

    def _hashed_pads(self, purpose: str) -> tuple[Any, Any]:
        """The inner and the outer padded key, hashed once, to copy: half of the time of `hmac.digest`."""
        pads = self._padded.get(purpose)
        if pads is None:
            pads = self._padded[purpose] = _padded(self._key(purpose))
        return pads

    def _key(self, purpose: str) -> bytes:
        key = self._keys.get(purpose)
        if key is None:
            kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"radlake/v1/{purpose}".encode())
            key = self._keys[purpose] = kdf.derive(self._root)
        return key

    def __repr__(self) -> str:
        return "KeyRing(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a KeyRing is not pickled: hand the reference of the secret to the worker")


def _padded(key: bytes) -> tuple[Any, Any]:
    """SHA-256 of the inner and the outer padded key of an HMAC, to copy and go on with."""
    block = key.ljust(64, b"\0")
    inner, outer = (hashlib.sha256(bytes(one ^ pad for one in block)) for pad in (0x36, 0x5C))
    return inner, outer
