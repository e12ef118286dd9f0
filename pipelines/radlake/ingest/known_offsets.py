"""Offsets of persons that were derived before, sealed: to open them costs a fiftieth of deriving them again.

The true calendar is never stored in the clear (ADR 3). What lies on the disk here is encrypted under a key of the root
key (AES-256-GCM), and who has that could derive every offset anyway. It is a cache of the restricted zone: thrown away
at will, and what is missing, damaged or sealed under another key is derived again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from radlake.lake.store import make_folder

__all__ = ["KnownOffsets"]

_SHIFT = 55  # of 63 bits: 256 files, each with persons of one range
_FEW = 2_000  # persons: sooner derived than looked up
_NONCE_BYTES = 12
_PERSON = np.dtype([("patient_key", "<i8"), ("seconds", "<i4")])


class KnownOffsets:
    """A function from persons (patient_key) to seconds by which their times were moved.

    Parameters
    ----------
    folder : Path
        Of the restricted zone; made when something is to be kept.
    derive : callable
        Seconds of persons who are not known yet.
    """

    def __init__(self, folder: Path, *, cipher: AESGCM, derive: Callable[[Iterable[int]], list[int]]) -> None:
        self._folder = folder
        self._cipher = cipher
        self._derive = derive

    def __call__(self, patient_keys: np.ndarray) -> np.ndarray:
        keys = np.asarray(patient_keys, dtype=np.int64)
        if len(keys) < _FEW:
            return np.array(self._derive(keys.tolist()), dtype=np.int64)
        is_sorted = bool((keys[1:] > keys[:-1]).all())
        persons, place = (keys, slice(None)) if is_sorted else np.unique(keys, return_inverse=True)
        seconds = np.empty(len(persons), np.int64)
        bounds = np.searchsorted(persons >> _SHIFT, np.arange((1 << (63 - _SHIFT)) + 1))
        for bucket in np.flatnonzero(np.diff(bounds)).tolist():
            part = slice(bounds[bucket], bounds[bucket + 1])
            seconds[part] = self._of_bucket(bucket, persons[part])
        return seconds[place]

    def _of_bucket(self, bucket: int, persons: np.ndarray) -> np.ndarray:
        known = self._open(bucket)
        at = np.minimum(np.searchsorted(known["patient_key"], persons), max(len(known) - 1, 0))
        is_new = known["patient_key"][at] != persons if len(known) else np.ones(len(persons), bool)
        if not is_new.any():
            return known["seconds"][at].astype(np.int64)
        derived = np.empty(int(is_new.sum()), _PERSON)
        derived["patient_key"] = persons[is_new]
        derived["seconds"] = self._derive(persons[is_new].tolist())
        merged = np.concatenate([known, derived])
        merged = merged[np.argsort(merged["patient_key"], kind="stable")]
        self._seal(bucket, merged)
        return merged["seconds"][np.searchsorted(merged["patient_key"], persons)].astype(np.int64)

    def _open(self, bucket: int) -> np.ndarray:
        try:
            sealed = self._path(bucket).read_bytes()
            opened = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _about(bucket))
            return np.frombuffer(opened, _PERSON)
        except (FileNotFoundError, InvalidTag, ValueError):
            return np.empty(0, _PERSON)

    def _seal(self, bucket: int, persons: np.ndarray) -> None:
        """Keep a range of persons; of two that write at once the last one wins, and the other derives again."""
        make_folder(self._folder)
        nonce = os.urandom(_NONCE_BYTES)
        path = self._path(bucket)
        part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        try:
            with open(part, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(nonce + self._cipher.encrypt(nonce, persons.tobytes(), _about(bucket)))
            part.replace(path)
        finally:
            with suppress(FileNotFoundError):
                part.unlink()

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{bucket:02x}.sealed"


def _about(bucket: int) -> bytes:
    return b"radlake/offsets/1/%d" % bucket
