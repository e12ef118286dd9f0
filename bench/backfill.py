"""Backfill: an archive out of a real Orthanc into the lake, local and on S3, beside plain DCMTK of the same Orthanc.

The plain harvest is one `getscu` for each study, one study after the other; four of them at once, and `movescu`, stand
beside it. The ratios are of wall time: above 1 radlake was faster. All contestants take turns at the same Orthanc.

Counted is wall time from the first question to the last commit. What a process pays once, in an archive of years as in
this one, is told by itself: the start of workers, and the first study, with the imports of the referee and the gate.
DCMTK gets the list of studies as a present and leaves files that nobody synced, checked or de-identified. radlake asks
for the list, plans, spools and syncs each instance, de-identifies, packs, lets the referee and the gate look, commits,
and enters the ledger.

Orthanc and the store share the cores with all contestants, so their CPU time is told beside: where both cores are busy
with them, a second worker has nothing to run on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.archive import write_archive
from bench.corpus import write_large
from bench.lakes import s3_store, settings_of
from bench.measure import Done, Measured, Place, Prepare, command_cpu, compare, in_fresh_process, print_rows
from bench.receive import AE_TITLE, HOST, LIMITS, NO_DELAY, free_ports
from bench.usage import cpu_of, own_session, peak_of_session, processes_named

if TYPE_CHECKING:
    from radlake.config import Settings
    from radlake.net import Window

__all__ = ["main"]

_AE_TITLE = "ORTHANC"
_N_INSTANCES, _STUDY_INSTANCES, _N_SERIES = 8000, 200, 2
_LARGE_BYTES = 512 << 20


@dataclass(frozen=True)
class _Archive:
    """What Orthanc holds, and the S3 store when there is one."""

    studies: tuple[str, ...]
    first: Window  # the day of one of them
    n_instances: int
    dicom_port: int
    move_port: int
    orthanc: int  # process id
    s3: dict[str, str]

    @property
    def ceph(self) -> Path:
        """Folder of the S3 store."""
        return Path(self.s3["s3_access_key"].removeprefix("file:")).parent


@dataclass(frozen=True)
class _Way:
    """How radlake harvests: where to, with which workers, and how many associations the node's administrator allows."""

    where: str
    dask: str
    n_workers: int
    n_associations: int

    def __str__(self) -> str:
        name = "Dask" if self.dask else "pool"
        return f"{name} {self.n_workers}, {self.where}, {self.n_associations} assoc."

    @property
    def with_one_worker(self) -> str:
        return str(_Way(self.where, self.dask, 1, self.n_associations))


def main(place: Place, *, scale: float) -> None:
    """8,000 instances of 0.5 MB in 40 studies at scale 1, some 16 GB on disk."""
    from radlake.synth.orthanc import find_orthanc

    program = find_orthanc()
    if program is None:
        print("skipped: Orthanc is not installed")
        return
    _print_start(place)
    with _orthanc(program, place, n_instances=max(_STUDY_INSTANCES, round(_N_INSTANCES * scale))) as archive:
        _print(archive, place=place)
    with _orthanc(program, place, n_instances=2 * _STUDY_INSTANCES, large_bytes=round(_LARGE_BYTES * scale)) as archive:
        _print_memory(archive, place=place)


@contextmanager
def _orthanc(program: str, place: Place, *, n_instances: int, large_bytes: int = 0) -> Iterator[_Archive]:
    from radlake.synth.orthanc import load_orthanc, running_orthanc

    files, folder = place.folder / "files", place.folder / "orthanc"
    in_fresh_process(
        partial(write_archive, files, n_instances=n_instances, study_instances=_STUDY_INSTANCES, n_series=_N_SERIES)
    )
    dicom_port, http_port, move_port = free_ports(3)
    settings = {
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomModalities": {"radlake": [AE_TITLE, HOST, move_port]},
    }
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        url = stack.enter_context(
            running_orthanc(
                program,
                folder,
                ae_title=_AE_TITLE,
                dicom_port=dicom_port,
                http_port=http_port,
                our_ae_title=AE_TITLE,
                settings=settings,
            )
        )
        n_loaded = load_orthanc(url, sorted(files.rglob("*.dcm")))
        studies = sorted(path.name for path in files.iterdir())
        first = _day_of(next((files / studies[0]).iterdir()))
        if large_bytes:
            in_fresh_process(partial(write_large, next(files.rglob("*.dcm")), files / "large", n_bytes=large_bytes))
            n_loaded = load_orthanc(url, [files / "large"])
        shutil.rmtree(files)
        (pid,) = processes_named(str(folder / "orthanc.json"))
        s3 = stack.enter_context(s3_store())
        yield _Archive(tuple(studies), first, n_loaded, dicom_port, move_port, pid, s3)


