"""Web, the servers: each a process of its own, started by the command that people start it with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.usage import cpu_of, peak_of, resident_of

__all__ = ["Server", "dashboard", "reminder", "streamlit"]

_RADLAKE = Path(sys.executable).with_name("radlake")
_APP = Path(__file__).with_name("web_peer.py")
_START_SECONDS = 600  # the reminder makes its index first


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    url: str
    pid: int

    @property
    def resident_mb(self) -> float:
        return resident_of(self.pid) / 1e6

    @property
    def peak_mb(self) -> float:
        """Largest resident memory since its start, 10^6 bytes."""
        return peak_of(self.pid) / 1e6

    @property
    def cpu(self) -> float:
        """Seconds of CPU since its start."""
        return cpu_of([self.pid])


@contextmanager
def dashboard(lake: Path, *, port: int) -> Iterator[Server]:
    """`radlake serve`."""
    with _running([_RADLAKE, "--lake", lake, "serve", "--port", str(port)], port=port, health="/healthz") as server:
        yield server


@contextmanager
def reminder(lake: Path, *, port: int, today: str) -> Iterator[Server]:
    """`radlake reminder serve`."""
    command = [_RADLAKE, "--lake", lake, "reminder", "serve", "--port", str(port), "--today", today]
    with _running(command, port=port, health="/healthz") as server:
        yield server


@contextmanager
def streamlit(python: Path, *, port: int, tables: str) -> Iterator[Server]:
    """The peer, with what its documentation tells to set for production."""
    options = {
        "server.port": port,
        "server.address": "127.0.0.1",
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "logger.level": "error",
    }
    command = [python, "-m", "streamlit", "run", _APP, *(f"--{name}={value}" for name, value in options.items())]
    with _running(
        command,
        port=port,
        health="/_stcore/health",
        environment={"RADLAKE_BENCH_TABLES": tables, "PYTHONWARNINGS": "ignore"},
    ) as server:
        yield server


@contextmanager
def _running(
    command: list[str | Path], *, port: int, health: str, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    process = subprocess.Popen(
        command, env=os.environ | dict(environment or {}), stdout=subprocess.DEVNULL, start_new_session=True
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url + health, process)
        yield Server(url, process.pid)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode} before it answered")
        try:
            if httpx.get(url, timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"nobody answers at {url}")
