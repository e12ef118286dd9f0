"""Pseudonyms: keyed replacements for identifiers, the same in every process, every hospital and every year.

Only this module sees the root secret. Every purpose has a key of its own (HKDF, RFC 5869), so that a pseudonym of one
purpose says nothing about another; unkeyed hashes of identifiers can be searched and are avoided (PS3.15 E.1.1).
"""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import NoReturn

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from radlake.errors import ConfigInvalid

__all__ = ["KeyRing"]

_MIN_SECRET_BYTES = 32
_MAX_DAYS = 365
_MAX_SECONDS = 59


class KeyRing:
    """The keys of one deployment.

    It cannot be printed, copied or pickled: a worker process resolves the secret itself.

    >>> keys = KeyRing.from_secret("00" * 32)
    >>> keys
    KeyRing(...)
    >>> keys.uid("1.2.156.1") == keys.uid("1.2.156.1 ")
    True
    """

    __slots__ = ("_keys", "_root")

    def __init__(self, root: bytes) -> None:
        if len(root) < _MIN_SECRET_BYTES:
            problem = f"the root key must have at least {_MIN_SECRET_BYTES} bytes ({_MIN_SECRET_BYTES * 2} hex digits)"
            raise ConfigInvalid(path="root key", problems=[problem])
        self._root = root
        self._keys: dict[str, bytes] = {}

    @classmethod
    def from_secret(cls, secret: str) -> KeyRing:
        """Read the root key, a string of hexadecimal digits."""
        try:
            root = bytes.fromhex(secret.strip())
        except ValueError:
            # Not chained: the text of that error could show part of the secret.
            raise ConfigInvalid(path="root key", problems=["the root key must be hexadecimal digits"]) from None
        return cls(root)

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

    def _number(self, purpose: str, patient_key: int) -> int:
        return int.from_bytes(self._digest(f"offset/{purpose}", str(patient_key))[:8], "big")

    def _digest(self, purpose: str, text: str) -> bytes:
        key = self._keys.get(purpose)
        if key is None:
            kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"radlake/v1/{purpose}".encode())
            key = self._keys[purpose] = kdf.derive(self._root)
        return hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256")

    def __repr__(self) -> str:
        return "KeyRing(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a KeyRing is not pickled: hand the reference of the secret to the worker")
