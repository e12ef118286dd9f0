"""One stored instance: encode its frames anew, and prove from what was written that nothing else became of it.

Frames pass one by one: compressed ones wait in a file of scratch, because the offset table stands before them
(PS3.5 A.4). What to do with whole series objects is `series`' business.
"""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import xxhash
from pydicom.encaps import generate_frames

from radlake.dicom.uids import transfer_syntax
from radlake.errors import RadlakeError
from radlake.lake.objects import ObjectStore
from radlake.pixels.lossless import Codec, decode_frame, encode_frame
from radlake.recompress.header import NATIVE, Head

__all__ = [
    "Encoded",
    "Left",
    "Member",
    "SourceDamaged",
    "encode_instance",
    "is_proven",
    "member_chunks",
    "reason_to_leave",
]

_BATCH_BYTES = 16 << 20
_IN_MEMORY = 32 << 20
_MAX_BASIC_OFFSET = 0xFFFFFFFF
_ITEM = struct.Struct("<4sL")
_ITEM_TAG = b"\xfe\xff\x00\xe0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


class SourceDamaged(Exception):
    """The stored bytes are not those that were stored: their digest is another."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A row of dicom.instance, as far as recompression needs it."""

    sop_instance_uid: str
    modality: str
    offset: int
    n_bytes: int
    pixel_offset: int | None
    digest: str
    transfer_syntax_uid: str
    photometric_interpretation: str | None
    bits_allocated: int | None


@dataclass(frozen=True)
class Left:
    """An instance that stays as it is, and why."""

    reason: str


@dataclass
class Encoded:
    """An instance with compressed pixels, not yet stored.

    Attributes
    ----------
    head, tail : bytes
        What stands before the first frame's item and after the last one's.
    pixel_offset : int
        First byte of the value of Pixel Data: the item of the basic offset table.
    frame_digests : list of str
        XXH3-128 of each native frame.
    """

    source: Head
    head: bytes
    tail: bytes
    items: IO[bytes]  # of the fragments
    n_bytes: int
    pixel_offset: int
    frame_digests: list[str]

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the file; once."""
        yield self.head
        self.items.seek(0)
        while block := self.items.read(_BATCH_BYTES):
            yield block
        yield self.tail


def reason_to_leave(transfer_syntax_uid: str, *, has_pixels: bool, bits_allocated: int | None) -> str | None:
    """Why an instance is left alone, as far as its row tells; None when its pixels must be looked at."""
    syntax = transfer_syntax(transfer_syntax_uid)
    if syntax is None or syntax.is_encapsulated:
        return "compressed" if has_pixels else "no_pixels"
    if not has_pixels or bits_allocated is None or transfer_syntax_uid != NATIVE:
        return "no_pixels"
    if bits_allocated == 1:
        return "one_bit"
    return None if bits_allocated in (8, 16) else "bits_allocated"


def encode_instance(objects: ObjectStore, path: str, member: Member, *, codec: Codec, scratch: Path) -> Encoded | Left:
    """Encode the frames of a native instance.

    Raises
    ------
    SourceDamaged
        If its bytes are not those that its row tells.
    """
    assert member.pixel_offset is not None
    source = objects.read(path, member.offset, member.pixel_offset)
    digest = xxhash.xxh3_128(source)
    try:
        head = Head.from_bytes(source)
    except (LookupError, ValueError, struct.error) as exc:
        raise SourceDamaged from exc
    form = head.form
    n_pixel_bytes = form.frame_bytes * head.n_frames
    if reason := codec.reason_against(form):
        return Left(reason)
    if head.value_bytes != n_pixel_bytes + n_pixel_bytes % 2 or not form.frame_bytes:
        return Left("pixel_length")
    items: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(scratch))  # noqa: SIM115
    done = False
    try:
        lengths, frame_digests = [], []
        for frame in _frames(objects, path, member, head=head, digest=digest):
            try:
                stream = encode_frame(frame, form=form, codec=codec)
            except Exception:  # encoders raise anything: OpenJPEG over an image that is smaller than its wavelets
                return Left("codec_cannot")
            if stream is None:
                return Left("high_bits")
            frame_digests.append(xxhash.xxh3_128_hexdigest(frame))
            lengths.append(len(stream))
            items.write(_ITEM.pack(_ITEM_TAG, len(stream) + len(stream) % 2) + stream + b"\0" * (len(stream) % 2))
        rest = member.pixel_offset + n_pixel_bytes
        end = objects.read(path, member.offset + rest, member.n_bytes - rest)
        digest.update(end)
        if digest.hexdigest() != member.digest:
            raise SourceDamaged
        new_head, pixel_offset = _new_head(head, codec, lengths=lengths)
        tail = _SEQUENCE_END + end[n_pixel_bytes % 2 :]
        n_bytes = len(new_head) + items.tell() + len(tail)
        if n_bytes >= member.n_bytes:
            return Left("not_smaller")
        done = True
        return Encoded(head, new_head, tail, items, n_bytes, pixel_offset, frame_digests)
    finally:
        if not done:
            items.close()


def member_chunks(objects: ObjectStore, path: str, member: Member) -> Iterator[bytes]:
    """The bytes of an instance as they are stored."""
    for start in range(0, member.n_bytes, _BATCH_BYTES):
        yield objects.read(path, member.offset + start, min(_BATCH_BYTES, member.n_bytes - start))


def is_proven(objects: ObjectStore, path: str, offset: int, encoded: Encoded, *, codec: Codec) -> bool:
    """Read a recompressed instance from the store as any reader would: every frame and element must be the source's."""
    stored = io.BufferedReader(_Stored(objects, path, offset, encoded.n_bytes), 1 << 20)
    try:
        head = Head.from_bytes(stored.read(encoded.pixel_offset))
        if head.unchanged() != encoded.source.unchanged() or head.value_bytes is not None:
            return False
        told = (head.transfer_syntax_uid, head.form.photometric, head.form.is_by_plane, head.n_frames)
        form = encoded.source.form
        if told != (
            codec.transfer_syntax_uid,
            codec.photometric(form),
            codec.is_by_plane(form),
            encoded.source.n_frames,
        ):
            return False
        frames = generate_frames(stored, number_of_frames=head.n_frames, extended_offsets=head.extended_offsets())
        digests = [xxhash.xxh3_128_hexdigest(decode_frame(frame, form=form, codec=codec)) for frame in frames]
        stored.seek(encoded.n_bytes - len(encoded.tail))
        return digests == encoded.frame_digests and stored.read() == encoded.tail
    except RadlakeError:
        raise
    except Exception:  # a decoder raises anything over a broken stream: then nothing is proven
        return False


