"""Exports that somebody asked for: each a process of `radlake cohort export`, and its files for an hour.

They are known to this process alone: after a restart a client asks again. Their files lie with the candidate of the
release in the restricted zone, so that they go with it when it is withdrawn.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from radlake.cohort.candidate import candidate_folder
from radlake.config import Settings
from radlake.lake import Lake
from radlake.lake.store import make_folder, storage_errors, sweep
from radlake.web.access.gate import Person
from radlake.web.command import radlake_command
from radlake.web.fhir.outcomes import Refused

__all__ = ["Export", "Exports"]

KEPT = timedelta(hours=1)
_LEFT = timedelta(days=1)
_MOST_RUNS = 2
_RETRY_SECONDS = 5


@dataclass
class Export:
    """One export.

    Attributes
    ----------
    request : str
        URL that asked for it.
    ignored : tuple of str
        What of it was passed over.
    counts : mapping of str to int, optional
        Resources of each type, once it is done.
    failure : str
        What its process said when it failed.
    expires_at : datetime, optional
        Until when its files are kept, once it is done.
    """

    key: str
    person: Person
    release_id: str
    types: tuple[str, ...]
    request: str
    started_at: datetime
    folder: Path
    ignored: tuple[str, ...] = ()
    process: subprocess.Popen[str] | None = None
    counts: Mapping[str, int] | None = None
    failure: str = ""
    expires_at: datetime | None = None

    @property
    def is_running(self) -> bool:
        return self.process is not None

    @property
    def progress(self) -> str:
        """Under 100 characters, as X-Progress must be."""
        return f"{len(list(self.folder.glob('*.ndjson')))} of {len(self.types)} files"


class Exports:
    """Thread-safe. Few processes at once; of a person one, and of each release the last."""

    def __init__(self, settings: Settings, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._lake, self._clock = Lake.from_settings(settings), clock
        self._command = radlake_command(settings, "cohort", "export")
        self._exports: dict[str, Export] = {}
        self._lock = threading.Lock()
        for left in self._lake.restricted.glob("releases/*/exports"):  # of servers that have ended
            sweep(left, older_than=_LEFT)

    def begin(
        self, person: Person, release_id: str, types: tuple[str, ...], *, request: str, ignored: tuple[str, ...] = ()
    ) -> Export:
        """Begin an export; without types there is nothing to do, and it is done.

        Raises
        ------
        Refused
            If the person has one under way, or too many run.
        """
        with self._lock:
            self._tidy()
            running = [one for one in self._exports.values() if one.is_running]
            if any(one.person == person for one in running):
                told = "An export of yours is under way: wait until it is done, or delete it."
                raise Refused(429, "throttled", told, retry_after=_RETRY_SECONDS)
            if len(running) >= _MOST_RUNS:
                raise Refused(429, "throttled", "Exports of others run. Ask again.", retry_after=_RETRY_SECONDS)
            for one in [one for one in self._exports.values() if (one.person, one.release_id) == (person, release_id)]:
                self._drop(one)
            key = secrets.token_urlsafe(18)
            folder = candidate_folder(self._lake, release_id) / "exports" / key
            export = Export(key, person, release_id, types, request, self._clock(), folder, ignored)
            with storage_errors(str(folder)):
                make_folder(folder)
            if types:
                words = [release_id, str(folder), "--as", "fhir", "--json"]
                words += [word for name in types for word in ("--type", name)]
                export.process = subprocess.Popen(
                    [*self._command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            else:
                export.counts, export.expires_at = {}, self._clock() + KEPT
            self._exports[key] = export
            return export

    def of(self, person: Person, key: str) -> Export:
        """An export of a person.

        Raises
        ------
        Refused
        """
        with self._lock:
            self._tidy()
            export = self._exports.get(key)
            if export is None or export.person != person:
                told = "There is no such export of yours: it was deleted, or its files are kept no longer. Ask again."
                raise Refused(404, "not-found", told)
            return export

    def drop(self, export: Export) -> None:
        """End an export, and remove its files."""
        with self._lock:
            self._drop(export)

    def _drop(self, export: Export) -> None:
        self._exports.pop(export.key, None)
        if export.process is not None:
            export.process.kill()
            export.process.communicate()
        shutil.rmtree(export.folder, ignore_errors=True)

    def _tidy(self) -> None:
        """See which processes have ended, and drop what is kept no longer."""
        for export in list(self._exports.values()):
            if export.process is not None and export.process.poll() is not None:
                out, err = export.process.communicate()
                if export.process.returncode == 0:
                    export.counts = json.loads(out)
                else:
                    export.failure = err.strip().rpartition("\n")[2].removeprefix("error: ") or "it was ended"
                export.process, export.expires_at = None, self._clock() + KEPT
            elif export.expires_at is not None and self._clock() >= export.expires_at:
                self._drop(export)
