"""A harvest that meets a fault: it is ridden out or told, and the next run mends all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from radlake.cli.hospitals import hospital_of_files
from radlake.config import Settings
from radlake.errors import TransientError
from radlake.ingest import harvest_folder
from support.lakes import picture, states

__all__ = ["Once", "harvest", "harvest_or_tell", "outcome"]


def harvest(settings: Settings, archive: Path) -> None:
    harvest_folder(settings, archive, hospital=hospital_of_files(settings, "h1"))


def harvest_or_tell(settings: Settings, archive: Path) -> str:
    """Ride it out, or tell what to do next; anything else fails the test."""
    try:
        harvest(settings, archive)
    except TransientError as error:
        return str(error)
    return ""


def outcome(settings: Settings) -> tuple[object, object, list[Path]]:
    """States of the ledger, all that the lake holds, and what is staged still."""
    return states(settings), picture(settings), list((settings.restricted / "staged").rglob("*.parquet"))


class Once:
    """A listener that does something the first time that a point is reached."""

    def __init__(self, point: str, action: Callable[[], None]) -> None:
        self._point, self._action, self.is_done = point, action, False

    def __call__(self, name: str) -> None:
        if name == self._point and not self.is_done:
            self.is_done = True
            self._action()
