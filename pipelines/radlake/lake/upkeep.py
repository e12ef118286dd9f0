"""Upkeep of a lake, every night: few large files instead of many small ones, and none that nobody needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from radlake.contracts import load_tables
from radlake.lake.ledger import Ledger
from radlake.lake.lost_objects import delete_lost_objects
from radlake.lake.store import sweep
from radlake.lake.tables import LONGEST_BATCH
from radlake.lake.zones import Lake

__all__ = ["Tidied", "tidy"]


@dataclass(frozen=True, kw_only=True)
class Tidied:
    """What was done to a table (or to the series objects): months laid out anew, files deleted."""

    zone: str
    table: str
    n_months: int
    n_files: int


def tidy(lake: Lake, *, ledger: Ledger, retention: timedelta = LONGEST_BATCH) -> list[Tidied]:
    """Compact every table of both zones, delete its unneeded files, the series objects that only they named, and what
    dead processes left.

    Readers of an older version than `retention` ago lose its files, except those of pins.
    """
    done = []
    for zone, store in (("lake", lake.tables), ("restricted", lake.restricted_tables)):
        for table in load_tables().values():
            n_months = store.compact(table)
            n_objects, spared = 0, set[str]()
            if zone == "lake" and table.view_name == "dicom.instance":
                doomed = store.unneeded(table, retention=retention)
                n_objects, spared = delete_lost_objects(lake, ledger, doomed=doomed)
            n_files = store.vacuum(table, retention=retention, spared=spared)
            if n_months or n_files:
                done.append(Tidied(zone=zone, table=table.full_name, n_months=n_months, n_files=n_files))
            if n_objects:
                done.append(Tidied(zone=zone, table="objects", n_months=0, n_files=n_objects))
    sweep(lake.scratch, older_than=LONGEST_BATCH)
    return done
