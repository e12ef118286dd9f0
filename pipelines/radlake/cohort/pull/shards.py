"""WebDataset: tar files of about 256 MiB in which a sample is the files of one name (`INSTANCE.dcm`, `INSTANCE.json`).

UIDs have dots, and a sample's name ends at the first: they are written with `-`. All sizes are known before anything
comes, so each byte has its place, and the same series give the same tar. Format: POSIX ustar (IEEE 1003.1).
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radlake.cohort.pull.chunks import file_digest
from radlake.cohort.pull.released import SeriesObject
from radlake.cohort.pull.targets import PlacedTarget

__all__ = ["ShardTarget", "shard_bytes", "shards_of"]

_LARGEST = 256 << 20
_BLOCK = 512
_NOT_TOLD = ("object_path", "object_bytes", "object_digest", "n_instances")


@dataclass(frozen=True)
class _Laid:
    """Where everything of a shard lies."""

    n_bytes: int
    places: Mapping[tuple[str, str], int]
    frame: list[tuple[int, bytes]]


def shards_of(series: Iterable[SeriesObject]) -> Iterator[tuple[SeriesObject, ...]]:
    """Series that share a shard; a series is never in two."""
    together: list[SeriesObject] = []
    n_bytes = 0
    for one in series:
        if together and n_bytes + one.n_bytes > _LARGEST:
            yield tuple(together)
            together, n_bytes = [], 0
        together.append(one)
        n_bytes += one.n_bytes
    if together:
        yield tuple(together)


def shard_bytes(objects: tuple[SeriesObject, ...]) -> int:
    return _laid(objects).n_bytes


class ShardTarget(PlacedTarget):
    """A shard that is being pulled."""

    def __init__(self, objects: tuple[SeriesObject, ...], *, part: Path, final: Path) -> None:
        laid = _laid(objects)
        super().__init__(objects, part=part, final=final, n_bytes=laid.n_bytes, places=laid.places, frame=laid.frame)

    @staticmethod
    def is_of(objects: tuple[SeriesObject, ...], path: Path) -> bool:
        """Whether a file is the shard of these series, by everything that is no pixel file."""
        with path.open("rb") as file:
            for at, content in _laid(objects).frame:
                file.seek(at)
                if file.read(len(content)) != content:
                    return False
        return True

    @staticmethod
    def is_good(objects: tuple[SeriesObject, ...], path: Path) -> bool:
        """Whether it is, by every byte."""
        places = _laid(objects).places
        return ShardTarget.is_of(objects, path) and all(
            file_digest(path, start=places[series.path, member.name], length=member.length) == member.digest
            for series in objects
            for member in series.members
        )


def _laid(objects: tuple[SeriesObject, ...]) -> _Laid:
    at, places, frame = 0, {}, []
    for series in objects:
        told = {name: value for name, value in series.row.items() if name not in _NOT_TOLD}
        for member in series.members:
            key = f"{series.series_uid}/{member.name}".replace(".", "-")
            label = _json({**told, "sop_instance_uid": member.name})
            head = _header(f"{key}.json", len(label)) + label + _padding(len(label))
            head += _header(f"{key}.dcm", member.length)
            frame.append((at, head))
            at += len(head)
            places[series.path, member.name] = at
            at += member.length
            frame.append((at, _padding(member.length)))
            at += -member.length % _BLOCK
    frame.append((at, bytes(2 * _BLOCK)))
    return _Laid(at + 2 * _BLOCK, places, frame)


def _header(name: str, n_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = n_bytes, 0o644
    return info.tobuf(format=tarfile.USTAR_FORMAT)


def _padding(n_bytes: int) -> bytes:
    return bytes(-n_bytes % _BLOCK)


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, ensure_ascii=False, default=str).encode()
