"""A pull in a process of its own, which a test kills; imports nothing that is slow."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from radlake.cohort.pull import Manifest, chunks, open_release, pull
from radlake.config import StoreSettings
from support.killing import killing

__all__ = ["TODAY", "pull_until_killed", "warm_up"]

TODAY = date(2026, 11, 22)


def pull_until_killed(lake: str, release_id: str, folder: Path, layout: str) -> None:
    """One thread, a range read for each member; killed after the second."""
    chunks._PIECE = 1500
    release = open_release(StoreSettings(lake=lake), release_id, today=TODAY)
    with killing("pull.received", 2):
        pull(release, folder, manifest=Manifest(release_id), layout=layout, workers=1)


def warm_up() -> None:
    """Importing this module is all of it."""
