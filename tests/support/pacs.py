"""Real PACS for tests: Orthanc and dcmqrscp on free ports, loaded with files, stopped at the end whatever happens.

    with orthanc(tmp_path, files=paths) as pacs:
        client = connect(pacs.dimse_node(), ae_title="RADLAKE")
    with dcmqrscp(tmp_path, files=paths) as pacs: ...

C-MOVE goes to the AE title RADLAKE at `pacs.destination_port` on this machine: hand it to `connect(scp_port=...)`.
Both DIMSE servers listen on all interfaces (they cannot do less); what they hold are public test files.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radlake.net.node import DimseNode, WebNode
from support import need

__all__ = ["Pacs", "dcmqrscp", "orthanc"]

OUR_AE_TITLE = "RADLAKE"


@dataclass(frozen=True)
class Pacs:
    """A running PACS.

    Attributes
    ----------
    ae_title, dicom_port : str, int
        Its application entity on 127.0.0.1.
    http_port : int
        Its HTTP server; 0 when it has none.
    destination_port : int
        Where it sends what is moved to RADLAKE.
    process_id : int
        For tests that stop it in the middle.
    """

    ae_title: str
    dicom_port: int
    http_port: int
    destination_port: int
    process_id: int

    @property
    def base_url(self) -> str:
        """Origin of its DICOMweb services."""
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    def dimse_node(self, **settings: Any) -> DimseNode:
        known = {"kind": "dimse", "name": self.ae_title.lower(), "ae_title": self.ae_title, "host": "127.0.0.1"}
        return DimseNode.model_validate({**known, "port": self.dicom_port, **settings})

    def web_node(self, **settings: Any) -> WebNode:
        known = {"kind": "dicomweb", "name": self.ae_title.lower(), "base_url": self.base_url}
        return WebNode.model_validate({**known, **settings})


@contextmanager
def orthanc(
    folder: Path,
    *,
    files: Iterable[Path] = (),
    ae_title: str = "ORTHANC",
    destination_port: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Pacs]:
    """Orthanc with its DICOMweb plugin, holding `files` byte for byte.

    Parameters
    ----------
    folder : Path
        Where it may keep its database.
    settings : mapping, optional
        More of its configuration, for example `{"DicomTlsEnabled": True, ...}`.
    """
    program = need.program("Orthanc", package="orthanc")
    home = folder / ae_title.lower()
    home.mkdir(parents=True)
    ports = {"dicom_port": need.free_port(), "http_port": need.free_port()}
    destination_port = destination_port or need.free_port()
    configuration = {
        "Name": ae_title,
        "StorageDirectory": str(home),
        "IndexDirectory": str(home),
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "DicomAet": ae_title,
        "DicomPort": ports["dicom_port"],
        "DicomCheckCalledAet": True,
        "DicomCheckModalityHost": False,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomModalities": {"radlake": [OUR_AE_TITLE, "127.0.0.1", destination_port]},
        "UnknownSopClassAccepted": True,
        "DefaultEncoding": "Chinese",
        "HttpPort": ports["http_port"],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "HttpServerEnabled": True,
        **(settings or {}),
    }
    (home / "orthanc.json").write_text(json.dumps(configuration), encoding="utf-8")
    with _server([program, "orthanc.json"], home=home, ports=list(ports.values())) as process_id:
        pacs = Pacs(ae_title, destination_port=destination_port, process_id=process_id, **ports)
        for path in files:
            url = f"http://127.0.0.1:{pacs.http_port}/instances"
            with urllib.request.urlopen(urllib.request.Request(url, data=path.read_bytes()), timeout=30) as answer:
                answer.read()
        yield pacs


@contextmanager
def dcmqrscp(
    folder: Path,
    *,
    files: Iterable[Path] = (),
    ae_title: str = "HISPACS",
    destination_port: int | None = None,
    options: Sequence[str] = (),
) -> Iterator[Pacs]:
    """DCMTK's dcmqrscp, holding `files` as they are: a PACS that leaves optional keys out of its answers."""
    program = need.program("dcmqrscp", package="dcmtk")
    home = folder / ae_title.lower()
    store = home / "store"
    store.mkdir(parents=True)
    port = need.free_port()
    destination_port = destination_port or need.free_port()
    copies = [str(shutil.copy(path, store / f"{n:05d}.dcm")) for n, path in enumerate(files)]
    (home / "dcmqrscp.cfg").write_text(
        "MaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nradlake = ({OUR_AE_TITLE}, 127.0.0.1, {destination_port})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{ae_title} {store} RW (500, 1024mb) ANY\nAETable END\n",
        encoding="ascii",
    )
    if copies:
        register = need.program("dcmqridx", package="dcmtk")
        subprocess.run([register, str(store), *copies], check=True, capture_output=True, timeout=60)
    command = [program, *options, "-c", "dcmqrscp.cfg", str(port)]
    with _server(command, home=home, ports=[port]) as process_id:
        yield Pacs(ae_title, port, 0, destination_port, process_id)


@contextmanager
def _server(command: list[str], *, home: Path, ports: list[int]) -> Iterator[int]:
    """Run a server until the block ends; its whole process group is stopped."""
    with (home / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=home,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "TCP_NODELAY": "1"},  # DCMTK leaves Nagle's algorithm on: 20 instances a second
        )
    try:
        for port in ports:
            _wait_for(port, process=process, log=home / "log.txt")
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it holds is thrown away, and Orthanc takes 2 s to say goodbye
        process.wait()


def _wait_for(port: int, *, process: subprocess.Popen[bytes], log: Path, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with socket.socket() as sock:
            sock.settimeout(1)
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args} does not listen on port {port}:\n{log.read_text(errors='replace')[-2000:]}")
