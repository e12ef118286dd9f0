"""Open: a CT series of 300 slices as a viewer's server does, until its first frame and until its last are decoded.

From our own store, on disk and on Ceph RGW, and of a hospital that keeps its pixels: cold, when radlake has to fetch
it from a real Orthanc, de-identify it and prove it, and warm, from the cache. Beside them Orthanc's REST and DCMTK's
getscu give the identified series as it is. What counts is wall time: somebody waits. Every way decodes with pydicom in
this process, and before each opening the system forgets what it keeps of all files in memory.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from bench.archive import write_archive
from bench.lakes import s3_store, settings_of
from bench.measure import Place, in_fresh_process, print_rows
from bench.receive import AE_TITLE, HOST, LIMITS, NO_DELAY, free_ports

__all__ = ["main", "rank"]

_AE_TITLE = "ORTHANC"
_SLICES, _SERIES = 300, 2
_PATIENCE = 3.0  # seconds in which an exam shall be open
_REST = "Orthanc REST"

Open = Callable[[str], Iterator[Any]]  # from the UID of a series at the hospital to its frames, the first one first


@dataclass
class _Way:
    """A way to open a series, and how long each opening took."""

    open: Open
    before: Callable[[str], None] = lambda _: None
    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    pixels: dict[str, str] = field(default_factory=dict)

    def measure(self, series_uid: str, *, counts: bool) -> None:
        self.before(series_uid)
        begin = time.perf_counter()
        frames = self.open(series_uid)
        got = [next(frames)]
        first = time.perf_counter() - begin
        got += frames
        if counts:
            self.first.append(first)
            self.whole.append(time.perf_counter() - begin)
        self.pixels[series_uid] = _digest(got)


def main(place: Place, *, scale: float, with_rgw: bool = False) -> None:
    """20 openings of each way at scale 1; their size is always the same."""
    from radlake.synth.orthanc import find_orthanc, load_orthanc, running_orthanc

    program = find_orthanc()
    if program is None:
        print("skipped: Orthanc is not installed")
        return
    folder = place.folder / "archive"
    in_fresh_process(partial(write_archive, folder, n_instances=_SERIES * _SLICES, study_instances=_SLICES))
    dicom_port, http_port = free_ports(2)
    with ExitStack() as stack:
        s3 = stack.enter_context(s3_store()) if with_rgw else {}
        url = stack.enter_context(
            running_orthanc(
                program,
                place.folder / "orthanc",
                ae_title=_AE_TITLE,
                dicom_port=dicom_port,
                http_port=http_port,
                our_ae_title=AE_TITLE,
                settings={"DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True},
            )
        )
        load_orthanc(url, sorted(folder.rglob("*.dcm")))
        series = _series_of(folder)
        ways = {"our store, disk": _ours(place.folder / "disk", dicom_port, policy="central", s3={})}
        if s3:
            ways["our store, Ceph RGW"] = _ours(place.folder / "rgw", dicom_port, policy="central", s3=s3)
        ways["hospital, cold"] = _ours(place.folder / "index", dicom_port, policy="index", s3={})
        ways["hospital, warm"] = _Way(ways["hospital, cold"].open)
        ways[_REST] = stack.enter_context(_Rest(url))
        if shutil.which("getscu"):
            ways["getscu"] = _Way(partial(_getscu, dicom_port, series))
        else:
            print("skipped: getscu is not installed")
        os.sync()
        n_opened = max(3, round(20 * scale))
        for number in range(1 + n_opened):  # the first one imports and connects
            for way in ways.values():
                _forget_pages(place.folder)
                way.measure(list(series)[number % _SERIES], counts=number > 0)
    if len({tuple(sorted(way.pixels.items())) for way in ways.values()}) > 1:
        raise RuntimeError(f"they opened different pixels: { {name: way.pixels for name, way in ways.items()} }")
    _print(ways, n_opened=n_opened)


def _print(ways: dict[str, _Way], *, n_opened: int) -> None:
    peers = [name for name in (_REST, "getscu") if name in ways]
    for what in ("first", "whole"):
        rows = [["", "p50 s", "p95 s", f"within {_PATIENCE:g} s", *(f"p50 x {peer}" for peer in peers)]]
        for name, way in ways.items():
            times: list[float] = getattr(way, what)
            rows.append(
                [
                    name,
                    *(f"{rank(times, share):.2f}" for share in (0.5, 0.95)),
                    f"{sum(one <= _PATIENCE for one in times) / len(times):.0%}",
                    *(f"{rank(times, 0.5) / rank(getattr(ways[peer], what), 0.5):.2f}" for peer in peers),
                ]
            )
        title = {"first": "Until the first frame", "whole": "Until the last frame"}[what]
        print_rows(
            rows, title=f"{title} of {_SLICES} CT slices is decoded, {n_opened} openings; all saw the same pixels"
        )


def rank(times: list[float], share: float) -> float:
    """The nearest-rank percentile."""
    return sorted(times)[math.ceil(share * len(times)) - 1]


def _series_of(folder: Path) -> dict[str, tuple[str, str]]:
    """Study UID and SOP Instance UID of the first slice of each series."""
    from pydicom import dcmread

    heads = (dcmread(path, stop_before_pixels=True) for path in sorted(folder.glob("*/0000.dcm")))
    return {ds.SeriesInstanceUID: (ds.StudyInstanceUID, ds.SOPInstanceUID) for ds in heads}


def _ours(folder: Path, dicom_port: int, *, policy: str, s3: dict[str, str]) -> _Way:
    """Harvest what Orthanc has into a lake, and open from it."""
    from radlake.ingest import harvest_hospital
    from radlake.lake import Lake
    from radlake.net import Window, load_hospitals
    from radlake.residency import SeriesReader, objects_of
    from radlake.vault.lake_key import lake_keys

    settings = settings_of(folder, s3=s3, workers=0)
    names = f"hospital_id: h1, name_zh: 样例, name_en: Sample, storage_policy: {policy}"
    node = f"{{kind: dimse, name: h1, ae_title: {_AE_TITLE}, host: {HOST}, port: {dicom_port}}}"
    settings.hospitals.parent.mkdir(parents=True, exist_ok=True)
    settings.hospitals.write_text(f"hospitals:\n  - {{{names}, node: {node}}}\n")
    hospital = load_hospitals(settings.hospitals)["h1"]
    summary = harvest_hospital(settings, hospital, window=Window(date(1990, 1, 1), date(2100, 1, 1)))
    assert summary.studies_complete == _SERIES, summary
    lake, uid_of = Lake.from_settings(settings), lake_keys(settings).uid
    reader = SeriesReader(settings, timeout=600)

    def forget(series_uid: str) -> None:
        for item in objects_of(lake, uids=[uid_of(series_uid)], residency="index"):
            lake.cache.drop(item.path)

    return _Way(lambda series_uid: _frames(lake, reader, uid_of(series_uid)), before=forget)


def _frames(lake: Any, reader: Any, series_uid: str) -> Iterator[Any]:
    """The first slice by itself, the others in one read of each object."""
    from radlake.lake import duck

    query = """
        SELECT object_path, object_offset, instance_bytes
        FROM dicom.instance
        WHERE series_instance_uid = $series
        ORDER BY instance_number
    """
    with duck.connect(lake) as connection:
        places = connection.execute(query, {"series": series_uid}).fetchall()
    yield _decoded(reader.read(*places[0]))
    for path in dict.fromkeys(path for path, _, _ in places):
        here = [(offset, length) for one, offset, length in places[1:] if one == path]
        begin, end = min(here)[0], sum(max(here))
        content = memoryview(reader.read(path, begin, end - begin))
        for offset, length in here:
            yield _decoded(content[offset - begin : offset - begin + length])


class _Rest:
    """Orthanc's REST interface, four files at a time."""

    def __init__(self, url: str) -> None:
        import httpx

        self._client = httpx.Client(base_url=url, timeout=60)
        self._threads = ThreadPoolExecutor(4)

    def frames(self, series_uid: str) -> Iterator[Any]:
        (found,) = self._client.post("/tools/lookup", content=series_uid).json()
        instances = self._client.get(f"/series/{found['ID']}/instances").json()
        names = [one["ID"] for one in sorted(instances, key=lambda one: one["IndexInSeries"])]
        yield _decoded(self._file(names[0]))
        yield from map(_decoded, self._threads.map(self._file, names[1:]))

    def _file(self, name: str) -> bytes:
        return self._client.get(f"/instances/{name}/file").content

    def __enter__(self) -> _Way:
        return _Way(self.frames)

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()
        self._client.close()