def _day_of(file: Path) -> Window:
    from pydicom import dcmread

    from radlake.net import Window

    day = date.fromisoformat(dcmread(file, stop_before_pixels=True).StudyDate)
    return Window(day, day)


def _print_start(place: Place) -> None:
    """What it costs to have workers at all."""
    rows = [["start of 2 workers", "seconds to the first answer", "MB of a worker", "MB of this process"]]
    for name, dask in (("process pool", ""), ("LocalCluster", "local")):
        runs = [in_fresh_process(_started, place.folder / f"start-{name}-{n}", dask) for n in range(place.repetitions)]
        rows.append([name, *(f"{median(values):,.1f}" for values in zip(*runs, strict=True))])
    print_rows(rows, title="Two workers on this machine")


def _started(folder: Path, dask: str) -> tuple[float, float, float]:
    from radlake.ingest.workers import workers

    settings = settings_of(folder, workers=2, dask=dask, s3={})
    begin = time.perf_counter()
    with workers(settings) as pool:
        asked = [pool.submit(_worker_bytes) for _ in range(4)]
        worker = max(future.result() for future in asked)
        seconds = time.perf_counter() - begin
        own = _resident()
    return seconds, worker / 1e6, own / 1e6


def _worker_bytes() -> int:
    from radlake.ingest import study  # what a worker imports for its first study

    assert study
    time.sleep(0.2)  # so that the other worker gets one too
    return _resident()


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _print(archive: _Archive, *, place: Place) -> None:
    contestants: dict[str, Prepare] = {}
    for tool, n_processes in (("getscu", 1), ("getscu", 4), ("movescu", 1)):
        if shutil.which(tool):
            contestants[f"{tool}, {n_processes} at once"] = partial(_dcmtk, archive, tool, n_processes)
        else:
            print(f"skipped: {tool} is not installed")
    peers = list(contestants)
    ways = [_Way("disk", "", 2, 1), _Way("disk", "local", 2, 1)]
    for where in ("disk", "S3") if archive.s3 else ("disk",):
        ways += [_Way(where, dask, n, 4) for dask in ("", "local") for n in (1, 2)]
    contestants |= {str(way): partial(_radlake, archive, way) for way in ways}
    measured = compare(contestants, place=place)
    one_worker = {str(way): way.with_one_worker for way in ways}
    _print_rates(measured, peers=peers, one_worker=one_worker, n_studies=len(archive.studies))


def _print_rates(
    measured: dict[str, Measured], *, peers: list[str], one_worker: dict[str, str], n_studies: int
) -> None:
    heads = [
        "inst/s",
        "inst/CPU s",
        "CPU s",
        "of Orthanc",
        "of Ceph",
        "MB own",
        "MB worker",
        "first study s",
        "x 1 worker",
    ]
    rows = [["", *heads, *(f"rate x {peer}" for peer in peers)]]
    for name, run in measured.items():
        one = measured.get(one_worker.get(name, ""))
        rows.append(
            [
                name,
                f"{run.n / run.seconds:,.0f}",
                f"{run.n / run.cpu:,.0f}",
                f"{run.cpu:.1f}",
                f"{run.more['orthanc']:.1f}",
                f"{run.more['ceph']:.1f}",
                f"{run.more['own_peak'] / 1e6:,.0f}",
                f"{run.more['worker_peak'] / 1e6:,.0f}",
                f"{run.more.get('first', 0.0):.1f}",
                f"{one.seconds / run.seconds:.2f}" if one else "",
                *(f"{measured[peer].seconds / run.seconds:.2f}" for peer in peers),
            ]
        )
    n = next(iter(measured.values())).n
    print_rows(rows, title=f"{n:,} CT instances of {n_studies} studies from one Orthanc")


def _print_memory(archive: _Archive, *, place: Place) -> None:
    """The same with one instance that is a thousand times as large as the others."""
    ways = [_Way("disk", dask, 2, 4) for dask in ("", "local")]
    measured = compare({str(way): partial(_radlake, archive, way) for way in ways}, place=place)
    rows = [["", "MB own", "MB worker"]]
    for name, run in measured.items():
        rows.append([name, *(f"{run.more[what] / 1e6:,.0f}" for what in ("own_peak", "worker_peak"))])
    print_rows(rows, title=f"{archive.n_instances:,} instances, one of them large: peak memory")


