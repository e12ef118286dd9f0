"""Verbs of `radlake` that the pages run in processes of their own: their memory goes with them."""

from __future__ import annotations

import sys

from radlake.config import Settings

__all__ = ["radlake_command"]

_MAIN = "from radlake.cli import main; main()"


def radlake_command(settings: Settings, *words: str) -> list[str]:
    """The command line of a verb on this lake; who harvests adds `--hospitals` before the verb."""
    return [sys.executable, "-c", _MAIN, "--lake", settings.lake, *words]
