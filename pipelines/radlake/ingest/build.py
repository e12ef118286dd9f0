"""Build: the tables of `sql/` from what was harvested, with the true calendar that the root key gives."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import datetime

import numpy as np

from radlake import telemetry
from radlake.config import Settings
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.sqlrun import BuiltTable, build
from radlake.sqlrun.reference import load_defaults
from radlake.stats.release import mask
from radlake.vault.lake_key import check_key, lake_keys

__all__ = ["build_lake"]


def build_lake(settings: Settings, *, now: datetime, layers: Collection[str] | None = None) -> list[BuiltTable]:
    """Build the tables of `sql/`; the true calendar is made from the root key, in memory, for this build only.

    Reference tables that nobody loaded get their defaults first.

    Raises
    ------
    KeyMissing, KeyMismatch, ContractBroken
    """
    keys = lake_keys(settings)
    ledger = Ledger(settings.ledger)
    try:
        check_key(keys, settings, ledger=ledger)
    finally:
        ledger.close()

    def date_offsets(patient_keys: np.ndarray) -> np.ndarray:
        seconds = (keys.offset(int(key)).total_seconds() for key in patient_keys)
        return np.fromiter(seconds, dtype=np.int64)

    run_id = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    lake = Lake.from_settings(settings)
    load_defaults(lake, batch_id=f"defaults-{run_id}")
    with telemetry.span("build", run_id=run_id):
        return build(lake, date_offsets=date_offsets, mask=mask, run_id=run_id, now=now, layers=layers)
