"""One series object of a release: a pure worker that writes a lake's series under a project's identity, in any process.

The new object is named by its content, so doing it again writes the same. What cannot be written without a trace of
the old identity, or without changing pixels, is rejected with a reason; nothing of it is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import xxhash

from radlake.cohort.rekey import NewIdentity, new_identity, rekeyed
from radlake.commit_points import reached
from radlake.config import Settings
from radlake.dicom.part10 import encode_parts, read_bytes
from radlake.errors import QuarantineError
from radlake.lake import Lake
from radlake.lake.objects import ObjectStore, PackedMember
from radlake.referee import check_written
from radlake.residency import SeriesReader
from radlake.vault.lake_key import lake_keys

__all__ = ["SeriesJob", "SeriesOutcome", "release_series", "store_of"]

_PIXEL_DATA = (0x7FE00010, 0x7FE00008, 0x7FE00009)
_CHUNK = 8 << 20
_SHORTEST = 8  # characters of an identifier that is searched for; a shorter one stands anywhere by chance


@dataclass(frozen=True, kw_only=True)
class SeriesJob:
    """A series object of the lake, and whose it becomes.

    Attributes
    ----------
    instances : tuple of mapping
        Its rows of dicom.instance, in the order in which they lie.
    lake_offset_seconds : int
        By which the lake moved the dates of its pseudonym.
    age_years : int
        What the headers tell of the age; -1 for nothing.
    """

    settings: Settings
    release_id: str
    project: str
    path: str
    person_key: int
    lake_offset_seconds: int = field(repr=False)
    age_years: int
    instances: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class SeriesOutcome:
    """What became of a series object: its new place and rows, or why it was rejected."""

    job: SeriesJob
    path: str = ""
    n_bytes: int = 0
    digest: str = ""
    instances: tuple[dict[str, Any], ...] = ()
    rejected: str = ""
    findings: tuple[str, ...] = ()


class _Rejected(Exception):
    """The reason."""


def store_of(lake: Lake, release_id: str) -> ObjectStore:
    """Where the series objects of a release lie."""
    url = f"{lake.url}/releases/{release_id}/objects"
    return ObjectStore(url, storage_options=lake.storage_options, scratch=lake.scratch)


def release_series(job: SeriesJob) -> SeriesOutcome:
    """Write one series object of a release.

    Raises
    ------
    TransientError, PermanentError
        When the store is full or away, or a hospital does not send what it keeps.
    """
    lake = Lake.from_settings(job.settings)
    keys = lake_keys(job.settings).for_project(job.project)
    identity = new_identity(
        keys, person_key=job.person_key, lake_offset_seconds=job.lake_offset_seconds, age_years=job.age_years
    )
    reader = SeriesReader(job.settings, timeout=600)
    heads: list[int] = []
    first = job.instances[0]
    prefix = f"{identity.person_pseudo_id}/{identity.uid(first['study_instance_uid'])}"
    findings: Counter[str] = Counter()

    def members() -> Iterator[tuple[str, list[bytes | memoryview]]]:
        for number, row in enumerate(job.instances):
            source = reader.read(job.path, row["object_offset"], row["instance_bytes"])
            parts = _written(source, row, identity)
            heads.append(len(parts[0]))
            if number == 0:
                findings.update(_findings(source, b"".join(parts)))
                if findings:
                    raise _Rejected("referee")
            yield f"{identity.uid(row['sop_instance_uid'])}.dcm", parts

    store = store_of(lake, job.release_id)
    try:
        packed = store.pack_series(f"{prefix}/{identity.uid(first['series_instance_uid'])}", members())
    except _Rejected as exc:
        return SeriesOutcome(job, rejected=str(exc), findings=tuple(sorted(findings)))
    except QuarantineError as exc:
        return SeriesOutcome(job, rejected=exc.reason)
    reached("release.object")
    digest = _digest(store, packed.path, packed.n_bytes)
    rows = tuple(
        _row(old, new, head, identity, path=packed.path)
        for old, new, head in zip(job.instances, packed.members, heads, strict=True)
    )
    return SeriesOutcome(job, packed.path, packed.n_bytes, digest, rows)


def _written(source: bytes, row: Mapping[str, Any], identity: NewIdentity) -> list[bytes | memoryview]:
    """The instance under its new identity, in pieces; its pixels are those of the source."""
    if xxhash.xxh3_128_hexdigest(source) != row["digest"]:
        raise _Rejected("source_damaged")
    ds = read_bytes(source)
    out, old = rekeyed(ds, identity)
    encoded = encode_parts(out)
    pixels = next((item.value for tag in _PIXEL_DATA if (item := ds.get_item(tag)) is not None), b"")
    if xxhash.xxh3_128_digest(pixels or b"") != xxhash.xxh3_128_digest(encoded.pixels):
        raise _Rejected("pixels_changed")
    for identifier in old:
        if len(identifier) >= _SHORTEST and (identifier in encoded.head or identifier in encoded.tail):
            raise _Rejected("identifier_left")
    return [encoded.head, encoded.pixels, encoded.tail]


def _findings(source: bytes, written: bytes) -> Iterator[str]:
    """What the referee says of the written instance, with that of the lake as its original."""
    for finding in check_written(source, written):
        yield f"{finding.rule} {finding.path} {finding.kind}".strip()


def _digest(store: ObjectStore, path: str, n_bytes: int) -> str:
    """XXH3-128 of an object as the store gives it back: what it took is what was written."""
    state = xxhash.xxh3_128()
    for start in range(0, n_bytes, _CHUNK):
        state.update(store.read(path, start, min(_CHUNK, n_bytes - start)))
    return state.hexdigest()


def _row(old: Mapping[str, Any], new: PackedMember, head: int, identity: NewIdentity, *, path: str) -> dict[str, Any]:
    changed: dict[str, Any] = {name: identity.uid(old[name]) for name in old if name.endswith("_instance_uid")}
    changed |= {"acquired_at": identity.at(old["acquired_at"])}
    changed |= {
        "object_path": path,
        "object_offset": new.offset,
        "instance_bytes": new.length,
        "pixel_offset": None if old["pixel_offset"] is None else head,
        "digest": new.digest,
    }
    return {**old, **changed}
