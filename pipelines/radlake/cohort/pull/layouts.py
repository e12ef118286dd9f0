"""How a pulled release lies in its folder.

    dicom        dicom/PERSON/STUDY/SERIES/INSTANCE.dcm
    zip          zip/PERSON/STUDY/SERIES.DIGEST.zip       the stored series objects
    webdataset   webdataset/shard-DIGEST.tar              INSTANCE.dcm and INSTANCE.json side by side
    nifti        nifti/PERSON/STUDY/SERIES/*.nii.gz       by dcm2niix
    tables       no pixels

Tables are always in `tables/`. A layout says which files belong together (a job), whether they are here, and how they
are made; nothing here reads from a store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Protocol

import xxhash

from radlake.cohort.pull.chunks import file_digest
from radlake.cohort.pull.nifti import NiftiTarget, is_converted
from radlake.cohort.pull.released import SeriesObject
from radlake.cohort.pull.shards import ShardTarget, shard_bytes, shards_of
from radlake.cohort.pull.targets import FolderTarget, Target, ZipTarget

__all__ = ["LAYOUTS", "Job", "Layout"]

PARTS = Path(".radlake") / "parts"


@dataclass(frozen=True)
class Job:
    """Objects whose files appear together, under one name."""

    objects: tuple[SeriesObject, ...]
    final: Path

    @property
    def n_bytes(self) -> int:
        return sum(series.n_bytes for series in self.objects)

    def part(self, folder: Path) -> Path:
        """Where it lies until it is whole; it follows from what it is made of."""
        told = "".join(f"{series.path} {series.digest}\n" for series in self.objects)
        return folder / PARTS / xxhash.xxh3_128_hexdigest(f"{self.final.name} {told}".encode())


class Layout(Protocol):
    """A way to lay files out in `folder`."""

    @property
    def folder(self) -> Path: ...
    def jobs(self, series: Iterable[SeriesObject]) -> Iterator[Job]: ...
    def is_here(self, job: Job, *, by_digest: bool) -> bool: ...
    def begin(self, job: Job) -> Target: ...


@dataclass(frozen=True)
class DicomTree:
    folder: Path
    contact: str = ""

    def jobs(self, series: Iterable[SeriesObject]) -> Iterator[Job]:
        for place, objects in groupby(series, key=lambda one: one.place):  # a series that was harvested twice has two
            yield Job(tuple(objects), self.folder / "dicom" / place)

    def is_here(self, job: Job, *, by_digest: bool) -> bool:
        for member in (member for series in job.objects for member in series.members):
            path = job.final / f"{member.name}.dcm"
            if not _has_size(path, member.length) or (by_digest and file_digest(path) != member.digest):
                return False
        return True

    def begin(self, job: Job) -> Target:
        return FolderTarget(job.objects, part=job.part(self.folder), final=job.final)


@dataclass(frozen=True)
class SeriesZip:
    folder: Path
    contact: str = ""

    def jobs(self, series: Iterable[SeriesObject]) -> Iterator[Job]:
        for one in series:
            yield Job((one,), self.folder / "zip" / one.person / one.study_uid / one.path.rpartition("/")[2])

    def is_here(self, job: Job, *, by_digest: bool) -> bool:
        [series] = job.objects
        return _has_size(job.final, series.n_bytes) and (not by_digest or file_digest(job.final) == series.digest)

    def begin(self, job: Job) -> Target:
        return ZipTarget(job.objects[0], part=job.part(self.folder), final=job.final, contact=self.contact)


@dataclass(frozen=True)
class WebDataset:
    folder: Path
    contact: str = ""

    def jobs(self, series: Iterable[SeriesObject]) -> Iterator[Job]:
        for objects in shards_of(series):  # named by content: shards of other manifests may lie beside them
            name = xxhash.xxh3_64_hexdigest("".join(one.digest for one in objects).encode())
            yield Job(objects, self.folder / "webdataset" / f"shard-{name}.tar")

    def is_here(self, job: Job, *, by_digest: bool) -> bool:
        if not _has_size(job.final, shard_bytes(job.objects)):
            return False
        return ShardTarget.is_good(job.objects, job.final) if by_digest else ShardTarget.is_of(job.objects, job.final)

    def begin(self, job: Job) -> Target:
        return ShardTarget(job.objects, part=job.part(self.folder), final=job.final)


@dataclass(frozen=True)
class Nifti:
    folder: Path
    contact: str = ""
    _tree: DicomTree = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tree", DicomTree(self.folder))

    def jobs(self, series: Iterable[SeriesObject]) -> Iterator[Job]:
        for job in self._tree.jobs(series):
            yield Job(job.objects, self.folder / "nifti" / job.objects[0].place)

    def is_here(self, job: Job, *, by_digest: bool) -> bool:
        return is_converted(job.objects, job.final, by_digest=by_digest)

    def begin(self, job: Job) -> Target:
        return NiftiTarget(job.objects, part=job.part(self.folder), final=job.final)


LAYOUTS: Mapping[str, Callable[[Path, str], Layout] | None] = {
    "dicom": DicomTree,
    "zip": SeriesZip,
    "webdataset": WebDataset,
    "nifti": Nifti,
    "tables": None,
}


def _has_size(path: Path, n_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == n_bytes
