"""Range reads: which bytes of a series object are asked for at once, and whose they are.

A chunk is a run of whole members of up to 8 MiB, or one larger member, which is read piece by piece so that memory does
not depend on the data. The chunks of an object follow each other without gaps: its ZIP can be put together from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash

from radlake.cohort.pull.released import Damaged, Member, SeriesObject
from radlake.lake.store import Store

__all__ = ["Chunk", "Verifier", "chunks_of", "file_digest", "read_chunk", "shares_of"]

_PIECE = 8 << 20


@dataclass(frozen=True)
class Chunk:
    """Bytes `start` to `end` of an object, and the members in it."""

    of: SeriesObject
    start: int
    end: int
    members: tuple[Member, ...]


def chunks_of(series: SeriesObject) -> Iterator[Chunk]:
    """All bytes of an object, in order."""
    start, members = 0, list[Member]()
    for number, member in enumerate(series.members):
        members.append(member)
        is_last = number == len(series.members) - 1
        end = series.n_bytes if is_last else member.offset + member.length
        if is_last or end - start + series.members[number + 1].length > _PIECE:
            yield Chunk(series, start, end, tuple(members))
            start, members = end, []


def read_chunk(store: Store, chunk: Chunk) -> Iterator[tuple[int, bytes]]:
    """Its bytes in pieces, each with where it begins in the object.

    Raises
    ------
    SourceMissing, StoreUnavailable, SlowDown
    """
    for at in range(chunk.start, chunk.end, _PIECE):
        yield at, store.read(f"objects/{chunk.of.path}", offset=at, length=min(_PIECE, chunk.end - at))


def shares_of(chunk: Chunk, at: int, piece: bytes) -> Iterator[tuple[Member, int, memoryview]]:
    """Which part of a piece is of which member, and where in the member it begins."""
    view = memoryview(piece)
    for member in chunk.members:
        first = max(at, member.offset)
        last = min(at + len(view), member.offset + member.length)
        if first < last:
            yield member, first - member.offset, view[first - at : last - at]


class Verifier:
    """Hashes the members of a chunk while they pass."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self._digests = {member.name: xxhash.xxh3_128() for member in chunk.members}

    def take(self, at: int, piece: bytes) -> None:
        for member, _, share in shares_of(self._chunk, at, piece):
            self._digests[member.name].update(share)

    def check(self, *, contact: str) -> None:
        """Refuse what is not what was approved.

        Raises
        ------
        Damaged
        """
        for member in self._chunk.members:
            if self._digests[member.name].hexdigest() != member.digest:
                raise Damaged(path=self._chunk.of.path, reason=f"{member.name} has another digest", contact=contact)


def file_digest(path: Path, *, start: int = 0, length: int | None = None) -> str:
    """XXH3-128 of a file, or of a range of it."""
    state, left = xxhash.xxh3_128(), path.stat().st_size - start if length is None else length
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while left > 0 and (block := file.read(min(_PIECE, left))):
            state.update(block)
            left -= len(block)
    return state.hexdigest()
