"""A ZIP of stored members whose bytes follow from its members alone (APPNOTE.TXT 6.3.10).

No compression, no clock, no operating system's attributes. Sizes beyond 4 GiB use ZIP64 records only where they are
needed, so that old readers open everything else. Where objects lie is `objects`' business.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO

import xxhash
from isal import isal_zlib

__all__ = ["PackedMember", "StoredZip"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}")
_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_END64, _LOCATOR64 = b"PK\x06\x06", b"PK\x06\x07"
_VERSION, _VERSION_64 = 20, 45
_EPOCH = 0 << 9 | 1 << 5 | 1  # 1980-01-01, the first date that ZIP knows
_COPY = 1 << 20


@dataclass(frozen=True)
class PackedMember:
    """One member: name, first byte and length of its content in the archive, XXH3-128 of its content."""

    name: str
    offset: int
    length: int
    digest: str


class StoredZip:
    """Write members one after the other to a seekable file; use as a context manager, which writes the directory."""

    def __init__(self, file: BinaryIO, *, limit_32: int = 0xFFFF_FFFF, limit_16: int = 0xFFFF) -> None:
        self.members: list[PackedMember] = []
        self._file = file
        self._limit_32 = limit_32
        self._limit_16 = limit_16
        self._directory: list[bytes] = []
        self._names: set[str] = set()
        self._end = file.tell()

    def __enter__(self) -> StoredZip:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()

    def add(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Append a member; its size need not be known before. When its pieces fail, the archive is as it was."""
        if not _NAME.fullmatch(name) or name in self._names:
            raise ValueError("a member needs a plain file name that no other member has")
        start = self._end
        crc, length, digest, checksum = 0, 0, xxhash.xxh3_128(), isal_zlib.crc32
        header, described = b"", -1  # the local header, and the length of content that it tells
        try:
            for piece in pieces:
                digest.update(piece)
                crc = checksum(piece, crc)
                length += len(piece)
                if not header:  # a member mostly is one piece
                    header, described = self._local_header(name, crc=crc, length=length), length
                    self._write(header)
                self._write(piece)
        except BaseException:
            self._file.seek(start)
            self._file.truncate()
            raise
        if length != described:
            before, header = len(header), self._local_header(name, crc=crc, length=length)
            if len(header) > before:
                self._shift(start + before, length, by=len(header) - before)
            self._file.seek(start)
            self._write(header)
            self._file.seek(start + len(header) + length)
        offset = start + len(header)
        self._end = offset + length
        self._names.add(name)
        self._directory.append(self._central_header(name, crc=crc, length=length, start=start))
        self.members.append(PackedMember(name, offset, length, digest.hexdigest()))

    def _write(self, data: bytes | memoryview) -> None:
        """All of it: a file without a buffer may take less."""
        n_bytes = self._file.write(data)
        while n_bytes < len(data):
            n_bytes += self._file.write(memoryview(data)[n_bytes:])

    def _local_header(self, name: str, *, crc: int, length: int) -> bytes:
        is_64 = length >= self._limit_32
        extra = struct.pack("<HHQQ", 1, 16, length, length) if is_64 else b""
        size = 0xFFFF_FFFF if is_64 else length
        version = _VERSION_64 if is_64 else _VERSION
        fixed = struct.pack("<HHHHHIIIHH", version, 0, 0, 0, _EPOCH, crc, size, size, len(name), len(extra))
        return _LOCAL + fixed + name.encode("ascii") + extra

    def _central_header(self, name: str, *, crc: int, length: int, start: int) -> bytes:
        size, offset, values = length, start, []
        if length >= self._limit_32:
            size = 0xFFFF_FFFF
            values += [length, length]
        if start >= self._limit_32:
            offset = 0xFFFF_FFFF
            values.append(start)
        extra = struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values) if values else b""
        version = _VERSION_64 if values else _VERSION
        fixed = struct.pack(
            "<HHHHHHIIIHHHHHII",
            version, version, 0, 0, 0, _EPOCH, crc, size, size, len(name), len(extra), 0, 0, 0, 0, offset,
        )  # fmt: skip
        return _CENTRAL + fixed + name.encode("ascii") + extra

    def _finish(self) -> None:
        start = self._file.seek(self._end)
        self._write(b"".join(self._directory))
        size = self._file.tell() - start
        count = len(self._directory)
        if count >= self._limit_16 or start >= self._limit_32 or size >= self._limit_32:
            record = struct.pack("<QHHIIQQQQ", 44, _VERSION_64, _VERSION_64, 0, 0, count, count, size, start)
            locator = struct.pack("<IQI", 0, start + size, 1)
            self._write(_END64 + record + _LOCATOR64 + locator)
            count, size, start = 0xFFFF, 0xFFFF_FFFF, 0xFFFF_FFFF
        self._write(_END + struct.pack("<HHHHIIH", 0, 0, count, count, size, start, 0))

    def _shift(self, start: int, length: int, *, by: int) -> None:
        """Make room for a ZIP64 extra field before content that turned out too long: from its end backwards."""
        position = start + length
        while position > start:
            step = min(_COPY, position - start)
            position -= step
            self._file.seek(position)
            block = self._file.read(step)
            self._file.seek(position + by)
            self._write(block)
