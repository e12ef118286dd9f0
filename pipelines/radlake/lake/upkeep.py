"""Upkeep of a lake, every night: few large files instead of many small ones, and none that nobody needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from radlake.contracts import load_tables
from radlake.lake.store import sweep
from radlake.lake.tables import LONGEST_BATCH
from radlake.lake.zones import Lake

__all__ = ["Tidied", "tidy"]


@dataclass(frozen=True, kw_only=True)
class Tidied:
    """What was done to a table: months laid out anew, files deleted."""

    zone: str
    table: str
    n_months: int
    n_files: int


def tidy(lake: Lake, *, retention: timedelta = LONGEST_BATCH) -> list[Tidied]:
    """Compact every table of both zones, delete its unneeded files, and sweep what dead processes left.

    Readers of an older version than `retention` ago lose its files, except those of pins.
    """
    done = []
    for zone, store in (("lake", lake.tables), ("restricted", lake.restricted_tables)):
        for table in load_tables().values():
            n_months = store.compact(table)
            n_files = store.vacuum(table, retention=retention)
            if n_months or n_files:
                done.append(Tidied(zone=zone, table=table.full_name, n_months=n_months, n_files=n_files))
    sweep(lake.scratch, older_than=LONGEST_BATCH)
    return done