def _getscu(dicom_port: int, series: dict[str, tuple[str, str]], series_uid: str) -> Iterator[Any]:
    """DCMTK, which is told the UIDs: the first slice by itself, then the series."""
    study_uid, first_uid = series[series_uid]
    keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
    with tempfile.TemporaryDirectory() as folder:
        (first,) = _got(Path(folder) / "first", dicom_port, "IMAGE", keys | {"SOPInstanceUID": first_uid})
        yield _decoded(first.read_bytes())
        for path in _got(Path(folder) / "all", dicom_port, "SERIES", keys):
            if first.name != path.name:
                yield _decoded(path.read_bytes())


def _got(folder: Path, dicom_port: int, level: str, keys: dict[str, str]) -> list[Path]:
    folder.mkdir()
    words = [f"QueryRetrieveLevel={level}", *(f"{name}={value}" for name, value in keys.items())]
    command = ["getscu", "-S", "-aet", AE_TITLE, "-aec", _AE_TITLE, "--bit-preserving", *LIMITS]
    command += [*(part for word in words for part in ("-k", word)), HOST, str(dicom_port)]
    subprocess.run(command, cwd=folder, env=os.environ | NO_DELAY, check=True, capture_output=True)
    return sorted(folder.iterdir())


def _decoded(content: bytes | memoryview) -> Any:
    from pydicom import dcmread

    return dcmread(BytesIO(content)).pixel_array


def _digest(frames: list[Any]) -> str:
    from xxhash import xxh3_128_hexdigest

    words = sorted(xxh3_128_hexdigest(one.tobytes()) for one in frames)
    return f"{len(words)} {xxh3_128_hexdigest(' '.join(words).encode())}"


def _forget_pages(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)
