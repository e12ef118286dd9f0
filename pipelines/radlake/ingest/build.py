"""Build: the tables of `sql/` from what was harvested, with the true calendar that the root key gives."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from contextlib import closing
from datetime import datetime
from functools import partial

from radlake import telemetry
from radlake.config import Settings
from radlake.ingest.offsets import date_offsets
from radlake.ingest.reminders import publish_reminders
from radlake.ingest.stored import publish_storage
from radlake.ingest.uploads import publish_retrievals, publish_uploads
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.lake.person_links import publish_links
from radlake.lake.withdrawals import sharing_lake
from radlake.sqlrun import BuiltTable, build
from radlake.sqlrun.reference import load_defaults
from radlake.stats.policy import load_policy
from radlake.stats.release import mask
from radlake.vault.lake_key import lake_keys
from radlake.vocab.again import decide_again

__all__ = ["build_alone", "build_lake"]


def build_lake(settings: Settings, *, now: datetime, layers: Collection[str] | None = None) -> list[BuiltTable]:
    """Build the tables of `sql/`; the true calendar is made from the root key, in memory, for this build only.

    Reference tables that nobody loaded get their defaults first.

    Raises
    ------
    LakeBusy
        If somebody's data are being withdrawn: what was read before must not be written after.
    KeyMissing, KeyMismatch, ContractBroken
    """
    with sharing_lake(settings):
        return build_alone(settings, now=now, layers=layers)


def build_alone(settings: Settings, *, now: datetime, layers: Collection[str] | None = None) -> list[BuiltTable]:
    """`build_lake` for who holds the claim."""
    policy = load_policy(settings.disclosure)
    run_id = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    lake = Lake.from_settings(settings)
    with closing(Ledger(settings.ledger)) as ledger:
        publish_links(lake, ledger)
    with date_offsets(settings) as offsets:
        with closing(Ledger(settings.ledger)) as ledger:
            publish_uploads(lake, ledger, keys=lake_keys(settings), date_offsets=offsets, now=now)
            publish_retrievals(lake, ledger, now=now)
        publish_reminders(settings, keys=lake_keys(settings), now=now)
        load_defaults(lake, batch_id=f"defaults-{run_id}")
        with telemetry.span("build", run_id=run_id):
            built = build(
                lake,
                date_offsets=offsets,
                mask=partial(mask, policy=policy),
                released_by=(policy.name, policy.threshold),
                run_id=run_id,
                now=now,
                layers=layers,
                prepare=decide_again,
            )
    if layers is None or "stats" in layers:
        with closing(Ledger(settings.ledger)) as ledger:
            publish_storage(lake, ledger, now=now)
    return built
