"""Received files until they are ingested: the journal of what was acknowledged is the folder itself.

    <spool>/push/<hospital>/<digest of the study>/study.uid           whose it is
                                                 /<n>/<SOP Instance UID>.dcm

A file that bears its name is durable and was, or may have been, acknowledged: whatever is killed finds it again. A
study is open in one folder; when it is closed the next instance opens another one, so that the files of an ingest never
change under it, and what comes late is never deleted with what was ingested.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import xxhash

from radlake import log
from radlake.errors import StoreFull
from radlake.lake.store import make_folder
from radlake.machine import fsync
from radlake.net.delivery import Delivery
from radlake.net.instance_files import InstanceFolder, uid_of_file
from radlake.net.message import value_of

__all__ = ["Closed", "Intake", "PushSpool", "Waiting", "sop_class_of"]

_NAME = "study.uid"
_MEDIA_STORAGE_SOP_CLASS_UID = 0x00020002
_META_BYTES = 64 * 1024  # file meta information is a few hundred bytes

Key = tuple[str, str]  # hospital, Study Instance UID


class Intake(Delivery):
    """An open folder of a study, and since when nothing came into it."""

    def __init__(self, folder: InstanceFolder, *, age_seconds: float = 0.0) -> None:
        super().__init__(folder, due=None)
        self.arrived = folder.uids()
        self._last -= age_seconds


@dataclass(frozen=True)
class Waiting:
    """Instances of a study that no ingest took.

    Attributes
    ----------
    seconds_silent : float
        Since when nothing came; 0 while an instance is under way.
    """

    uids: frozenset[str]
    seconds_silent: float


@dataclass(frozen=True)
class Closed:
    """Files of a study that do not change any more; `PushSpool.forget` removes them."""

    key: Key
    folders: tuple[Path, ...]
    files: tuple[tuple[Path, str], ...]


class _Study:
    """Folders of one study: an open one, if there is one, and closed ones that wait."""

    def __init__(self, key: Key, path: Path) -> None:
        self.key, self.path = key, path
        self.intake: Intake | None = None
        self.closed: dict[int, frozenset[str]] = {}
        self.next = 1

    def open(self, *, age_seconds: float = 0.0) -> Intake:
        if self.intake is None:
            folder = self.path / str(self.next)
            self.intake = Intake(InstanceFolder(folder), age_seconds=age_seconds)
        return self.intake

    def close(self) -> None:
        if self.intake is not None:
            self.closed[self.next] = frozenset(self.intake.arrived)
            self.intake, self.next = None, self.next + 1

    @property
    def n_instances(self) -> int:
        """As files; of equal UIDs each counts."""
        return sum(map(len, self.closed.values())) + (len(self.intake.arrived) if self.intake else 0)

    @property
    def uids(self) -> frozenset[str]:
        return frozenset[str]().union(*self.closed.values(), self.intake.arrived if self.intake else ())

    def find(self, uids: Collection[str]) -> dict[str, Path]:
        """Files of instances that are durable."""
        folders = {**self.closed, **({self.next: self.intake.arrived} if self.intake else {})}
        return {
            uid: self.path / str(number) / f"{uid}.dcm"
            for number, arrived in folders.items()
            for uid in arrived.intersection(uids)
        }


class PushSpool:
    """All that was received and not ingested; used by many threads. What a killed service left is found again.

    Parameters
    ----------
    keep_free : int
        Bytes of the disk that are left free: the ledger and the ingest live on it too.
    """

    def __init__(self, spool: Path, *, keep_free: int) -> None:
        self._root, self._keep_free = spool / "push", keep_free
        self._lock = threading.Lock()
        self._studies: dict[Key, _Study] = {}
        make_folder(self._root)
        for folder in sorted(self._root.glob("*/*")):
            self._find_again(folder)

    def _find_again(self, folder: Path) -> None:
        numbers = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        if not numbers:  # killed before anything could be in it, or after all was ingested
            shutil.rmtree(folder)
            return
        study_uid = (folder / _NAME).read_text(encoding="utf-8")
        study = _Study((folder.parent.name, study_uid), folder)
        for number in numbers:
            path = study.path / str(number)
            study.next = number
            study.open(age_seconds=max(0.0, time.time() - path.stat().st_mtime))
            if number != numbers[-1]:
                study.close()
        self._studies[study.key] = study

    def check_room(self) -> None:
        """Refuse before the disk is full.

        Raises
        ------
        StoreFull
        """
        stat = os.statvfs(self._root)
        if stat.f_bavail * stat.f_frsize < self._keep_free:
            reason = f"less than {self._keep_free / 1e9:.1f} GB are free"
            log.get_logger().error("spool_full", reason=reason)
            raise StoreFull(path=self._root, reason=reason)

    def intake(self, hospital_id: str, study_uid: str) -> Intake:
        """Where an instance of this study goes; `begin` is called, so that nobody closes it meanwhile.

        Raises
        ------
        StoreFull
        """
        self.check_room()
        key = (hospital_id, study_uid)
        with self._lock:
            study = self._studies.get(key)
            if study is None:
                study = self._studies[key] = _Study(key, self._make(key))
            intake = study.open()
            intake.begin()
            return intake

    def _make(self, key: Key) -> Path:
        """The folder of a study, with its name in it, durable."""
        folder = self._root / key[0] / xxhash.xxh3_128_hexdigest("|".join(key).encode())
        part = folder / f".{_NAME}"
        try:
            make_folder(folder)
            part.write_text(key[1], encoding="utf-8")
            fsync(part)
            part.rename(folder / _NAME)
            fsync(folder)
            fsync(folder.parent)
            fsync(self._root)
        except OSError as exc:
            raise StoreFull(path=self._root, reason=exc.strerror or type(exc).__name__) from exc
        return folder

    def n_waiting(self) -> dict[Key, int]:
        """Instances that wait, by study: another number means that something came."""
        with self._lock:
            return {key: study.n_instances for key, study in self._studies.items()}

    def waiting(self, hospital_id: str, study_uid: str) -> Waiting | None:
        """What waits of a study; None when nothing does."""
        with self._lock:
            study = self._studies.get((hospital_id, study_uid))
            if study is None:
                return None
            return Waiting(study.uids, study.intake.seconds_silent() if study.intake else float("inf"))

    def find(self, hospital_id: str, uids: Collection[str]) -> dict[str, Path]:
        """Files of these instances that are durable; they may go when their study is ingested."""
        with self._lock:
            studies = [study for key, study in self._studies.items() if key[0] == hospital_id]
            return {uid: path for study in studies for uid, path in study.find(uids).items()}

    def close(self, hospital_id: str, study_uid: str) -> Closed | None:
        """Take what waits of a study for an ingest; None while an instance is under way. Nothing waiting is no file."""
        key = (hospital_id, study_uid)
        with self._lock:
            study = self._studies.get(key)
            if study is None:
                return Closed(key, (), ())
            if study.intake is not None:
                if not study.intake.is_idle:
                    return None
                study.close()
            folders = tuple(study.path / str(number) for number in study.closed)
        files = tuple((path, uid_of_file(path)) for folder in folders for path in sorted(folder.glob("*.dcm")))
        return Closed(key, folders, files)

    def forget(self, closed: Closed) -> None:
        """Remove what was ingested."""
        with self._lock:
            study = self._studies.get(closed.key)
            if study is None:
                return
            for folder in closed.folders:
                shutil.rmtree(folder, ignore_errors=True)
                study.closed.pop(int(folder.name), None)
            if study.intake is None and not study.closed:
                del self._studies[closed.key]
                shutil.rmtree(study.path, ignore_errors=True)


def sop_class_of(path: Path) -> str:
    """SOP Class UID of a received file."""
    with path.open("rb") as file:
        head = file.read(_META_BYTES)
    return value_of(head[132:], _MEDIA_STORAGE_SOP_CLASS_UID, is_implicit=False).decode("latin-1").strip(" \0")
