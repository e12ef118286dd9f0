"""radlake as a contestant of the ingest benchmark: one worker, the whole command, a pool of workers.

`worker` is what a worker process does for every study - read, validate, de-identify, rows, series object, digests -
and its rows as Parquet. `harvest` is `radlake harvest folder` in one process: with listing, ledger, vault, quality
gate, the referee's sample and the tables. Imports, keys, profile and a study of three instances are start-up of both,
and the text detector's model when there are radiographs.
"""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.archive import write_archive
from bench.corpus import Corpus, n_leaking
from bench.measure import Done, peak_bytes

if TYPE_CHECKING:
    from radlake.config import Settings
    from radlake.ingest.job import IngestJob

__all__ = ["harvest", "pool", "worker", "write_warm"]

_KEY = "5a" * 32
_HOSPITAL, _WARM = "bench", "warm"
_TABLES = ("dicom.instance", "dicom.series", "dicom.study")


class _Ingested(NamedTuple):
    """Instances of a study, and what the worker took for it."""

    n: int
    cpu: float
    peak_bytes: float


def worker(corpus: Corpus, out: Path, *, warm: Path, use_templates: bool = True) -> Callable[[], Done]:
    """One worker process.

    Parameters
    ----------
    warm : Path
        A folder with a small study of its own.
    use_templates : bool
        Without them each instance goes the full way, through pydicom.
    """
    import pyarrow.parquet as pq

    from radlake.contracts import load_table
    from radlake.contracts.rows import arrow_rows
    from radlake.ingest.study import ingest_study

    gc.freeze()  # as a worker process does when it begins
    settings = _settings(out, n_workers=0)
    tables = {name: load_table(name) for name in _TABLES}

    def ingested(jobs: list[IngestJob]) -> int:
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _TABLES}
        for job in jobs:
            outcome = ingest_study(job, use_templates=use_templates)
            rows["dicom.instance"] += outcome.instances
            rows["dicom.series"] += outcome.series
            rows["dicom.study"] += [outcome.study] if outcome.study else []
        for name, table in tables.items():
            pq.write_table(arrow_rows(table, rows[name]), out / f"{name}.parquet")
        return len(rows["dicom.instance"])

    ingested(_jobs(settings, warm, hospital_id=_WARM))
    shutil.rmtree(out / "lake/objects")
    looks = _clock_looks(corpus)
    jobs = _jobs(settings, corpus.folder, hospital_id=_HOSPITAL)

    def run() -> Done:
        n = ingested(jobs)
        return Done(n, look=partial(n_leaking, corpus.needles, out), part_n=len(looks), part_cpu=sum(looks))

    return run


def harvest(corpus: Corpus, out: Path, *, warm: Path) -> Callable[[], Done]:
    """The whole command, after one of three instances that sets up Great Expectations."""
    from radlake import log
    from radlake.ingest import harvest_folder
    from radlake.net import FolderNode, Hospital

    def done(source: Path, place: Path) -> int:
        hospital = Hospital(hospital_id=_HOSPITAL, name_zh="样例", name_en="Example", node=FolderNode(path=source))
        return harvest_folder(_settings(place, n_workers=0), source, hospital=hospital).instances_stored

    log.configure()
    done(warm, out / "warm")
    looks = _clock_looks(corpus)

    def run() -> Done:
        n = done(corpus.folder, out / "all")
        return Done(n, look=partial(_n_published, corpus, out / "all/lake"), part_n=len(looks), part_cpu=sum(looks))

    return run


def pool(corpus: Corpus, n_workers: int, out: Path, *, warm: Path) -> Callable[[], Done]:
    """Worker processes as a harvest starts them: CPU time and memory are those of the workers."""
    from radlake.ingest.workers import workers

    settings = _settings(out, n_workers=n_workers)
    started = ExitStack()
    executor = started.enter_context(workers(settings))
    list(executor.map(_ingested, _jobs(settings, warm, hospital_id=_WARM) * (4 * n_workers)))  # each gets some
    jobs = _jobs(settings, corpus.folder, hospital_id=_HOSPITAL)

    def run() -> Done:
        with started:
            begin = time.perf_counter()
            done = list(executor.map(_ingested, jobs))
            seconds = time.perf_counter() - begin
        return Done(
            sum(one.n for one in done),
            cpu=sum(one.cpu for one in done),
            seconds=seconds,
            peak_bytes=max(one.peak_bytes for one in done),
        )

    return run


def write_warm(folder: Path) -> None:
    """The study that every contestant of ours begins with."""
    write_archive(folder, n_instances=3)


def _ingested(job: IngestJob) -> _Ingested:
    from radlake.ingest.study import ingest_study

    begin = time.process_time()
    outcome = ingest_study(job)
    return _Ingested(len(outcome.instances), time.process_time() - begin, peak_bytes())


def _settings(out: Path, *, n_workers: int) -> Settings:
    from radlake.config import Settings

    out.mkdir(exist_ok=True)
    (out / "lake").mkdir()
    key = out / "key"
    key.write_text(_KEY, encoding="ascii")
    settings = Settings(lake=str(out / "lake"), key=f"file:{key}", workers=n_workers)
    settings.prepare_restricted()
    return settings


def _jobs(settings: Settings, folder: Path, *, hospital_id: str) -> list[IngestJob]:
    from radlake.dicom.part10 import read_header
    from radlake.ingest.job import IngestJob, SourceFile

    studies: dict[str, list[SourceFile]] = {}
    for path in sorted(folder.rglob("*.dcm")):
        header = read_header(path)
        studies.setdefault(header.study_instance_uid, []).append(SourceFile(path, "bench", header.sop_instance_uid))
    return [IngestJob(settings, hospital_id, uid, tuple(files)) for uid, files in studies.items()]


def _clock_looks(corpus: Corpus) -> Sequence[float]:
    """CPU time of each instance that is looked at from now on for text in its pixels, with the model loaded before."""
    looks: list[float] = []
    from radlake.dicom.part10 import read_instance
    from radlake.pixels import Verdict, judge

    radiographs = (corpus.folder / "dx").glob("*.dcm")
    if not any(judge(read_instance(path)).verdict is Verdict.LOOK for path in radiographs):
        return looks  # decoders and model are not needed
    import numpy as np

    from radlake.pixels import clean
    from radlake.pixels.text import find_text

    find_text(np.zeros((64, 64, 3), np.uint8))
    clean_pixels = clean.clean_pixels

    def timed(*arguments: Any, **options: Any) -> clean.Cleaned:
        begin = time.process_time()
        try:
            return clean_pixels(*arguments, **options)
        finally:
            looks.append(time.process_time() - begin)

    clean.clean_pixels = timed
    return looks


def _n_published(corpus: Corpus, lake: Path) -> str:
    """Of the published zone only: quarantine holds originals, which is what it is for."""
    shutil.rmtree(lake / "restricted")
    return n_leaking(corpus.needles, lake)
