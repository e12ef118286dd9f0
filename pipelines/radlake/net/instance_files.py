"""Received instances on disk: `<SOP Instance UID>.dcm`, byte for byte as they came.

An archive may send two instances under one UID: equal bytes are one file, others lie beside it as
`<SOP Instance UID>~<digest>.dcm`, so that whoever reads the folder sees both and decides.

A file that bears its final name is whole and survives a power cut; whatever is not, has another name and goes.
"""

from __future__ import annotations

import itertools
import os
import re
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import xxhash

from radlake.commit_points import reached
from radlake.errors import StoreFull
from radlake.machine import fsync
from radlake.net.message import MessageBroken, value_of
from radlake.net.pdu import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

__all__ = ["Draft", "Fragment", "InstanceFolder", "is_file_name", "part10_header", "uid_of_file"]

Fragment = bytes | bytearray | memoryview

_FILE_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]{0,63}")
_TWIN = "~"  # cannot stand in a file name made of a UID
_CHUNK = 1 << 20
_META_LENGTH_AT = 140  # value of (0002,0000), PS3.10 7.1
_META_BYTES = 64 * 1024  # file meta information is a few hundred bytes; some vendors add private ones


def is_file_name(uid: str) -> bool:
    """Whether a SOP Instance UID may name a file: wrong UIDs are kept for quarantine, paths are not followed."""
    return _FILE_NAME.fullmatch(uid) is not None


def uid_of_file(path: Path) -> str:
    """SOP Instance UID of a received file.

    >>> uid_of_file(Path("1.2.3~0f3a.dcm"))
    '1.2.3'
    """
    return path.stem.partition(_TWIN)[0]


def part10_header(*, sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str) -> bytes:
    """Preamble, prefix and file meta information for a data set that came over DIMSE (PS3.10 7.1)."""
    before, after = _meta_of_a_kind(sop_class_uid, transfer_syntax)
    meta = before + _meta_element(0x0003, b"UI", sop_instance_uid) + after
    return b"\0" * 128 + b"DICM" + _meta_element(0x0000, b"UL", struct.pack("<L", len(meta))) + meta


@lru_cache(maxsize=64)
def _meta_of_a_kind(sop_class_uid: str, transfer_syntax: str) -> tuple[bytes, bytes]:
    """What stands before and after the SOP Instance UID."""
    before = _meta_element(0x0001, b"OB", b"\0\1") + _meta_element(0x0002, b"UI", sop_class_uid)
    after = (
        _meta_element(0x0010, b"UI", transfer_syntax)
        + _meta_element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID)
        + _meta_element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME)
    )
    return before, after


def _meta_element(element: int, vr: bytes, value: bytes | str) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode("latin-1")
    raw += b"" if len(raw) % 2 == 0 else b" " if vr == b"SH" else b"\0"
    length = struct.pack("<HL", 0, len(raw)) if vr == b"OB" else struct.pack("<H", len(raw))
    return struct.pack("<HH", 0x0002, element) + vr + length + raw


class InstanceFolder:
    """Folder of one study in the spool.

    What an interrupted run left half is removed when the folder is opened; it has one owner at a time, who may store
    from several threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._numbers = itertools.count()
        self._naming, self._committing = threading.Lock(), threading.Lock()
        self._n_named = self._n_durable = 0
        try:
            path.mkdir(parents=True, exist_ok=True)
            for stale in path.glob(".*.part"):
                stale.unlink()
            fsync(path.parent)
            fsync(path)
        except OSError as exc:
            raise self._full(exc) from exc

    def uids(self) -> set[str]:
        """SOP Instance UIDs of the whole files."""
        return set(self.copies())

    def copies(self) -> Counter[str]:
        """How many instances with other bytes lie here under each SOP Instance UID."""
        return Counter(uid_of_file(path) for path in self.path.glob("*.dcm"))

    def has(self, uid: str) -> bool:
        """Whether the file is there to stay."""
        is_there = self._path(uid).exists()
        if is_there:
            self._make_names_durable()
        return is_there

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """A file without a name yet; it vanishes unless `keep_as` gives it one.

        Raises
        ------
        StoreFull
            If the disk does not take it.
        """
        try:
            draft = Draft(self, self.path / f".{next(self._numbers)}.part")
        except OSError as exc:
            raise self._full(exc) from exc
        try:
            yield draft
        except OSError as exc:
            raise self._full(exc) from exc
        finally:
            draft.close()

    def _place(self, draft: Path, uid: str) -> tuple[Path, bool]:
        """Where these bytes lie, or should, and whether they lie there."""
        final = self._path(uid)
        if not final.exists():
            return final, False
        if (digest := _digest(draft)) == _digest(final):
            return final, True
        twin = self._path(f"{uid}{_TWIN}{digest}")
        return twin, twin.exists()

    def _give_name(self, draft: Path, uid: str) -> bool:
        with self._naming:
            final, is_there = self._place(draft, uid)
            if not is_there:
                draft.rename(final)
                self._n_named += 1
                reached("instance.named")
        self._make_names_durable()
        return not is_there

    def _make_names_durable(self) -> None:
        """Group commit: one sync of the folder serves every thread that came while another one was going on."""
        mine = self._n_named
        with self._committing:
            if self._n_durable < mine:
                n_named = self._n_named
                fsync(self.path)
                self._n_durable = n_named

    def _path(self, uid: str) -> Path:
        return self.path / f"{uid}.dcm"

    def _full(self, exc: OSError) -> StoreFull:
        # The folder's own name may tell the study.
        return StoreFull(path=self.path.parent, reason=exc.strerror or type(exc).__name__)


class Draft:
    """A file being received."""

    def __init__(self, folder: InstanceFolder, path: Path) -> None:
        self._folder = folder
        self._path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._is_kept = False

    def write(self, *pieces: Fragment) -> None:
        """Append; at most 1024 pieces. One system call for many pages costs less than many for few."""
        n_written = os.writev(self._handle, pieces)
        for piece in pieces:  # a disk that is nearly full takes a part
            left = memoryview(piece)[n_written:]
            n_written = max(0, n_written - len(piece))
            while left:
                left = left[os.write(self._handle, left) :]

    def sop_instance_uid(self) -> str | None:
        """Media Storage SOP Instance UID of a Part-10 file just written; None when its head cannot be read."""
        head = os.pread(self._handle, _META_BYTES, 0)
        if head[128:132] != b"DICM":
            return None
        with suppress(MessageBroken):
            return value_of(head[132:], 0x00020003, is_implicit=False).decode("latin-1").strip(" \0") or None
        return None

    def keep_as(self, uid: str) -> bool:
        """Make it durable under its name, or beside an instance with its UID and other bytes; False when the same
        bytes were there already."""
        folder = self._folder
        _, is_there = folder._place(self._path, uid)
        if is_there:  # a resend: what bears its name is durable
            folder._make_names_durable()
            return False
        os.fsync(self._handle)
        reached("instance.written")
        self._is_kept = folder._give_name(self._path, uid)
        reached("instance.durable")
        return self._is_kept

    def close(self) -> None:
        os.close(self._handle)
        if not self._is_kept:
            self._path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    """Digest of the data set of a Part-10 file: its meta information differs with the way that it came."""
    digest = xxhash.xxh3_64()
    with path.open("rb") as file:
        head = file.read(_META_LENGTH_AT + 4)
        if head[128:132] == b"DICM":
            file.seek(len(head) + int.from_bytes(head[_META_LENGTH_AT:], "little"))
        else:
            file.seek(0)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
