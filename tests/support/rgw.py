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
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from radlake.lake import Lake, S3Options
from support import need

__all__ = ["Rgw", "rgw"]

_PROGRAMS = {
    "ceph-mon": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "radosgw": "radosgw",
    "ceph": "ceph-common",
    "curl": "curl",
}


@dataclass(frozen=True)
class Rgw:
    """A running gateway; its keys lie in files."""

    folder: Path
    endpoint_url: str

    @property
    def options(self) -> S3Options:
        return S3Options(
            endpoint_url=self.endpoint_url,
            access_key=f"file:{self.folder / 'access_key'}",
            secret_key=f"file:{self.folder / 'secret_key'}",
        )

    def bucket(self) -> str:
        """A new, empty bucket: `s3://...`."""
        name = f"test-{uuid.uuid4().hex}"
        self.options.filesystem().mkdir(name)
        return f"s3://{name}"

    def lake(self, restricted: Path) -> Lake:
        """A new lake on S3, with its restricted zone in a local folder."""
        return Lake(url=f"{self.bucket()}/lake", restricted=restricted, storage_options=self.options)


@pytest.fixture(scope="session")
def rgw() -> Iterator[Rgw]:
    """Ceph RGW on 127.0.0.1."""
    for program, package in _PROGRAMS.items():
        need.program(program, package=package)
    folder = Path(tempfile.mkdtemp(prefix="rgw-"))  # not tmp_path: the path of a Unix socket must stay short
    try:
        port = need.free_port()
        script = Path(__file__).with_name("rgw_up.sh")
        started = subprocess.run(
            [script, folder, str(port), str(need.free_port())], capture_output=True, text=True, timeout=120
        )
        assert started.returncode == 0, started.stdout + started.stderr
        (folder / "access_key").write_text("lakekey", encoding="utf-8")
        (folder / "secret_key").write_text("lakesecret", encoding="utf-8")
        yield Rgw(folder, f"http://127.0.0.1:{port}")
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
