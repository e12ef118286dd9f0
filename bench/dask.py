"""Dask: an archive out of a real Orthanc into the lake, on one and two workers, local and on S3, beside plain DCMTK.

Counted is wall time from the first question to the last commit: the workers have started before, and their start is
told by itself. DCMTK gets the list of studies as a present and leaves files that nobody synced, checked or
de-identified; radlake lists, spools, de-identifies, packs, gates, commits and enters the ledger.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from bench.archive import write_archive
from bench.lakes import s3_store, settings_of
from bench.measure import Done, Place, Prepare, command_cpu, compare, in_fresh_process, peak_bytes, print_rows
from bench.receive import AE_TITLE, HOST, LIMITS, NO_DELAY, free_ports

__all__ = ["main"]

_AE_TITLE = "ORTHANC"
_STUDY_INSTANCES = 20


@dataclass(frozen=True)
class _Archive:
    """What Orthanc holds, and the S3 store when there is one."""

    folder: Path
    dicom_port: int
    move_port: int
    s3: dict[str, str]

    @property
    def studies(self) -> list[str]:
        return sorted(folder.name for folder in self.folder.iterdir())


def main(place: Place, *, scale: float) -> None:
    """160 instances of 0.5 MB in 8 studies at scale 1."""
    from radlake.synth.orthanc import find_orthanc, load_orthanc, running_orthanc

    program = find_orthanc()
    if program is None:
        print("skipped: Orthanc is not installed")
        return
    n_instances = max(_STUDY_INSTANCES, round(160 * scale))
    folder = place.folder / "archive"
    in_fresh_process(partial(write_archive, folder, n_instances=n_instances, study_instances=_STUDY_INSTANCES))
    dicom_port, http_port, move_port = free_ports(3)
    settings = {
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomModalities": {"radlake": [AE_TITLE, HOST, move_port]},
    }
    with ExitStack() as stack:
        s3 = stack.enter_context(s3_store())
        url = stack.enter_context(
            running_orthanc(
                program,
                place.folder / "orthanc",
                ae_title=_AE_TITLE,
                dicom_port=dicom_port,
                http_port=http_port,
                our_ae_title=AE_TITLE,
                settings=settings,
            )
        )
        archive = _Archive(folder, dicom_port, move_port, s3)
        load_orthanc(url, sorted(folder.rglob("*.dcm")))
        _print_start(place)
        _print(archive, place=place)


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
    for tool in ("getscu", "movescu"):
        if shutil.which(tool):
            contestants[tool] = partial(_dcmtk, archive, tool)
        else:
            print(f"skipped: {tool} is not installed")
    for where in ("disk", "S3") if archive.s3 else ("disk",):
        for n in (1, 2):
            contestants[f"pool {n}, {where}"] = partial(_radlake, archive, where, "", n)
            contestants[f"Dask {n}, {where}"] = partial(_radlake, archive, where, "local", n)
    measured = compare(contestants, place=place)
    peers = [name for name in ("getscu", "movescu") if name in measured]
    rows = [["", "instances/s", "seconds", "CPU s", "peak MB", "x 1 worker", *(f"rate x {peer}" for peer in peers)]]
    for name, run in measured.items():
        one = measured.get(name.replace(" 2,", " 1,"), run)
        rows.append(
            [
                name,
                f"{run.n / run.seconds:,.1f}",
                f"{run.seconds:.2f}",
                f"{run.cpu:.1f}",
                f"{run.peak_bytes / 1e6:,.0f}",
                f"{one.seconds / run.seconds:.2f}",
                *(f"{measured[peer].seconds / run.seconds:.2f}" for peer in peers),
            ]
        )
    n = next(iter(measured.values())).n
    print_rows(
        rows, title=f"{n} CT instances of {len(archive.studies)} studies from one Orthanc by C-GET (movescu: C-MOVE)"
    )


def _radlake(archive: _Archive, where: str, dask: str, n_workers: int, out: Path) -> Callable[[], Done]:
    from datetime import date

    from radlake.ingest import harvest_hospital
    from radlake.ingest.workers import workers
    from radlake.net import DimseNode, Hospital, Window

    settings = settings_of(out, workers=n_workers, dask=dask, s3=archive.s3 if where == "S3" else {})
    node = DimseNode(name="h1", ae_title=_AE_TITLE, host=HOST, port=archive.dicom_port)
    hospital = Hospital(hospital_id="h1", name_zh="样例", name_en="Sample", region_code="320100", node=node)
    opened = workers(settings)
    pool = opened.__enter__()
    for future in [pool.submit(_worker_bytes) for _ in range(2 * n_workers)]:
        future.result()

    def run() -> Done:
        begin = time.perf_counter()
        window = Window(date(1990, 1, 1), date(2100, 1, 1))
        summary = harvest_hospital(settings, hospital, window=window, executor=pool)
        seconds = time.perf_counter() - begin
        opened.__exit__(None, None, None)  # the memory of the workers is known when they have ended
        assert summary.studies_complete == len(archive.studies), summary
        return Done(summary.instances_stored, seconds=seconds, peak_bytes=peak_bytes())

    return run


def _dcmtk(archive: _Archive, tool: str, out: Path) -> Callable[[], Done]:
    command = [tool, "-S", "-aet", AE_TITLE, "-aec", _AE_TITLE, "--bit-preserving", *LIMITS]
    if tool == "movescu":
        command += ["-aem", AE_TITLE, "--port", str(archive.move_port)]

    def run() -> Done:
        for uid in archive.studies:
            keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid}"]
            command_cpu(*command, *keys, HOST, str(archive.dicom_port), folder=out, environment=os.environ | NO_DELAY)
        return Done(sum(1 for _ in out.iterdir()))

    return run
