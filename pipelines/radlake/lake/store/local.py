"""A local folder as a store, and what keeps small files and folders beside it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from radlake.lake.store.errors import storage_errors
from radlake.machine import forget_pages, fsync

__all__ = ["LocalStore", "make_folder", "sweep", "write_whole"]


@dataclass(frozen=True)
class LocalStore:
    """Files below a local folder: a rename makes them appear, fsync makes them stay."""

    root: Path

    def uri(self, name: str) -> str:
        return str(self.root / name)

    def put(self, files: Mapping[str, Path]) -> None:
        """Move local files to their names: durable when this returns."""
        folders = set()
        with storage_errors(str(self.root)):
            for name, source in files.items():
                target = self.root / name
                make_folder(target.parent)
                fsync(source)
                try:
                    source.replace(target)
                except OSError as exc:
                    if exc.errno != errno.EXDEV:
                        raise
                    self._copy_in(source, target)
                folders.add(target.parent)
            for folder in folders:
                fsync(folder)

    def archive(self, name: str, source: Path, *, retain_until: datetime | None = None) -> None:  # noqa: ARG002
        """Move one record to its name. A folder locks nothing: until when it is kept is for the ledger to say."""
        self.put({name: source})
        forget_pages(self.root / name)

    def _copy_in(self, source: Path, target: Path) -> None:
        part = target.parent / f".{target.name}.{uuid.uuid4().hex}.part"
        try:
            shutil.copyfile(source, part)
            fsync(part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        source.unlink()

    def read(self, name: str, *, offset: int, length: int) -> bytes:
        with storage_errors(self.uri(name)), (self.root / name).open("rb") as file:
            return os.pread(file.fileno(), length, offset)

    def size(self, name: str) -> int | None:
        try:
            return (self.root / name).stat().st_size
        except FileNotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[str]:
        """Names below a prefix, sorted; files that are still being written are not listed."""
        start = self.root / prefix
        start = start if prefix == "" or start.is_dir() else start.parent
        for folder, folders, names in os.walk(start):
            folders.sort()
            for name in sorted(names):
                path = (Path(folder) / name).relative_to(self.root).as_posix()
                if path.startswith(prefix) and not name.startswith("."):
                    yield path

    def lock_of(self, name: str) -> str:  # noqa: ARG002
        """Why the store refuses to delete a record: a folder never does."""
        return ""

    def forget_older(self, name: str) -> None:
        """Delete what bore the name before: a folder keeps none of it."""

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they survive a loss of power."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        fsync(folder.parent)


def write_whole(path: Path, text: str) -> None:
    """Write a small file that only its owner may read: whole or not at all, and durable.

    Raises
    ------
    StoreFull
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with storage_errors(str(path.parent)):
        part.write_text(text, encoding="utf-8")
        part.chmod(0o600)
        fsync(part)
        part.replace(path)
        fsync(path.parent)


def sweep(folder: Path, *, older_than: timedelta, pattern: str = "*") -> None:
    """Remove what dead processes left in a local folder for files that are being made."""
    limit = time.time() - older_than.total_seconds()
    for entry in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            if entry.stat().st_mtime < limit:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
