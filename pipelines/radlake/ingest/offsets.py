"""By how much the times of each person were moved: derived from the root key, or known from before, for a build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from radlake.config import Settings
from radlake.ingest.known_offsets import KnownOffsets
from radlake.lake.ledger import Ledger
from radlake.vault.lake_key import check_key, lake_keys

__all__ = ["date_offsets"]


@contextmanager
def date_offsets(settings: Settings) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """A function from persons (patient_key) to seconds; true time = shifted time - seconds.

    Raises
    ------
    KeyMissing, KeyMismatch
        If the key is not there, or not that of this lake.
    """
    keys = lake_keys(settings)
    ledger = Ledger(settings.ledger)
    try:
        check_key(keys, settings, ledger=ledger)
    finally:
        ledger.close()
    yield KnownOffsets(settings.restricted / "offsets", cipher=keys.offset_cipher(), derive=keys.offset_seconds)
