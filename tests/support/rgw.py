"""A real S3 store for tests: one Ceph node with its gateway, started once, stopped whatever happens.

@pytest.mark.rgw
def test_something(rgw: Rgw, tmp_path: Path):
    lake = rgw.lake(tmp_path / "restricted")
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from radlake.lake import Lake, S3Options
from support import need
from support.certificates import certificates

__all__ = ["Rgw", "rgw", "running_rgw"]

_PROGRAMS = {
    "ceph-mon": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "radosgw": "radosgw",
    "ceph": "ceph-common",
    "curl": "curl",
}


_SCRIPT = Path(__file__).resolve().parents[2] / "docker/store/rgw_up.sh"


@dataclass(frozen=True)
class Rgw:
    """A running gateway; its keys lie in files."""

    folder: Path
    endpoint_url: str
    tls_endpoint_url: str

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def options(self) -> S3Options:
        return S3Options(
            endpoint_url=self.endpoint_url,
            access_key=f"file:{self.folder / 'access_key'}",
            secret_key=f"file:{self.folder / 'secret_key'}",
        )

    @property
    def tls_options(self) -> S3Options:
        return replace(self.options, endpoint_url=self.tls_endpoint_url, ca_file=str(self.ca_file))

    def bucket(self) -> str:
        """A new, empty bucket: `s3://...`."""
        name = f"test-{uuid.uuid4().hex}"
        self.options.filesystem().mkdir(name)
        return f"s3://{name}"

    def kill_gateway(self) -> None:
        """The gateway is gone, as after a crash; what it acknowledged is in the OSD."""
        pid = int((self.folder / "run" / "client.rgw.a.pid").read_text())
        _kill(pid)
        while self._is_open():
            time.sleep(0.02)

    def _is_open(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", urlsplit(self.endpoint_url).port or 0)) == 0

    def start_gateway(self) -> None:
        """It answers when this returns."""
        environment = {**os.environ, "CEPH_CONF": str(self.folder / "ceph.conf")}
        subprocess.run(["radosgw", "--name", "client.rgw.a"], env=environment, check=True, capture_output=True)
        wait = ["curl", "--silent", "--output", "/dev/null", "--retry", "100", "--retry-connrefused"]
        subprocess.run([*wait, "--retry-delay", "1", self.endpoint_url], check=True, timeout=120)

    def lake(self, restricted: Path) -> Lake:
        """A new lake on S3, with its restricted zone in a local folder."""
        return Lake(url=f"{self.bucket()}/lake", restricted=restricted, storage_options=self.options)


@pytest.fixture(scope="session")
def rgw() -> Iterator[Rgw]:
    """Ceph RGW on 127.0.0.1."""
    for program, package in _PROGRAMS.items():
        need.program(program, package=package)
    with running_rgw() as gateway:
        yield gateway


@contextlib.contextmanager
def running_rgw() -> Iterator[Rgw]:
    """Ceph RGW with and without TLS, as long as the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="rgw-"))  # not tmp_path: the path of a Unix socket must stay short
    try:
        made = certificates(folder)
        made.node.rename(folder / "tls.pem")
        made.node_key.rename(folder / "tls.key")
        ports = [need.free_port() for _ in range(3)]
        started = subprocess.run([_SCRIPT, folder, *map(str, ports)], capture_output=True, text=True, timeout=120)
        assert started.returncode == 0, started.stdout + started.stderr
        (folder / "access_key").write_text("lakekey", encoding="utf-8")
        (folder / "secret_key").write_text("lakesecret", encoding="utf-8")
        yield Rgw(folder, f"http://127.0.0.1:{ports[0]}", f"https://127.0.0.1:{ports[1]}")
    finally:
        _stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _stop(folder: Path) -> None:
    """Kill the gateway first and the monitor last; nothing in there is worth a clean end."""
    processes = [folder / "run" / f"{name}.pid" for name in ("client.rgw.a", "osd.0", "mon.a")]
    running = [int(file.read_text()) for file in processes if file.exists()]
    for process in running:
        _kill(process)
    for _ in range(100):
        if not any(Path(f"/proc/{process}").exists() for process in running):
            break
        time.sleep(0.05)


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
