"""A real Dask cluster for tests: a scheduler and workers as processes of their own, which a test may kill.

with dask_cluster(tmp_path, workers=2) as cluster:
    settings = settings_of(tmp_path / "lake", dask=cluster.address)
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from support import need

__all__ = ["DaskCluster", "dask_cluster", "die", "nap"]

_HERE = Path(__file__).parents[1]


@dataclass
class DaskCluster:
    """A running scheduler; its workers by process id."""

    folder: Path
    address: str
    environment: Mapping[str, str]
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add_worker(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a worker of one thread without a nanny: killed, it stays away."""
        n = len(self.workers)
        command = [sys.executable, "-m", "distributed.cli.dask_worker", self.address, "--nthreads", "1", "--no-nanny"]
        command += ["--no-dashboard", "--local-directory", str(self.folder), "--name", f"w{n}", *options]
        with (self.folder / f"worker-{n}.txt").open("wb") as log:
            worker = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment, cwd=self.folder)
        self.workers.append(worker)
        return worker

    def stop_scheduler(self) -> None:
        self.scheduler.send_signal(signal.SIGKILL)

    def kill_worker(self, number: int) -> None:
        self.workers[number].send_signal(signal.SIGKILL)
        self.workers[number].wait()


@contextmanager
def dask_cluster(folder: Path, *, workers: int) -> Iterator[DaskCluster]:
    """A scheduler and workers on 127.0.0.1."""
    folder.mkdir(parents=True, exist_ok=True)
    port = need.free_port()
    environment = {**os.environ, "PYTHONPATH": str(_HERE), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "scheduler.txt").open("wb") as log:
        scheduler = subprocess.Popen([*command, "--no-dashboard"], stdout=log, stderr=log, env=environment, cwd=folder)
    cluster = DaskCluster(folder, f"tcp://127.0.0.1:{port}", environment, scheduler)
    try:
        _wait_for(port, scheduler)
        for _ in range(workers):
            cluster.add_worker()
        yield cluster
    finally:
        for process in (*cluster.workers, scheduler):
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the scheduler ended"
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("the scheduler does not listen")


def die(marker: str, n: int) -> str:
    """Kill the worker that runs it, the first `n` times."""
    file = Path(marker)
    if file.stat().st_size < n:
        with file.open("a") as told:
            told.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def nap(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()
