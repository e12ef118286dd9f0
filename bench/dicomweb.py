"""DICOMweb: searches, series, headers and first frames of `radlake serve` beside Orthanc's DICOMweb plugin.

Both hold the same CT series of 300 slices. The catalogue of the lake is filled up with rows of 200,000 studies, that of
Orthanc with small real studies, as many as are loaded in a few minutes: it searches among fewer. Each server is a
process of its own, asked by one client over one kept connection; its CPU is what its process used meanwhile.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.archive import write_archive
from bench.measure import Place, in_fresh_process, print_rows
from bench.open import rank
from bench.receive import AE_TITLE, free_ports
from bench.usage import cpu_of, resident_of
from bench.web_servers import dashboard

if TYPE_CHECKING:
    import httpx

__all__ = ["main"]

_SLICES, _SERIES = 300, 2
_CATALOGUE, _PEER_CATALOGUE = 200_000, 4_000
_FIRST_FRAME_SECONDS = 1.0
_NAME, _PASSWORD = "bench", "a password for benchmarks"
_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_STORED = {"accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
_FRAME = {"accept": 'multipart/related; type="application/octet-stream"; transfer-syntax=*'}
_STUDY_UID, _SERIES_UID, _INSTANCE_UID = "0020000D", "0020000E", "00080018"


@dataclass
class _Server:
    """A server, the studies that both hold, and keys of some others that it holds."""

    name: str
    url: str
    pid: int
    auth: tuple[str, str] | None
    n_studies: int
    known: list[dict[str, str]]
    series: list[tuple[str, str]] = field(default_factory=list)

    def client(self) -> httpx.Client:
        import httpx

        return httpx.Client(base_url=self.url, auth=self.auth, timeout=120)


def main(place: Place, *, scale: float) -> None:
    """At scale 1: 200,000 studies in the lake, 4,000 in Orthanc, 60 searches of each kind, 6 series."""
    from radlake.synth.orthanc import find_orthanc

    program = find_orthanc()
    if program is None or not _PLUGIN.is_file():
        print("skipped: Orthanc with its DICOMweb plugin is not installed")
        return
    archive = place.folder / "archive"
    in_fresh_process(partial(write_archive, archive, n_instances=_SERIES * _SLICES, study_instances=_SLICES))
    known = in_fresh_process(partial(_make_lake, place.folder / "lake", archive, round(_CATALOGUE * scale)))
    with ExitStack() as stack:
        ours = _ours(stack, place.folder / "lake", known)
        peer = _orthanc(stack, program, place.folder / "orthanc", archive, round(_PEER_CATALOGUE * scale))
        os.sync()
        servers = [ours, peer]
        for server in servers:
            server.series = list(_large_series(server))
        n = max(10, round(60 * scale))
        _searches(servers, n=n)
        seen = _pixels(servers, n=max(3, round(6 * scale)))
    print(f"goal: first frame of {_SLICES} slices within {_FIRST_FRAME_SECONDS:g} s: {seen:.3f} s at p95, "
          f"{'met' if seen <= _FIRST_FRAME_SECONDS else 'MISSED'}")  # fmt: skip


def _searches(servers: list[_Server], *, n: int) -> None:
    rows = [["search", *(f"{one.name} {what}" for one in servers for what in ("p50 ms", "p95 ms", "CPU ms"))]]
    kinds: dict[str, Callable[[dict[str, str]], tuple[str, dict[str, str]]]] = {
        "study by UID": lambda key: ("/studies", {"StudyInstanceUID": key["study"]}),
        "studies of a person": lambda key: ("/studies", {"PatientID": key["patient"]}),
        "studies of a day, CT": lambda key: ("/studies", {"StudyDate": key["date"], "ModalitiesInStudy": "CT"}),
        "first 100 studies": lambda _: ("/studies", {"limit": "100"}),
        "series of a study": lambda key: (f"/studies/{key['study']}/series", {}),
        "instances of a study": lambda key: (f"/studies/{key['study']}/instances", {}),
    }
    every: dict[str, list[float]] = {one.name: [] for one in servers}
    for kind, asked in kinds.items():
        cells = [kind]
        for server in servers:
            times = []
            with server.client() as client:
                client.get(*_first(asked(server.known[0])))
                cpu = cpu_of([server.pid])
                for key in random.Random(1).choices(server.known, k=n):
                    path, query = asked(key)
                    begin = time.perf_counter()
                    answer = client.get(path, params=query)
                    times.append(time.perf_counter() - begin)
                    assert answer.status_code == 200, (server.name, kind, answer.status_code, answer.text[:200])
                cpu = (cpu_of([server.pid]) - cpu) / n
            every[server.name] += times
            cells += [f"{1000 * rank(times, 0.5):.1f}", f"{1000 * rank(times, 0.95):.1f}", f"{1000 * cpu:.1f}"]
        rows.append(cells)
    cells = ["all"]
    for server in servers:
        times = every[server.name]
        cells += [f"{1000 * rank(times, 0.5):.1f}", f"{1000 * rank(times, 0.95):.1f}", ""]
    rows.append(cells)
    held = ", ".join(f"{one.name} holds {one.n_studies:,} studies" for one in servers)
    print_rows(rows, title=f"QIDO-RS, {n} searches of each kind; {held}; load {os.getloadavg()[0]:.1f}")


def _first(asked: tuple[str, dict[str, str]]) -> tuple[str]:
    from urllib.parse import urlencode

    return (f"{asked[0]}?{urlencode(asked[1])}",)


def _pixels(servers: list[_Server], *, n: int) -> float:
    """Print how fast pixels and headers come; returns p95 of our first frame, seconds."""
    tasks = {
        "series, MB/s": _whole_series,
        "headers of a series, s": _headers,
        "first frame, s": _first_frame,
        "first picture, s": _first_picture,
    }
    rows = [["", *(f"{one.name} {what}" for one in servers for what in ("p50", "worst", "CPU s"))]]
    p95 = 0.0
    for name, task in tasks.items():
        cells = [name]
        for server in servers:
            times, rates = [], []
            task(server, server.series[0])  # once unmeasured
            cpu = cpu_of([server.pid])
            for number in range(n):
                begin = time.perf_counter()
                n_bytes = task(server, server.series[number % len(server.series)])
                times.append(time.perf_counter() - begin)
                rates.append(n_bytes / times[-1] / 1e6)
            cpu = (cpu_of([server.pid]) - cpu) / n
            shown = [rank(rates, 0.5), min(rates)] if "MB/s" in name else [rank(times, 0.5), max(times)]
            cells += [f"{shown[0]:.3g}", f"{shown[1]:.3g}", f"{cpu:.3f}"]
            if task is _first_frame and server is servers[0]:
                p95 = rank(times, 0.95)
        rows.append(cells)
    sizes = ", ".join(f"{one.name} {resident_of(one.pid) / 1e6:.0f} MB" for one in servers)
    print_rows(rows, title=f"Pixels of {_SLICES} slices of 512 x 512, {n} times each, CPU of one; resident: {sizes}")
    return p95


def _whole_series(server: _Server, series: tuple[str, str]) -> int:
    with server.client() as client, client.stream("GET", _path(series), headers=_STORED) as answer:
        assert answer.status_code == 200, answer.status_code
        return sum(len(piece) for piece in answer.iter_raw(1 << 20))


def _headers(server: _Server, series: tuple[str, str]) -> int:
    with server.client() as client:
        answer = client.get(f"{_path(series)}/metadata")
        assert len(answer.json()) == _SLICES
        return len(answer.content)


def _first_frame(server: _Server, series: tuple[str, str]) -> int:
    """As a viewer: which instances there are, then the first frame, over a new connection."""
    with server.client() as client:
        answer = client.get(_first_instance(client, series) + "/frames/1", headers=_FRAME)
        assert len(answer.content) > 512 * 512, answer.text[:200]
        return len(answer.content)


def _first_picture(server: _Server, series: tuple[str, str]) -> int:
    with server.client() as client:
        answer = client.get(_first_instance(client, series) + "/rendered", headers={"accept": "image/jpeg"})
        assert answer.content[:2] == b"\xff\xd8", answer.text[:200]
        return len(answer.content)


def _first_instance(client: httpx.Client, series: tuple[str, str]) -> str:
    found = client.get(f"{_path(series)}/instances", params={"includefield": "00200013"}).json()
    assert len(found) == _SLICES
    first = min(found, key=lambda one: one["00200013"]["Value"][0])
    return f"{_path(series)}/instances/{first[_INSTANCE_UID]['Value'][0]}"


def _path(series: tuple[str, str]) -> str:
    return f"/studies/{series[0]}/series/{series[1]}"


def _large_series(server: _Server) -> Iterator[tuple[str, str]]:
    with server.client() as client:
        for key in server.known[:_SERIES]:
            for one in client.get(f"/studies/{key['study']}/series").json():
                yield key["study"], one[_SERIES_UID]["Value"][0]


def _make_lake(folder: Path, archive: Path, n_studies: int) -> list[dict[str, str]]:
    """Harvest the archive, and fill the catalogue up; keys of the large studies, then of some others."""
    from radlake.config import Settings
    from radlake.contracts import load_table
    from radlake.ingest import harvest_folder
    from radlake.lake import Lake, duck
    from radlake.net import load_hospitals
    from radlake.web.access import Role
    from radlake.web.server import accounts_of

    settings = Settings(lake=str(folder), workers=0)
    (settings.prepare_restricted() / "root.key").write_text("5f" * 32)
    names = "hospital_id: h1, name_zh: 样例, name_en: Sample"
    settings.hospitals.write_text(f"hospitals:\n  - {{{names}, node: {{kind: folder, path: '{archive}'}}}}\n")
    harvest_folder(settings, archive, hospital=load_hospitals(settings.hospitals)["h1"])
    accounts_of(settings).put(_NAME, Role.RESEARCHER, _PASSWORD)
    lake = Lake.from_settings(settings)
    with duck.connect(lake, tables=["dicom"]) as connection:
        large = connection.execute(_KEYS.format(where="true", most=_SERIES)).fetchall()
        for name, sql in _FILL.items():
            rows = connection.sql(sql, params={"n": n_studies - _SERIES}).to_arrow_table()
            table = load_table(name)
            rows = rows.select(table.column_names).cast(table.arrow_schema())
            lake.tables.commit_batch(table, rows, batch_id="bench-dicomweb")
    with duck.connect(lake, tables=["dicom"]) as connection:
        some = connection.execute(_KEYS.format(where="hospital_id != 'h1'", most=500)).fetchall()
    return [dict(zip(("study", "patient", "date"), row, strict=True)) for row in (*large, *some)]


_KEYS = """
SELECT study_instance_uid, printf('%016x', patient_key), strftime(study_at, '%Y%m%d')
FROM dicom.study
WHERE {where}
ORDER BY hash(study_instance_uid)
LIMIT {most}
"""
_NUMBERS = """
WITH numbers AS (
    SELECT
        range AS number, 'h' || (2 + range % 50) AS new_hospital, '2.25.7' || range AS new_study,
        (hash(range // 3) >> 1)::BIGINT AS new_key,
        TIMESTAMP '2024-01-01 07:00:00' + INTERVAL (hash(range) % 63072000) SECOND AS new_at
    FROM range($n)
)
"""
_COMMON = """
    new_hospital AS hospital_id, new_study AS study_instance_uid, new_key AS patient_key,
    strftime(new_at, '%Y%m')::INTEGER AS study_month
"""
_FILL = {
    "dicom.instance": f"""{_NUMBERS}
        SELECT * EXCLUDE (number, new_hospital, new_study, new_key, new_at, n) REPLACE (
            {_COMMON}, new_study || '.' || n % 2 AS series_instance_uid, new_study || '.0.' || n AS sop_instance_uid,
            new_hospital || '/' || new_study || '/' || n % 2 AS object_path, n AS instance_number
        )
        FROM (FROM dicom.instance LIMIT 1), numbers, range(4) AS instances (n)
    """,
    "dicom.series": f"""{_NUMBERS}
        SELECT * EXCLUDE (number, new_hospital, new_study, new_key, new_at, n) REPLACE (
            {_COMMON}, new_study || '.' || n AS series_instance_uid,
            new_hospital || '/' || new_study || '/' || n AS object_path, n AS series_number, 2 AS n_instances
        )
        FROM (FROM dicom.series LIMIT 1), numbers, range(2) AS series (n)
    """,
    "dicom.study": f"""{_NUMBERS}
        SELECT * EXCLUDE (number, new_hospital, new_study, new_key, new_at) REPLACE (
            {_COMMON}, new_at AS study_at, md5(new_study) AS exam_pseudo_id, 2 AS n_series, 4 AS n_instances
        )
        FROM (FROM dicom.study LIMIT 1), numbers
    """,
}


def _ours(stack: ExitStack, folder: Path, known: list[dict[str, str]]) -> _Server:
    from radlake.web.dicomweb import ROOT

    [port] = free_ports(1)
    server = stack.enter_context(dashboard(folder, port=port))
    counted = _Server("radlake", server.url + ROOT, server.pid, (_NAME, _PASSWORD), 0, known)
    with counted.client() as client:
        answer = client.get("/studies", params={"limit": "1"})
        counted.n_studies = 1 + int(answer.headers["warning"].split("There are ")[1].split()[0])
    return counted


def _orthanc(stack: ExitStack, program: str, folder: Path, archive: Path, n_studies: int) -> _Server:
    """Orthanc with the same series, and small studies beside them."""
    import psutil

    from radlake.synth.orthanc import load_orthanc, running_orthanc

    dicom_port, http_port = free_ports(2)
    settings: dict[str, Any] = {
        "Plugins": [str(_PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "LimitFindResults": 1000,
    }
    url = stack.enter_context(
        running_orthanc(
            program, folder, ae_title="ORTHANC", dicom_port=dicom_port, http_port=http_port, our_ae_title=AE_TITLE,
            settings=settings,
        )
    )  # fmt: skip
    [process] = [one for one in psutil.Process().children(recursive=True) if str(folder) in " ".join(one.cmdline())]
    files = sorted(archive.rglob("*.dcm"))
    load_orthanc(url, files)
    known = [_key_of(path) for path in sorted(archive.glob("*/0000.dcm"))]
    small = folder / "small"
    known += in_fresh_process(partial(_write_small, files[0], small, n_studies))
    load_orthanc(url, sorted(small.glob("*.dcm")))
    return _Server("Orthanc", f"{url}/dicom-web", process.pid, None, n_studies + _SERIES, known)


def _key_of(path: Path) -> dict[str, str]:
    from pydicom import dcmread

    ds = dcmread(path, stop_before_pixels=True)
    return {"study": ds.StudyInstanceUID, "patient": ds.PatientID, "date": ds.StudyDate}


def _write_small(like: Path, folder: Path, n: int) -> list[dict[str, str]]:
    """Studies of one instance without pixels; keys of some of them."""
    from datetime import date, timedelta

    from pydicom import dcmread
    from pydicom.uid import UID

    folder.mkdir(parents=True)
    ds = dcmread(like, stop_before_pixels=True)
    known = []
    for number in range(n):
        ds.StudyInstanceUID, ds.SeriesInstanceUID = f"2.25.7{number}", f"2.25.7{number}.0"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.7{number}.0.0")
        ds.PatientID = f"P{number // 3:07d}"
        ds.StudyDate = f"{date(2024, 1, 1) + timedelta(days=number % 730):%Y%m%d}"
        ds.save_as(folder / f"{number:06d}.dcm")
        known.append({"study": ds.StudyInstanceUID, "patient": ds.PatientID, "date": ds.StudyDate})
    return random.Random(2).sample(known, min(500, n))