def _radlake(archive: _Archive, way: _Way, out: Path) -> Callable[[], Done]:
    from radlake.backfill import backfill_hospital
    from radlake.ingest.workers import workers
    from radlake.net import Window

    own_session()
    hospitals = out / "hospitals.yaml"
    hospitals.write_text(_HOSPITAL.format(port=archive.dicom_port, associations=way.n_associations))
    s3 = archive.s3 if way.where == "S3" else {}
    first, settings = (
        settings_of(out / name, workers=way.n_workers, dask=way.dask, hospitals=hospitals, s3=s3)
        for name in (f"{out.name}-first", out.name)
    )
    opened = workers(settings)
    pool = opened.__enter__()
    for future in [pool.submit(_worker_bytes) for _ in range(2 * way.n_workers)]:
        future.result()
    begin, started = time.perf_counter(), peak_of_session()
    backfill_hospital(first, "h1", archive.first, executor=pool)
    first_seconds = time.perf_counter() - begin

    def run() -> Done:
        begin, before, others = time.perf_counter(), peak_of_session(), _servers(archive)
        done = backfill_hospital(settings, "h1", Window(date(2024, 1, 1), date(2025, 12, 31)), executor=pool)
        seconds, used = time.perf_counter() - begin, peak_of_session()
        more = {name: value - others[name] for name, value in _servers(archive).items()}
        opened.__exit__(None, None, None)
        n = _n_catalogued(settings)
        assert done["n_studies"] == len(archive.studies), done
        if way.where == "S3":
            _empty((first, settings), archive)
        peaks = {
            "own_peak": used.own_peak,
            "worker_peak": max(peak for pid, peak in used.other_peaks.items() if pid in started.other_peaks),
            "first": first_seconds,
        }
        return Done(n, seconds=seconds, cpu=used.cpu - before.cpu, more=more | peaks)

    return run


_HOSPITAL = """\
hospitals:
  - hospital_id: h1
    name_zh: 样例
    name_en: Sample
    region_code: "320100"
    node:
      kind: dimse
      ae_title: ORTHANC
      host: 127.0.0.1
      port: {port}
      max_associations: {associations}
      courtesy: {{slow_factor: 1000}}  # what slows it down here are the other programs of this machine
"""


def _servers(archive: _Archive) -> dict[str, float]:
    """Seconds of CPU that the servers used so far."""
    ceph = [int(file.read_text()) for file in (archive.ceph / "run").glob("*.pid")] if archive.s3 else []
    return {"orthanc": cpu_of([archive.orthanc]), "ceph": cpu_of(ceph)}


def _n_catalogued(settings: Settings) -> int:
    from radlake.lake import Lake, duck

    with duck.connect(Lake.from_settings(settings)) as connection:
        (row,) = connection.execute("SELECT count(*) FROM dicom.instance").fetchall()
    return int(row[0])


def _empty(lakes: Iterable[Settings], archive: _Archive) -> None:
    """Give the store its room back."""
    from radlake.lake import Lake

    for settings in lakes:
        options = Lake.from_settings(settings).storage_options
        assert options is not None
        options.filesystem().rm(settings.lake.removeprefix("s3://"), recursive=True)
    collect = ["radosgw-admin", "gc", "process", "--include-all"]
    environment = os.environ | {"CEPH_CONF": f"{archive.ceph}/ceph.conf"}
    subprocess.run(collect, env=environment, check=True, capture_output=True)


def _dcmtk(archive: _Archive, tool: str, n_processes: int, out: Path) -> Callable[[], Done]:
    command = [tool, "-S", "-aet", AE_TITLE, "-aec", _AE_TITLE, "--bit-preserving", *LIMITS]
    if tool == "movescu":
        command += ["-aem", AE_TITLE, "--port", str(archive.move_port)]

    def fetch(uid: str) -> None:
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid}"]
        command_cpu(*command, *keys, HOST, str(archive.dicom_port), folder=out, environment=os.environ | NO_DELAY)

    def run() -> Done:
        from bench.measure import peak_bytes

        others = _servers(archive)
        with ThreadPoolExecutor(n_processes) as threads:
            list(threads.map(fetch, archive.studies))
        more = {name: value - others[name] for name, value in _servers(archive).items()}
        peaks = {"own_peak": 0.0, "worker_peak": peak_bytes()}
        return Done(sum(1 for _ in out.iterdir()), more=more | peaks)

    return run
