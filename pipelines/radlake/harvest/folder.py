"""Walk a folder, ZIP archives or a mounted CD and group what lies there by study.

Only headers are read here. A file that is not DICOM is counted and left alone; one that is DICOM but whose study
cannot be told is listed with its reason, so that the caller sets it aside.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from radlake.commit_points import reached
from radlake.dicom.part10 import NotDicom, read_header
from radlake.errors import QuarantineError, SourceMissing, StoreFull

_ROOM_BYTES = 1 << 30
_ROOM_RATIO = 100  # a CT packs 2 to 4 times, an empty picture 1000 times
_BLOCK_BYTES = 4096  # what a file takes on a disk at least

__all__ = ["FolderFile", "FolderListing", "FolderStudy", "UnreadableFile", "list_folder"]


@dataclass(frozen=True)
class FolderFile:
    """A DICOM file: where its bytes lie now, where it came from, its SOP Instance UID."""

    path: Path
    origin: str
    sop_uid: str


@dataclass(frozen=True)
class UnreadableFile:
    """A DICOM file whose header cannot be read."""

    path: Path
    origin: str
    error: QuarantineError


@dataclass
class FolderStudy:
    """Files of one study, in order of their origin."""

    study_uid: str
    study_date: date | None
    files: list[FolderFile] = field(default_factory=list)


@dataclass
class FolderListing:
    """What a folder holds."""

    studies: list[FolderStudy]
    unreadable: list[UnreadableFile]
    n_not_dicom: int
    closed: list[str]  # origins of files whose bytes cannot be had: a scratched CD, a link into nowhere


@dataclass
class _Room:
    """What archives may unpack to, all those of a folder together: a bomb of a few MB would fill the disk."""

    left: int = _ROOM_BYTES

    def take(self, archive: Path, members: list[zipfile.ZipInfo]) -> None:
        """Take what the members say they need; no more than that is ever read of one.

        Raises
        ------
        QuarantineError
            If they need more than there is.
        """
        self.left += _ROOM_RATIO * archive.stat().st_size
        needed = sum(max(member.file_size, _BLOCK_BYTES) for member in members)
        if needed > self.left:
            raise QuarantineError(reason="archive_unreadable", detail=f"unpacks to {needed / 1e9:,.1f} GB: too much")
        self.left -= needed


@contextmanager
def list_folder(path: Path, *, scratch: Path) -> Iterator[FolderListing]:
    """List the studies of a folder or of one file; ZIP members are unpacked below `scratch` meanwhile.

    Raises
    ------
    SourceMissing
        If the path does not exist or cannot be listed.
    StoreFull
        If a ZIP archive cannot be unpacked for want of space.
    """
    if not path.exists():
        raise SourceMissing(path=str(path))
    scratch.mkdir(parents=True, exist_ok=True)
    unpacked = Path(tempfile.mkdtemp(prefix="zip-", dir=scratch))
    try:
        yield _listing(path, unpacked)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _listing(root: Path, unpacked: Path) -> FolderListing:
    studies: dict[str, FolderStudy] = {}
    unreadable: list[UnreadableFile] = []
    closed: list[str] = []
    n_not_dicom = 0
    for path, origin, damage in _files(root, unpacked):
        try:
            if damage:
                raise damage
            header = read_header(path)
            if not (header.study_instance_uid and header.sop_instance_uid):
                raise QuarantineError(reason="uid_missing", detail="Study or SOP Instance UID")
        except NotDicom:
            n_not_dicom += 1
        except SourceMissing:
            closed.append(origin)
        except QuarantineError as error:
            unreadable.append(UnreadableFile(path, origin, error))
        else:
            study = studies.setdefault(
                header.study_instance_uid, FolderStudy(header.study_instance_uid, header.study_date)
            )
            study.files.append(FolderFile(path, origin, header.sop_instance_uid))
    return FolderListing([studies[uid] for uid in sorted(studies)], unreadable, n_not_dicom, closed)


def _files(root: Path, unpacked: Path) -> Iterator[tuple[Path, str, QuarantineError | None]]:
    """Each file once, in a fixed order: its path, its origin relative to the root, what is wrong with it if known."""
    room = _Room()
    for path in [root] if root.is_file() else _walk(root):
        origin = _shown(path.name if path == root else str(path.relative_to(root)))
        if path.suffix.lower() == ".zip":
            yield from _members(path, origin, unpacked, room)
        else:
            yield path, origin, None


def _shown(name: str) -> str:
    """A name that a ledger can keep and a person can read: old archives have theirs in GB 18030."""
    try:
        return os.fsencode(name).decode()
    except UnicodeDecodeError:
        return os.fsencode(name).decode("gb18030", "replace")


def _walk(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise SourceMissing(path=str(error.filename)) from error

    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=False):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() or (path.is_symlink() and not path.exists()):
                yield path


def _members(
    archive: Path, origin: str, unpacked: Path, room: _Room
) -> Iterator[tuple[Path, str, QuarantineError | None]]:
    """Members of a ZIP archive, unpacked; the archive itself when one of them cannot be."""
    target = Path(tempfile.mkdtemp(dir=unpacked))
    damage: QuarantineError | None = None
    if not os.access(archive, os.R_OK):
        yield archive, origin, None  # it is told with the other files that cannot be opened
        return
    try:
        with zipfile.ZipFile(archive) as members:
            room.take(archive, members.infolist())
            for number, member in enumerate(members.infolist()):
                if member.is_dir():
                    continue
                if member.filename.lower().endswith(".zip"):
                    damage = QuarantineError(reason="archive_unreadable", detail="an archive in an archive")
                    continue
                path = target / f"{number:08d}"  # a member's own name is never a path here
                try:
                    with members.open(member) as reader, path.open("wb") as writer:
                        shutil.copyfileobj(reader, writer, 1 << 20)
                except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as exc:
                    damage = QuarantineError(reason="archive_unreadable", detail=type(exc).__name__)
                    continue
                reached("archive.unpacked")
                yield path, f"{origin}!{member.filename}", None
    except QuarantineError as exc:
        damage = exc
    except zipfile.BadZipFile as exc:
        damage = QuarantineError(reason="archive_unreadable", detail=type(exc).__name__)
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreFull(path=str(unpacked), reason=exc.strerror) from exc
        damage = QuarantineError(reason="archive_unreadable", detail=type(exc).__name__)
    if damage:
        yield archive, origin, damage
