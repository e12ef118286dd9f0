"""One series object: a pure worker, run in any process.

It writes the new object beside the old one (named by content, so doing it twice writes the same), proves it, and
touches neither ledger nor tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from radlake.commit_points import reached
from radlake.config import Settings
from radlake.lake import Lake
from radlake.lake.objects import ObjectStore, PackedMember, PackedSeries
from radlake.pixels.lossless import CODECS, Codec
from radlake.recompress.instance import (
    Encoded,
    Left,
    Member,
    SourceDamaged,
    encode_instance,
    is_proven,
    member_chunks,
    reason_to_leave,
)

__all__ = ["NewMember", "SeriesJob", "SeriesOutcome", "estimate_series", "recompress_series"]


@dataclass(frozen=True)
class SeriesJob:
    """A series object to be recompressed: its path and its members in order of their offsets."""

    settings: Settings
    codec: str
    path: str
    month: int
    members: tuple[Member, ...]


@dataclass(frozen=True, kw_only=True)
class NewMember:
    """What the row of an instance says after the swap."""

    sop_instance_uid: str
    object_offset: int
    instance_bytes: int
    pixel_offset: int | None
    digest: str
    transfer_syntax_uid: str
    photometric_interpretation: str | None


class Size(NamedTuple):
    """Bytes of an instance before and after."""

    modality: str
    before: int
    after: int


@dataclass(frozen=True)
class SeriesOutcome:
    """What became of a series object.

    Attributes
    ----------
    new_path : str
        Where the proven new object lies; empty when there is none.
    sizes : list of Size
        One for each instance that was encoded.
    left : Counter
        Instances that stay as they are, by reason.
    refused : str
        Why the old object stays although it should not: `source_damaged`, `decode_differs`.
    """

    job: SeriesJob
    new_path: str = ""
    object_bytes: int = 0
    members: tuple[NewMember, ...] = ()
    sizes: list[Size] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    refused: str = ""


def recompress_series(job: SeriesJob) -> SeriesOutcome:
    """Encode a series object anew, store it and prove it.

    Raises
    ------
    TransientError, PermanentError
        When the store is full or away, or the object is gone.
    """
    lake, codec = Lake.from_settings(job.settings), CODECS[job.codec]
    objects = lake.objects
    left: Counter[str] = Counter()
    made: dict[str, Encoded] = {}

    def contents() -> Iterator[tuple[str, Iterator[bytes]]]:
        for member in job.members:
            encoded = _encoded(lake, job.path, member, codec)
            if isinstance(encoded, Left):
                left[encoded.reason] += 1
                yield _name(member), member_chunks(objects, job.path, member)
            else:
                made[_name(member)] = encoded
                with encoded.items:
                    yield _name(member), encoded.chunks()

    try:
        packed = objects.pack_series(_prefix(job.path), contents())
    except SourceDamaged:
        return SeriesOutcome(job, refused="source_damaged")
    if not made:
        _discard(objects, packed, job)
        return SeriesOutcome(job, left=left)
    new: list[NewMember] = []
    sizes: list[Size] = []
    for member, written in zip(job.members, packed.members, strict=True):
        encoded = made.get(written.name)
        if encoded is None and written.digest != member.digest:
            _discard(objects, packed, job)
            return SeriesOutcome(job, refused="source_damaged")
        if encoded is not None and not is_proven(objects, packed.path, written.offset, encoded, codec=codec):
            _discard(objects, packed, job)
            return SeriesOutcome(job, refused="decode_differs")
        new.append(_new_member(member, written, encoded, codec))
        if encoded is not None:
            sizes.append(Size(member.modality, member.n_bytes, written.length))
    reached("recompress.proven")
    return SeriesOutcome(job, packed.path, packed.n_bytes, tuple(new), sizes, left)


def estimate_series(job: SeriesJob) -> SeriesOutcome:
    """Encode the instances of a series object, store nothing, and tell the sizes."""
    lake, codec = Lake.from_settings(job.settings), CODECS[job.codec]
    left: Counter[str] = Counter()
    sizes: list[Size] = []
    try:
        for member in job.members:
            encoded = _encoded(lake, job.path, member, codec)
            if isinstance(encoded, Left):
                left[encoded.reason] += 1
            else:
                encoded.items.close()
                sizes.append(Size(member.modality, member.n_bytes, encoded.n_bytes))
    except SourceDamaged:
        return SeriesOutcome(job, refused="source_damaged")
    return SeriesOutcome(job, sizes=sizes, left=left)


def _encoded(lake: Lake, path: str, member: Member, codec: Codec) -> Encoded | Left:
    if reason := reason_to_leave(
        member.transfer_syntax_uid, has_pixels=member.pixel_offset is not None, bits_allocated=member.bits_allocated
    ):
        return Left(reason)
    lake.scratch.mkdir(parents=True, exist_ok=True)
    return encode_instance(lake.objects, path, member, codec=codec, scratch=lake.scratch)


def _new_member(member: Member, written: PackedMember, encoded: Encoded | None, codec: Codec) -> NewMember:
    return NewMember(
        sop_instance_uid=member.sop_instance_uid,
        object_offset=written.offset,
        instance_bytes=written.length,
        pixel_offset=encoded.pixel_offset if encoded else member.pixel_offset,
        digest=written.digest,
        transfer_syntax_uid=codec.transfer_syntax_uid if encoded else member.transfer_syntax_uid,
        photometric_interpretation=codec.photometric(encoded.source.form)
        if encoded
        else member.photometric_interpretation,
    )


def _discard(objects: ObjectStore, packed: PackedSeries, job: SeriesJob) -> None:
    """Remove an object that nobody refers to; a copy that changed nothing has the name of the old one."""
    if packed.path != job.path:
        objects.delete(packed.path)


def _prefix(path: str) -> str:
    """`<hospital>/<study>/<series>` of `<hospital>/<study>/<series>.<digest>.zip`."""
    return path.rsplit(".", 2)[0]


def _name(member: Member) -> str:
    return f"{member.sop_instance_uid}.dcm"
