"""Tracing a number for a page: `radlake trace` in a process of its own, one at a time.

The way from a number to its exams needs the key of the lake, which the process of the pages never holds (ADR 38, 40).
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from radlake.config import Settings
from radlake.web.command import radlake_command

__all__ = ["TraceFailed", "Tracer", "tracer_of"]

_SECONDS = 120
_KEPT = 64


class TraceFailed(Exception):
    """There is nothing to show; the text says why and what to do next, as `radlake trace` does."""


@dataclass(frozen=True)
class _Key:
    snapshot: str
    number: str
    options: Sequence[str]


class Tracer:
    """Traces numbers; what was traced in a snapshot is kept, as it stays what it is.

    Parameters
    ----------
    run : callable
        Gives the answer of `radlake trace --json` for a number and further options.
    """

    def __init__(self, run: Callable[[str, Sequence[str]], dict[str, Any]]) -> None:
        self._run = run
        self._one_at_a_time = threading.Lock()
        self._kept: OrderedDict[_Key, dict[str, Any]] = OrderedDict()

    def trace(self, number: str, *, n_exams: int, snapshot: str) -> dict[str, Any]:
        """What `radlake trace --json` says of a number.

        Raises
        ------
        TraceFailed
        """
        return self._asked(number, ("--exams", str(n_exams)), snapshot)

    def exams(self, number: str, *, limit: int, snapshot: str) -> dict[str, Any]:
        """The first exams that a number counts, as `radlake trace --list` tells them.

        Raises
        ------
        TraceFailed
        """
        return self._asked(number, ("--list", str(limit)), snapshot)

    def _asked(self, number: str, options: Sequence[str], snapshot: str) -> dict[str, Any]:
        key = _Key(snapshot, number, options)
        with self._one_at_a_time:  # each reads tables anew
            if key not in self._kept:
                self._kept[key] = self._run(number, options)
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            return self._kept[key]


def tracer_of(settings: Settings) -> Tracer:
    """A tracer over the lake of these settings."""

    def run(number: str, options: Sequence[str]) -> dict[str, Any]:
        command = radlake_command(settings, "trace", "--json", *options)
        try:
            done = subprocess.run(
                [*command, "--", number], capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as exc:
            raise TraceFailed(f"It took more than {_SECONDS} seconds; run `radlake trace {number}`.") from exc
        except (OSError, ValueError) as exc:  # no process takes a NUL or an argument of many kB
            raise TraceFailed("No number has such a name. Go back, and choose one from a table.") from exc
        try:
            return json.loads(done.stdout)
        except ValueError as exc:
            raise TraceFailed(done.stderr.strip().removeprefix("error: ") or "radlake trace gave no answer") from exc

    return Tracer(run)