def _frames(
    objects: ObjectStore, path: str, member: Member, *, head: Head, digest: xxhash.xxh3_128
) -> Iterator[memoryview]:
    """Native frames in their order, read in batches."""
    assert member.pixel_offset is not None
    size = head.form.frame_bytes
    step = max(_BATCH_BYTES // size, 1)
    for first in range(0, head.n_frames, step):
        n = min(step, head.n_frames - first)
        batch = objects.read(path, member.offset + member.pixel_offset + first * size, n * size)
        digest.update(batch)
        view = memoryview(batch)
        for i in range(n):
            yield view[i * size : (i + 1) * size]


def _new_head(head: Head, codec: Codec, *, lengths: list[int]) -> tuple[bytes, int]:
    """Everything before the first frame's item, and the offset of the value of Pixel Data.

    A basic offset table as long as 32 bits can tell where frames begin, else the extended one (PS3.5 A.4).
    """
    offsets, pos = [], 0
    for length in lengths:
        offsets.append(pos)
        pos += _ITEM.size + length + length % 2
    if pos <= _MAX_BASIC_OFFSET:
        table = struct.pack(f"<{len(offsets)}L", *offsets)
        start = head.encapsulated(codec, offsets=b"", lengths=b"")
    else:
        table = b""
        start = head.encapsulated(
            codec,
            offsets=struct.pack(f"<{len(offsets)}Q", *offsets),
            lengths=struct.pack(f"<{len(lengths)}Q", *lengths),
        )
    return start + _ITEM.pack(_ITEM_TAG, len(table)) + table, len(start)


class _Stored(io.RawIOBase):
    """A range of an object as a file."""

    def __init__(self, objects: ObjectStore, path: str, offset: int, n_bytes: int) -> None:
        self._objects, self._path, self._offset, self._n_bytes = objects, path, offset, n_bytes
        self._pos = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._pos = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._pos, io.SEEK_END: self._n_bytes}[whence]
        return self._pos

    def tell(self) -> int:
        return self._pos

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        block = self._objects.read(
            self._path, self._offset + self._pos, max(0, min(len(buffer), self._n_bytes - self._pos))
        )
        buffer[: len(block)] = block
        self._pos += len(block)
        return len(block)
