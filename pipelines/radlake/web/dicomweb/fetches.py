"""Runs of `radlake fetch` for series that somebody wishes to see: few at once, and whoever waits does not end them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import Future
from threading import BoundedSemaphore, Lock, Thread
from typing import Any

from radlake.config import Settings
from radlake.web.command import radlake_command
from radlake.web.dicomweb.refusals import TryLater

__all__ = ["LATER", "Fetches"]

LATER = "The hospital that keeps these pixels has not sent them yet. Ask again."
_MOST_RUNS, _MOST_WAITING = 4, 8  # a request that waits holds a thread of the server
_SECONDS = 120  # that a request waits


class Fetches:
    """Thread-safe. A run goes on when nobody waits for it any more: who asks again finds what it brought."""

    def __init__(self, settings: Settings, *, seconds: float = _SECONDS) -> None:
        self._command = radlake_command(settings, "--hospitals", str(settings.hospitals), "fetch", "--json")
        self._seconds = seconds
        self._runs: dict[tuple[str, ...], Future[list[dict[str, Any]]]] = {}
        self._lock, self._waiting = Lock(), BoundedSemaphore(_MOST_WAITING)

    def outcomes(self, series_uids: Sequence[str]) -> list[dict[str, Any]]:
        """What `radlake fetch --json` tells of these series.

        Raises
        ------
        TryLater
            If they are not here in time, or others are fetched first.
        """
        run = self._run_of(tuple(series_uids))
        if not self._waiting.acquire(blocking=False):
            raise TryLater(LATER)
        try:
            return run.result(timeout=self._seconds)
        except (TimeoutError, OSError, ValueError, KeyError) as exc:
            raise TryLater(LATER) from exc
        finally:
            self._waiting.release()

    def _run_of(self, series_uids: tuple[str, ...]) -> Future[list[dict[str, Any]]]:
        with self._lock:
            if series_uids not in self._runs:
                if len(self._runs) >= _MOST_RUNS:
                    raise TryLater(LATER)
                self._runs[series_uids] = Future()
                Thread(target=self._fetch, args=(series_uids,), name="fetch", daemon=True).start()
            return self._runs[series_uids]

    def _fetch(self, series_uids: tuple[str, ...]) -> None:
        with self._lock:
            run = self._runs[series_uids]
        try:
            done = subprocess.run([*self._command, *series_uids], capture_output=True, text=True, check=False)
            run.set_result(json.loads(done.stdout)["series"])
        except Exception as exc:
            run.set_exception(exc)
        finally:
            with self._lock:
                del self._runs[series_uids]
