"""Received instances on disk: `<SOP Instance UID>.dcm`, byte for byte as they came.

A file that bears its final name is whole and survives a power cut; whatever is not, has another name and goes.
"""

from __future__ import annotations

import os
import re
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from radlake.errors import StoreFull
from radlake.net.message import MessageBroken, elements
from radlake.net.upper_layer import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

__all__ = ["Draft", "Fragment", "InstanceFolder", "is_file_name", "part10_header"]

Fragment = bytes | bytearray | memoryview

_FILE_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]{0,63}")
_META_BYTES = 64 * 1024  # file meta information is a few hundred bytes; some vendors add private ones


def is_file_name(uid: str) -> bool:
    """Whether a SOP Instance UID may name a file: wrong UIDs are kept for quarantine, paths are not followed."""
    return _FILE_NAME.fullmatch(uid) is not None


def part10_header(*, sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str) -> bytes:
    """Preamble, prefix and file meta information for a data set that came over DIMSE (PS3.10 7.1)."""
    values = (
        (0x0001, b"OB", b"\0\1"),
        (0x0002, b"UI", sop_class_uid),
        (0x0003, b"UI", sop_instance_uid),
        (0x0010, b"UI", transfer_syntax),
        (0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        (0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
    )
    meta = b"".join(_meta_element(element, vr, value) for element, vr, value in values)
    return b"\0" * 128 + b"DICM" + _meta_element(0x0000, b"UL", struct.pack("<L", len(meta))) + meta


def _meta_element(element: int, vr: bytes, value: bytes | str) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode("ascii")
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
        self._lock = threading.Lock()
        try:
            path.mkdir(parents=True, exist_ok=True)
            for stale in path.glob(".*.part"):
                stale.unlink()
        except OSError as exc:
            raise self._full(exc) from exc

    def uids(self) -> set[str]:
        """SOP Instance UIDs of the whole files."""
        return {path.stem for path in self.path.glob("*.dcm")}

    def has(self, uid: str) -> bool:
        return (self.path / f"{uid}.dcm").exists()

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """A file without a name yet; it vanishes unless `keep_as` gives it one.

        Raises
        ------
        StoreFull
            If the disk does not take it.
        """
        try:
            handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=self.path)
            draft = Draft(self, handle, Path(name))
        except OSError as exc:
            raise self._full(exc) from exc
        try:
            yield draft
        except OSError as exc:
            raise self._full(exc) from exc
        finally:
            draft.close()

    def _full(self, exc: OSError) -> StoreFull:
        # The folder's own name may tell the study.
        return StoreFull(path=self.path.parent, reason=exc.strerror or type(exc).__name__)


class Draft:
    """A file being received."""

    def __init__(self, folder: InstanceFolder, handle: int, path: Path) -> None:
        self._folder = folder
        self._file = os.fdopen(handle, "r+b", buffering=0)
        self._path = path

    def write(self, data: Fragment) -> None:
        while data:
            data = memoryview(data)[self._file.write(data) or 0 :]

    def sop_instance_uid(self) -> str | None:
        """Media Storage SOP Instance UID of a Part-10 file just written; None when its head cannot be read."""
        self._file.seek(0)
        head = self._file.read(_META_BYTES) or b""
        if head[128:132] != b"DICM":
            return None
        with suppress(MessageBroken):
            for tag, value in elements(head[132:], is_implicit=False):
                if tag == 0x00020003:
                    return value.decode("latin-1").strip(" \0")
                if tag > 0x00020003:
                    break
        return None

    def keep_as(self, uid: str) -> bool:
        """Make it durable under its name; False when the instance was there already (the older one stays)."""
        os.fsync(self._file.fileno())
        final = self._folder.path / f"{uid}.dcm"
        with self._folder._lock:
            if final.exists():
                return False
            self._path.rename(final)
        folder = os.open(self._folder.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return True

    def close(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)
