"""A pull in a process of its own, which a test kills; imports nothing that is slow."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from radlake.cohort.pull import Manifest, chunks, open_release, pull
from radlake.config import StoreSettings

__all__ = ["TODAY", "pull_member_by_member"]

TODAY = date(2026, 11, 22)


def pull_member_by_member(lake: str, release_id: str, folder: Path, layout: str) -> None:
    """One thread, and a range read for each member."""
    chunks._PIECE = 1500
    release = open_release(StoreSettings(lake=lake), release_id, today=TODAY)
    assert pull(release, folder, manifest=Manifest(release_id), layout=layout, workers=1).is_complete
