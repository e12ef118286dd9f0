"""The cache: series objects whose pixels a hospital keeps, for as long as somebody is likely to ask for them.

A local folder with a bound; what was used longest ago goes first. Objects lie in it under the names that they would
have in the store, and a name follows from the content: what is found under the name that a row tells is that object.
New objects are pending until their rows are published or their bytes are proven: no bound applies to those. What a
harvest leaves was asked for by nobody yet, and goes before everything else.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import xxhash

from radlake.errors import TransientError
from radlake.lake.objects import ObjectStore
from radlake.lake.store import make_folder, sweep
from radlake.lake.store.local import LocalStore

__all__ = ["FetchBusy", "ObjectCache"]

_LOCKS, _PENDING = ".locks", ".pending"
_POLL = 0.05  # seconds
_LONGEST = timedelta(days=7)  # that a batch may take


class FetchBusy(TransientError):
    sentence = "Another process brings this study of {hospital}, and has not ended yet. It is on its way; ask again."


@dataclass(frozen=True)
class ObjectCache:
    """A bounded folder of series objects.

    Attributes
    ----------
    limit_bytes : int
        What `trim` leaves at most, beside what is pending: a batch of a harvest, or one study.
    """

    root: Path
    limit_bytes: int

    def pending(self, scratch: Path) -> ObjectStore:
        """Where series objects are packed first."""
        return ObjectStore(str(self.root / _PENDING), scratch=scratch)

    def admit(self, name: str, *, is_asked_for: bool) -> None:
        """Take a pending object in; harmless when it was taken before."""
        target = self.path(name)
        with suppress(FileNotFoundError):
            make_folder(target.parent)
            (self.root / _PENDING / name).replace(target)
            os.utime(target, None if is_asked_for else (0, 0))

    def discard(self, name: str) -> None:
        """Remove a pending object; harmless when it is not there."""
        (self.root / _PENDING / name).unlink(missing_ok=True)

    def drop(self, name: str) -> None:
        """Remove an object, pending or not; harmless when it is not there."""
        self.discard(name)
        self.path(name).unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        return self.root / name

    def read(self, name: str, offset: int, length: int) -> bytes | None:
        """One range of an object, which counts as its use; None when it is not here, or not to the range's end."""
        for path in (self.path(name), self.root / _PENDING / name):
            with suppress(FileNotFoundError):
                with path.open("rb") as file:
                    content = os.pread(file.fileno(), length, offset)
                os.utime(path)
                return content if len(content) == length else None
        return None

    def has(self, name: str) -> bool:
        return self.path(name).is_file()

    def use(self, name: str) -> None:
        """Somebody asked for it just now."""
        with suppress(FileNotFoundError):
            os.utime(self.path(name))

    def paths(self, prefix: str) -> list[str]:
        """Objects whose name begins with `prefix`, pending ones too."""
        found = [*LocalStore(self.root).list(prefix), *LocalStore(self.root / _PENDING).list(prefix)]
        return sorted({name for name in found if not name.startswith(".")})

    def n_bytes(self) -> int:
        return sum(n for _, n, _ in self._files())

    def trim(self, *, spared: Collection[str] = ()) -> int:
        """Delete what was used longest ago until the bound holds, and what dead processes left pending.

        Parameters
        ----------
        spared : collection of str
            Objects that stay although there is no room: somebody waits for them.

        Returns
        -------
        int
            How many objects went.
        """
        files = sorted(self._files())
        n_bytes, n_deleted = sum(n for _, n, _ in files), 0
        kept = {self.path(name) for name in spared}
        for _, n, path in files:
            if n_bytes <= self.limit_bytes:
                break
            if path in kept:
                continue
            path.unlink(missing_ok=True)  # who reads it has it open
            n_bytes -= n
            n_deleted += 1
        sweep(self.root / _PENDING, older_than=_LONGEST, pattern="*/*/*.zip")
        return n_deleted

    @contextmanager
    def lock(self, study: str, *, timeout: float) -> Iterator[None]:
        """Only one brings a study; the others wait, and find it here.

        Raises
        ------
        FetchBusy
            If it takes longer than `timeout` seconds.
        """
        folder = self.root / _LOCKS
        make_folder(folder)
        end = time.monotonic() + timeout
        with (folder / f"{xxhash.xxh3_64_hexdigest(study.encode())}.lock").open("w") as handle:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as exc:
                    if time.monotonic() >= end:
                        raise FetchBusy(hospital=study.partition("/")[0]) from exc
                    time.sleep(_POLL)
            yield

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """Last use, bytes and path of every object."""
        for name in LocalStore(self.root).list(""):
            if name.startswith("."):
                continue
            with suppress(FileNotFoundError):
                stat = self.path(name).stat()
                yield stat.st_mtime_ns, stat.st_size, self.path(name)
