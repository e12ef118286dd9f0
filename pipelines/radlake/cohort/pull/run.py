"""Pull a release into a folder: many range reads at once, everything verified, what is here is not fetched again.

A series that cannot be had fails alone; a full disk or a store that does not answer ends the run. Either way the same
command goes on: what has its name is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import BoundedSemaphore, Lock

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from radlake.cohort.pull.chunks import Chunk, Verifier, read_chunk
from radlake.cohort.pull.layouts import LAYOUTS, PARTS, Job, Layout
from radlake.cohort.pull.manifest import Manifest, manifest_text
from radlake.cohort.pull.nifti import require_converter
from radlake.cohort.pull.released import Damaged, Release
from radlake.cohort.pull.strays import strays
from radlake.cohort.pull.targets import Target, place_whole
from radlake.commit_points import reached
from radlake.errors import ConfigInvalid, PermanentError, StoreFull, TransientError
from radlake.lake.store import LocalStore, make_folder, storage_errors
from radlake.machine import syncfs

__all__ = ["RETRY", "Count", "FolderBusy", "Pulled", "Step", "pull"]

RETRY = "retry.manifest"
_DOCUMENT = "release.json"
_SPARE = 64 << 20  # bytes of a disk that are left alone


class FolderBusy(TransientError):
    sentence = "Another pull into {folder} is running. Wait for it or stop it."


@dataclass(frozen=True)
class Step:
    """How far a pull is, with what was there before."""

    n_series: int
    n_series_total: int
    n_bytes: int
    n_bytes_total: int


@dataclass
class Count:
    n_series: int = 0
    n_bytes: int = 0


@dataclass
class Pulled:
    """What a pull came to.

    Attributes
    ----------
    skipped : Count
        Was there already.
    failed : dict of str to str
        Why, by Series Instance UID.
    ended_by : TransientError, optional
        What ended the run before everything was tried.
    n_left : int
        Series that are not here, tried or not.
    strays : list of Path
        What lies in the folder and is not in the release.
    """

    downloaded: Count = field(default_factory=Count)
    skipped: Count = field(default_factory=Count)
    failed: dict[str, str] = field(default_factory=dict)
    ended_by: TransientError | None = None
    n_left: int = 0
    strays: list[Path] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return not self.n_left


def pull(
    release: Release,
    folder: Path,
    *,
    manifest: Manifest,
    layout: str = "dicom",
    workers: int = 0,
    with_csv: bool = False,
    by_digest: bool = False,
    progress: Callable[[Step], None] = lambda _: None,
) -> Pulled:
    """Bring what a manifest wants of a release into a folder.

    Parameters
    ----------
    layout : str
        A name of `LAYOUTS`.
    workers : int
        Range reads at once; 0 means eight, and from a folder no more than there are processors.
    with_csv : bool
        Tables as CSV too (UTF-8 with BOM).
    by_digest : bool
        Read again what is there, and fetch anew what is not what it should be; else names and sizes are looked at.

    Raises
    ------
    ConfigInvalid
        If the folder holds another release, a wanted series is not in this one, or the converter is not installed.
    StoreFull
        If the disk has not the room; nothing was fetched then.
    FolderBusy
    """
    make = LAYOUTS[layout]
    if layout == "nifti":
        require_converter()
    with storage_errors(str(folder)), _locked(folder) as handle:
        _refuse_other(release, folder)
        _pull_tables(release, folder, with_csv=with_csv)
        if make is None:
            return Pulled()
        run = _Run(release, make(folder, release.contact), manifest, by_digest=by_digest, progress=progress)
        todo = run.sift()
        _require_room(folder, run.n_bytes_to_come)
        try:
            run.fetch(todo, workers=workers or _workers(release), handle=handle)
            syncfs(handle)  # of the names
        finally:
            run.pulled.n_left = _write_retry(folder, run.retry())
        run.pulled.strays = strays(folder, release.series_uids, made=run.finals)
        if run.pulled.is_complete:
            shutil.rmtree(folder / PARTS, ignore_errors=True)
        return run.pulled


@dataclass
class _UnderWay:
    """A job that is being pulled, its chunks in several threads."""

    job: Job
    target: Target
    n_left: int


class _Run:
    """One pull; its methods but `sift` and `fetch` are called by several threads."""

    def __init__(
        self,
        release: Release,
        layout: Layout,
        manifest: Manifest,
        *,
        by_digest: bool,
        progress: Callable[[Step], None],
    ) -> None:
        self._release, self._layout, self._manifest = release, layout, manifest
        self._by_digest, self._progress = by_digest, progress
        asked = set(manifest.series)
        rows = [row for row in release.series_rows if not asked or row["series_instance_uid"] in asked]
        self._left = Counter(row["series_instance_uid"] for row in rows)  # objects that are not settled
        self._step = Step(0, len(rows), 0, sum(row["object_bytes"] for row in rows))
        self._finished = deque[_UnderWay]()  # and not named
        self._failed = set[Path]()
        self.finals = set[Path]()
        self._lock = Lock()
        self._crash: BaseException | None = None
        self.pulled = Pulled()

    @property
    def n_bytes_to_come(self) -> int:
        return self._step.n_bytes_total - self._step.n_bytes

    @property
    def is_over(self) -> bool:
        return self._crash is not None or self.pulled.ended_by is not None

    def sift(self) -> set[Path]:
        """Names of what is not here yet."""
        todo = set()
        for job in self._jobs():
            self.finals.add(job.final)
            if self._layout.is_here(job, by_digest=self._by_digest):
                self._advance(job.n_bytes)
                self._settle(job, self.pulled.skipped)
            else:
                todo.add(job.final)
        return todo

    def fetch(self, todo: set[Path], *, workers: int, handle: int) -> None:
        """Fetch everything that is to do, or as much of it as disk and store allow.

        Parameters
        ----------
        handle : int
            Of the file system that it goes to; open before anything is written.
        """
        room = BoundedSemaphore(2 * workers)
        with (
            ThreadPoolExecutor(1, thread_name_prefix="name") as namer,
            ThreadPoolExecutor(workers, thread_name_prefix="pull") as pool,
        ):

            def name() -> None:
                namer.submit(self._name_finished, handle)

            try:
                for job in self._jobs():
                    if self.is_over:
                        break
                    if job.final in todo:
                        self._begin(job, pool, room, name)
            except BaseException as exc:
                self._crash = exc  # threads end after their chunk
                raise
        if self._crash is not None:
            raise self._crash

    def retry(self) -> Manifest:
        """What is still wanted."""
        return replace(self._manifest, series=tuple(sorted(+self._left)))

    def _jobs(self) -> Iterator[Job]:
        return self._layout.jobs(self._release.series(self._manifest.series))

    def _begin(self, job: Job, pool: Executor, room: BoundedSemaphore, name: Callable[[], None]) -> None:
        under_way = None
        with self._failing(job):
            target = self._layout.begin(job)
            chunks: list[Chunk | None] = [*target.missing()]
            self._advance(job.n_bytes - sum(chunk.end - chunk.start for chunk in chunks if chunk))
            under_way = _UnderWay(job, target, max(1, len(chunks)))
        for chunk in (chunks or [None]) if under_way else []:
            room.acquire()
            pool.submit(self._work, under_way, chunk, name).add_done_callback(lambda _: room.release())

    def _work(self, under_way: _UnderWay, chunk: Chunk | None, name: Callable[[], None]) -> None:
        """Receive a chunk, and finish what is whole by it."""
        try:
            job = under_way.job
            if chunk is not None and job.final not in self._failed and not self.is_over:
                with self._failing(job):
                    self._receive(under_way.target, chunk)
                    reached("pull.received")
                    self._advance(chunk.end - chunk.start)
            with self._lock:
                under_way.n_left -= 1
                is_whole = not (under_way.n_left or job.final in self._failed or self.is_over)
            if is_whole:
                with self._failing(job):
                    under_way.target.finish()
                    self._finished.append(under_way)
                    name()
            elif not under_way.n_left:
                under_way.target.close()
        except BaseException as exc:
            self._crash = self._crash or exc

    def _name_finished(self, handle: int) -> None:
        """Make all that is finished durable at once, and name it; meanwhile more is being finished."""
        try:
            if group := [self._finished.popleft() for _ in range(len(self._finished))]:
                with self._failing(*(under_way.job for under_way in group)):
                    syncfs(handle)
                    for under_way in group:
                        with self._failing(under_way.job):
                            under_way.target.name()
                            reached("pull.named")
                            self._settle(under_way.job, self.pulled.downloaded)
        except BaseException as exc:
            self._crash = self._crash or exc

    def _receive(self, target: Target, chunk: Chunk) -> None:
        """Read a chunk and look at its digests; of a damaged one the store is asked once more."""
        for is_last in (False, True):
            verifier = Verifier(chunk)
            with target.receiving(chunk) as receive:
                for at, piece in read_chunk(self._release.store, chunk):
                    verifier.take(at, piece)
                    receive(at, piece)
            try:
                return verifier.check(contact=self._release.contact)
            except Damaged:
                if is_last:
                    raise
        return None

    @contextmanager
    def _failing(self, *jobs: Job) -> Iterator[None]:
        """Of a series that cannot be had the others know nothing; a store or a disk that cannot go on ends the run."""
        try:
            with storage_errors(str(self._layout.folder)):
                yield
        except TransientError as exc:
            with self._lock:
                self.pulled.ended_by = self.pulled.ended_by or exc
        except PermanentError as exc:
            with self._lock:
                for job in jobs:
                    self._failed.add(job.final)
                    self.pulled.failed |= {series.series_uid: str(exc) for series in job.objects}

    def _settle(self, job: Job, count: Count) -> None:
        with self._lock:
            count.n_series += len(job.objects)
            count.n_bytes += job.n_bytes
            self._left.subtract(series.series_uid for series in job.objects)
            self._step = replace(self._step, n_series=self._step.n_series + len(job.objects))
            self._progress(self._step)

    def _advance(self, n_bytes: int) -> None:
        with self._lock:
            self._step = replace(self._step, n_bytes=self._step.n_bytes + n_bytes)
            self._progress(self._step)


def _workers(release: Release) -> int:
    return min(8, os.cpu_count() or 8) if isinstance(release.store, LocalStore) else 8


def _pull_tables(release: Release, folder: Path, *, with_csv: bool) -> None:
    for name, told in sorted(release.document["tables"].items()):
        path = folder / "tables" / f"{name}.parquet"
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != told["sha256"]:
            place_whole(path, release.table_bytes(name))
        if with_csv:
            text = pa.BufferOutputStream()
            pa_csv.write_csv(pq.read_table(path), text)
            place_whole(path.with_suffix(".csv"), b"\xef\xbb\xbf" + text.getvalue().to_pybytes())
    for name, content in release.metadata():
        place_whole(folder / name, content)
    content = json.dumps(release.document, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    place_whole(folder / _DOCUMENT, content.encode())


def _refuse_other(release: Release, folder: Path) -> None:
    with suppress(OSError, ValueError, KeyError):
        other = json.loads((folder / _DOCUMENT).read_text(encoding="utf-8"))["release_id"]
        if other != release.release_id:
            problem = f"it holds the release {other}; name another folder for {release.release_id}"
            raise ConfigInvalid(path=folder, problems=[problem])


def _require_room(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    under_way = sum(path.stat().st_blocks * 512 for path in (folder / PARTS).rglob("*") if path.is_file())
    if n_bytes - under_way > free - _SPARE:
        reason = f"{n_bytes - under_way:,} bytes are to come, and {free:,} are free"
        raise StoreFull(path=folder, reason=reason)


def _write_retry(folder: Path, wanted: Manifest) -> int:
    """What is still wanted as a manifest; on a full disk the same command does it too. Returns how many series."""
    path = folder / RETRY
    if wanted.series:
        with suppress(OSError):
            place_whole(path, manifest_text(wanted).encode())
    else:
        path.unlink(missing_ok=True)
    return len(wanted.series)


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    make_folder(folder / PARTS)
    with (folder / ".radlake" / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise FolderBusy(folder=folder) from exc
        yield file.fileno()
