"""Files that are being pulled: under a temporary name until they are whole, verified and durable.

Whoever calls `name` has made the file system durable before (`machine.syncfs`): one call for many files.

What a kill leaves below `.radlake/parts` is looked at again by digest, so a pull goes on in the middle of a series and
trusts nothing that it did not read.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from radlake.cohort.pull.chunks import Chunk, chunks_of, file_digest, shares_of
from radlake.cohort.pull.released import Damaged, Member, SeriesObject
from radlake.lake.store import make_folder
from radlake.machine import fsync

__all__ = ["FolderTarget", "PlacedTarget", "Receive", "Target", "ZipTarget", "give_name", "name_folder", "place_whole"]

Receive = Callable[[int, bytes], None]  # where a piece begins in its object, and the piece


class Target(Protocol):
    """Something that is being pulled."""

    def missing(self) -> Iterator[Chunk]:
        """What is not here yet."""
        ...

    def receiving(self, chunk: Chunk) -> AbstractContextManager[Receive]:
        """Take the pieces of a chunk, in order."""
        ...

    def finish(self) -> None:
        """Do what is left but the name: every chunk is here."""
        ...

    def name(self) -> None:
        """Give it its name: it is finished and durable."""
        ...

    def close(self) -> None:
        """Leave it as it is, for another time."""
        ...


class FolderTarget:
    """A folder with a file for each member."""

    def __init__(self, objects: tuple[SeriesObject, ...], *, part: Path, final: Path) -> None:
        self.objects, self.part, self.final = objects, part, final
        if final.exists():  # somebody changed it: what is good of it stays
            if part.exists():
                shutil.rmtree(part)
            final.rename(part)
        self._is_new = not part.exists()
        part.mkdir(exist_ok=True)

    def file(self, member: Member) -> Path:
        return self.part / f"{member.name}.dcm"

    def missing(self) -> Iterator[Chunk]:
        for chunk in (chunk for series in self.objects for chunk in chunks_of(series)):
            if self._is_new or not all(map(self._is_good, chunk.members)):
                yield chunk

    def _is_good(self, member: Member) -> bool:
        path = self.file(member)
        return path.is_file() and path.stat().st_size == member.length and file_digest(path) == member.digest

    @contextmanager
    def receiving(self, chunk: Chunk) -> Iterator[Receive]:
        handle, left = -1, 0

        def receive(at: int, piece: bytes) -> None:
            nonlocal handle, left
            for member, within, share in shares_of(chunk, at, piece):
                if not within:
                    handle, left = (
                        os.open(self.file(member), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
                        member.length,
                    )
                _write(handle, share, within)
                left -= len(share)
                if not left:
                    os.close(handle)
                    handle = -1

        try:
            yield receive
        finally:
            if handle >= 0:
                os.close(handle)

    def finish(self) -> None:
        wanted = {self.file(member).name for series in self.objects for member in series.members}
        for path in self.part.iterdir():
            if path.name not in wanted:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def name(self) -> None:
        give_name(self.part, self.final)

    def close(self) -> None: ...


class PlacedTarget:
    """One file in which each member has a place that is known before it comes.

    Parameters
    ----------
    places : mapping of (object path, member name) to int
        Where a member begins in the file.
    frame : sequence of (int, bytes)
        Everything that is no member.
    """

    def __init__(
        self,
        objects: tuple[SeriesObject, ...],
        *,
        part: Path,
        final: Path,
        n_bytes: int,
        places: Mapping[tuple[str, str], int],
        frame: list[tuple[int, bytes]],
    ) -> None:
        self.objects, self.part, self.final = objects, part, final
        self._places = places
        self._is_new = not part.exists()
        self._handle = os.open(part, os.O_RDWR | os.O_CREAT, 0o644)
        os.ftruncate(self._handle, n_bytes)
        for at, content in frame:
            _write(self._handle, memoryview(content), at)

    def missing(self) -> Iterator[Chunk]:
        for chunk in (chunk for series in self.objects for chunk in chunks_of(series)):
            if self._is_new or not all(self._is_good(chunk.of, member) for member in chunk.members):
                yield chunk

    def _is_good(self, series: SeriesObject, member: Member) -> bool:
        return (
            file_digest(self.part, start=self._places[series.path, member.name], length=member.length) == member.digest
        )

    @contextmanager
    def receiving(self, chunk: Chunk) -> Iterator[Receive]:
        def receive(at: int, piece: bytes) -> None:
            for member, within, share in shares_of(chunk, at, piece):
                _write(self._handle, share, self._places[chunk.of.path, member.name] + within)

        yield receive

    def finish(self) -> None:
        self.close()

    def name(self) -> None:
        give_name(self.part, self.final)

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class ZipTarget(PlacedTarget):
    """A series object as it lies in the store."""

    def __init__(self, series: SeriesObject, *, part: Path, final: Path, contact: str) -> None:
        places = {(series.path, member.name): member.offset for member in series.members}
        super().__init__((series,), part=part, final=final, n_bytes=series.n_bytes, places=places, frame=[])
        self._digest, self._contact = series.digest, contact

    @contextmanager
    def receiving(self, chunk: Chunk) -> Iterator[Receive]:  # noqa: ARG002
        yield lambda at, piece: _write(self._handle, memoryview(piece), at)

    def finish(self) -> None:
        if file_digest(self.part) != self._digest:  # what lies between members is looked at here only
            self.close()
            self.part.unlink()
            raise Damaged(path=self.final.name, reason="its digest differs", contact=self._contact)
        super().finish()


def give_name(part: Path, final: Path) -> None:
    """Let a file or a folder appear that is whole and durable."""
    final.parent.mkdir(parents=True, exist_ok=True)
    part.rename(final)


def name_folder(part: Path, final: Path) -> None:
    """Let a whole folder appear, durably; its files are durable."""
    fsync(part)
    make_folder(final.parent)
    part.rename(final)
    fsync(final.parent)


def place_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, and stays."""
    make_folder(path.parent)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _name_file(part, path)


def _name_file(part: Path, final: Path) -> None:
    make_folder(final.parent)
    part.replace(final)
    fsync(final.parent)


def _write(handle: int, content: memoryview, at: int) -> None:
    """All of it: a system call may take less."""
    done = os.pwrite(handle, content, at)
    while done < len(content):
        done += os.pwrite(handle, content[done:], at + done)
