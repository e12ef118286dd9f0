"""The lake that a command works on: it must be there, so that a mistyped name is no new lake and no empty answer."""

from __future__ import annotations

import difflib
import shlex
from pathlib import Path

from radlake.config import Settings, resolve_secret
from radlake.errors import PermanentError
from radlake.lake import Lake
from radlake.lake.store import S3Store

__all__ = ["existing_lake", "filled_lake", "make_lake"]

_PARTS = ("tables", "restricted")  # of the folder of a lake; `radlake init` makes both


class LakeMissing(PermanentError):
    sentence = "There is no lake at {lake}.{near}\nTo make a new one: radlake --lake {name} init"


class LakeEmpty(PermanentError):
    sentence = (
        "There is nothing at {lake}.\n"
        "If it is a new lake, fill it first with `radlake harvest`; else check the name and the bucket."
    )


def make_lake(settings: Settings) -> None:
    """Let this be a lake for every other verb, with its bucket if it is to be on S3; call when its key was made.

    Raises
    ------
    KeyMissing
        If its key is kept elsewhere and is not there.
    """
    resolve_secret(settings.key)
    if settings.is_local:
        (Path(settings.lake) / "tables").mkdir(parents=True, exist_ok=True)
    elif isinstance(store := Lake.from_settings(settings).objects.store, S3Store):
        store.make_bucket()


def _is_lake(folder: Path) -> bool:
    """Whether this folder is a lake's."""
    return any((folder / part).is_dir() for part in _PARTS)


def existing_lake(settings: Settings) -> Lake:
    """The lake of the settings, to be filled or worked on.

    Raises
    ------
    LakeMissing
        If nobody made it; tells lakes of a similar name beside it.
    """
    is_there = _is_lake(Path(settings.lake)) if settings.is_local else settings.restricted.is_dir()
    if not is_there:
        raise LakeMissing(lake=settings.lake, near=_near(settings), name=shlex.quote(_shown(settings.lake)))
    return Lake.from_settings(settings)


def filled_lake(settings: Settings) -> Lake:
    """The lake of the settings, to be read: an S3 lake without a table is one that does not exist.

    Raises
    ------
    LakeMissing, LakeEmpty
    """
    if settings.is_local:
        return existing_lake(settings)
    lake = Lake.from_settings(settings)
    if not any(map(lake.tables.exists, ("ops.harvest_run", "dicom.study", "ref.region"))):
        raise LakeEmpty(lake=settings.lake)
    return lake


def _near(settings: Settings) -> str:
    if not settings.is_local:
        return ""
    path = Path(settings.lake)
    parents = {path.parent, Path.cwd()}
    lakes = {folder for parent in parents if parent.is_dir() for folder in parent.iterdir() if _is_lake(folder)}
    close = difflib.get_close_matches(path.name, [lake.name for lake in lakes], n=1)
    names = sorted(_shown(str(lake)) for lake in lakes if not close or lake.name in close)[:3]
    return f" Did you mean {' or '.join(names)}?" if names else ""


def _shown(lake: str) -> str:
    """As a person would write it here."""
    path = Path(lake)
    return str(path.relative_to(Path.cwd())) if "://" not in lake and path.is_relative_to(Path.cwd()) else lake
