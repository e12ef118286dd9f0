"""What a scenario is, and what those of all groups need."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from support.lakes import settings_of

__all__ = ["NOW", "Scenario", "files_of", "settings_in", "speed_up"]

NOW = datetime(2026, 3, 10, 8, 0, 0)


def settings_in(folder: Path) -> Any:
    """Settings of the lake of a scenario, with its key."""
    return settings_of(folder / "lake")


def _nothing(folder: Path, given: Mapping[str, Any]) -> None:
    settings_in(folder)


@dataclass(frozen=True)
class Scenario:
    """One command. Every function is called in a process of its own with the folder of the scenario.

    Attributes
    ----------
    act : callable
        The command: it is killed, and called again. It is given what all lakes share.
    see : callable
        What must be equal to an uninterrupted run.
    prepare : callable
        Makes the lake that the command begins with; it is copied for every kill.
    """

    act: Callable[[Path, Mapping[str, Any]], None]
    see: Callable[[Path], Mapping[str, Any]]
    prepare: Callable[[Path, Mapping[str, Any]], None] = _nothing


def files_of(folder: Path) -> dict[str, str]:
    """Digest of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def speed_up() -> None:
    """Small batches, so that there are several."""
    from radlake.ingest import running, together

    running._BATCH_STUDIES = 2
    together._HOSPITALS = 2
