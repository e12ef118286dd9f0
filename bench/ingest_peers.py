"""Other tools as contestants of the ingest benchmark: each a program of its own, as its makers tell to call it.

A tool that has to be told what to remove gets one list. None of them makes rows or series objects.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil

from bench.corpus import Corpus, n_leaking
from bench.measure import Done, command_cpu, in_fresh_process
from bench.peers import REMOVED, TOOLS

__all__ = ["PYTHON", "Contestant", "copy", "peers"]

_PROGRAM = Path(__file__).with_name("peers.py")
PYTHON = Path(__file__).parents[1] / ".cache/bench-peers/bin/python"
_ORTHANC = "Orthanc"
_PACKAGES = {
    "gdcmanon": "in Debian's libgdcm-tools",
    "dcmodify": "in Debian's dcmtk",
    _ORTHANC: "in Debian's orthanc",
}

Contestant = Callable[[Corpus, Path], Callable[[], Done]]


def copy(corpus: Corpus, out: Path) -> Callable[[], Done]:
    """`cp -r`: what the machine needs for the bytes alone."""

    def run() -> Done:
        command_cpu("cp", "-r", corpus.folder, out / "files")
        return Done(sum(1 for _ in (out / "files").rglob("*.dcm")))

    return run


def peers() -> dict[str, Contestant]:
    """Those that are installed; the others are told."""
    python = PYTHON if PYTHON.is_file() else Path(sys.executable)
    listed = subprocess.run([python, _PROGRAM, "--list"], check=True, capture_output=True, text=True)
    installed: list[str] = json.loads(listed.stdout)
    tags = in_fresh_process(_tags)
    programs: dict[str, Contestant] = {"gdcmanon": partial(_gdcmanon, tags), "dcmodify": partial(_dcmodify, tags)}
    found: dict[str, Contestant] = {name: programs[name] for name in programs if shutil.which(name)}
    found |= {name: partial(_python_tool, python, name) for name in installed}
    if in_fresh_process(_has_orthanc):
        found[_ORTHANC] = _orthanc
    for name in ("gdcmanon", "dcmodify", *TOOLS, _ORTHANC):
        if name not in found:
            print(f"absent: {name}; {_PACKAGES.get(name, 'make bench-ingest installs it')}")
    return found


def _python_tool(python: Path, name: str, corpus: Corpus, out: Path) -> Callable[[], Done]:
    result = out / "result.json"

    def run() -> Done:
        command_cpu(python, _PROGRAM, name, corpus.folder, out / "files", result)
        if not result.is_file():
            raise RuntimeError("the program ended before its time")
        told = json.loads(result.read_text())
        look = partial(n_leaking, corpus.needles, out / "files")
        return Done(told["n"], cpu=told["cpu"], seconds=told["seconds"], look=look)

    return run


def _dcmodify(tags: list[str], corpus: Corpus, out: Path) -> Callable[[], Done]:
    command = ["dcmodify", "--no-backup", "--ignore-errors", "--ignore-missing-tags", "--erase-private"]
    command += ["--gen-stud-uid", "--gen-ser-uid", "--gen-inst-uid"]
    command += ["--modify-all", "(0010,0010)=REMOVED", "--modify-all", "(0010,0020)=REMOVED"]
    command += [part for tag in tags for part in ("--erase-all", f"({tag})")]
    start_cpu = command_cpu(*command, out / "nothing.dcm")

    def run() -> Done:
        files = out / "files"
        command_cpu("cp", "-r", corpus.folder, files)
        command_cpu(*command, *sorted(files.rglob("*.dcm")))  # it works in place
        return _command_done(corpus, files, start_cpu=start_cpu)

    return run


def _gdcmanon(tags: list[str], corpus: Corpus, out: Path) -> Callable[[], Done]:
    command = ["gdcmanon", "--dumb", "--continue", "--recursive"]
    command += ["--replace", "10,10=REMOVED", "--replace", "10,20=REMOVED"]
    command += [part for tag in tags for part in ("--remove", tag)]
    nothing = out / "nothing"
    nothing.mkdir()
    start_cpu = command_cpu(*command, "-i", nothing, "-o", nothing)

    def run() -> Done:
        command_cpu(*command, "-i", corpus.folder, "-o", out / "files")
        return _command_done(corpus, out / "files", start_cpu=start_cpu)

    return run


def _command_done(corpus: Corpus, out: Path, *, start_cpu: float) -> Done:
    return Done(len(corpus.files), foreign_cpu=start_cpu, look=partial(n_leaking, corpus.needles, out))


def _orthanc(corpus: Corpus, out: Path) -> Callable[[], Done]:
    """Upload, anonymise study by study, download, all by REST; counted is the server alone."""
    import httpx

    from bench.receive import free_ports
    from radlake.synth.orthanc import find_orthanc, running_orthanc

    dicom_port, http_port = free_ports(2)
    settings = {"DicomServerEnabled": False, "SaveJobs": False, "JobsHistorySize": 1, "OverwriteInstances": True}
    server = running_orthanc(
        find_orthanc() or "",
        out / "server",
        ae_title="ORTHANC",
        dicom_port=dicom_port,
        http_port=http_port,
        our_ae_title="BENCH",
        settings=settings,
    )
    started = ExitStack()
    url = started.enter_context(server)
    client = started.enter_context(httpx.Client(base_url=url, timeout=600))
    program = next(child for child in psutil.Process().children() if child.name() == _ORTHANC)
    files = out / "files"
    files.mkdir()

    def run() -> Done:
        with started:
            cpu, seconds = _cpu_of(program), time.perf_counter()
            for path in corpus.files:
                client.post("/instances", content=path.read_bytes()).raise_for_status()
            originals = set(client.get("/instances").json())
            for study in client.get("/studies").json():
                client.post(f"/studies/{study}/anonymize", json={"Synchronous": True, "KeepSource": True})
            for name in set(client.get("/instances").json()) - originals:
                (files / f"{name}.dcm").write_bytes(client.get(f"/instances/{name}/file").content)
            cpu, seconds = _cpu_of(program) - cpu, time.perf_counter() - seconds
        return Done(len(corpus.files), cpu=cpu, seconds=seconds, look=partial(n_leaking, corpus.needles, files))

    return run


def _cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _has_orthanc() -> bool:
    from radlake.synth.orthanc import find_orthanc

    return find_orthanc() is not None


def _tags() -> list[str]:
    from pydicom.datadict import tag_for_keyword

    tags = [tag_for_keyword(keyword) or 0 for keyword in REMOVED]
    return [f"{tag >> 16:04x},{tag & 0xFFFF:04x}" for tag in tags]
