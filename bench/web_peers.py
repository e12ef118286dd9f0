"""Web, the peer: Streamlit from the environment of `bench/peers.lock`, and sessions of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["TABLES", "interpreter", "sessions"]

TABLES = (
    "ref.hospital", "ops.completeness", "stats.exam_volume", "stats.duplicate_exam", "stats.film_saving"
)  # fmt: skip
_PYTHON = Path(__file__).parents[1] / ".cache/bench-peers/bin/python"
_SESSIONS = Path(__file__).with_name("web_peer_sessions.py")


def interpreter() -> Path | None:
    """Of the environment that has Streamlit; a missing one is told."""
    if _PYTHON.is_file() and list(_PYTHON.parents[1].glob("lib/*/site-packages/streamlit")):
        return _PYTHON
    print("absent: Streamlit; make bench-web installs it")
    return None


def sessions(
    python: Path, url: str, pages: Sequence[str], *, sessions: int, seconds: float, think: float
) -> list[float]:
    """Milliseconds of each run of the script, by sessions that ask and think as those of radlake do."""
    command = [python, _SESSIONS, url.replace("http", "ws") + "/_stcore/stream", *map(str, (sessions, seconds, think))]
    queries = [page.partition("?")[2] for page in pages]
    done = subprocess.run(command, check=True, input=json.dumps(queries), capture_output=True, text=True)
    return json.loads(done.stdout)["times"]
