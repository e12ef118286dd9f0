"""A real Orthanc as one of the demo's hospitals, when it is installed (Debian package `orthanc`)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx

from radlake.errors import NodeUnavailable
from radlake.machine import die_with_parent

__all__ = ["find_orthanc", "load_orthanc", "running_orthanc"]


def find_orthanc() -> str | None:
    """Path of the Orthanc program, None when it is not installed."""
    return shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def running_orthanc(
    program: str,
    folder: Path,
    *,
    ae_title: str,
    dicom_port: int,
    http_port: int,
    our_ae_title: str,
    settings: Mapping[str, object] | None = None,
) -> Iterator[str]:
    """Run Orthanc with its storage in `folder`; yields the base URL of its REST interface.

    Parameters
    ----------
    settings : mapping, optional
        More of its configuration, such as plugins.

    Raises
    ------
    NodeUnavailable
        If it does not answer within 30 s.
    """
    folder.mkdir(parents=True, exist_ok=True)
    configuration = {
        "Name": "radlake demo",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": ae_title,
        "DicomPort": dicom_port,
        "DicomCheckCalledAet": True,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        # Its DICOM port is open on every interface, whatever is set here: others are refused when they associate.
        "DicomCheckModalityHost": True,
        **{f"DicomAlwaysAllow{service}": False for service in ("Echo", "Find", "Get", "Move", "Store")},
        "DicomModalities": {"radlake": {"AET": our_ae_title, "Host": "127.0.0.1", "Port": 104, "AllowGet": True}},
        "UnknownSopClassAccepted": True,
        "Plugins": [],
        **(settings or {}),
    }
    config = folder / "orthanc.json"
    config.write_text(json.dumps(configuration, indent=2), encoding="utf-8")
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(
            [program, str(config)],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"TCP_NODELAY": "1"},  # its DICOM toolkit waits 40 ms per message otherwise
            start_new_session=True,
            preexec_fn=partial(die_with_parent, signal.SIGTERM),
        )
    url = f"http://127.0.0.1:{http_port}"
    try:
        _wait_until_up(url, process)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(1)  # it takes 3 s to stop; its index survives a kill
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def load_orthanc(url: str, files: Iterable[Path]) -> int:
    """Upload Part-10 files; files that Orthanc refuses are left out. Returns how many it has."""
    with httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda path: client.post("/instances", content=path.read_bytes()), files))
        return int(client.get("/statistics").json()["CountInstances"])


def _wait_until_up(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/system", timeout=1).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise NodeUnavailable(node="orthanc", reason="it did not start; see orthanc.log in its folder")
