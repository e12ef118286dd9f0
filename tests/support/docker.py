"""Docker for tests: the daemon that runs, or one of our own where there is none and no registry either.

Our own daemon has no registry to pull from. Its `debian:bookworm-slim` is made by mmdebstrap from the configured
mirror, with the machine's certificates: the same distribution, not the official image.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from support import need

__all__ = ["Docker", "docker"]

_BASE = "debian:bookworm-slim"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_DAEMON = (
    *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
    *("--storage-driver=overlay2", "--userland-proxy=false"),
)


class Docker:
    """Commands to one daemon."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = {**env, "DOCKER_BUILDKIT": "1", "COMPOSE_DOCKER_CLI_BUILD": "1", "COMPOSE_HTTP_TIMEOUT": "600"}
        # The client of Debian's package knows BuildKit; another one, before it on the path, may lack its plugin.
        self.program = "docker"
        if Path("/usr/bin/docker").exists():
            self.program = "/usr/bin/docker"
            self.env["PATH"] = f"/usr/bin:{self.env['PATH']}"

    def __call__(self, *arguments: str, seconds: float = 600, check: bool = True, stdin: str = "") -> str:
        return self._run([self.program, *arguments], seconds=seconds, check=check, stdin=stdin)

    def compose(self, *arguments: str, file: Path, project: str, seconds: float = 900) -> str:
        command = ["docker-compose", "--file", str(file), "--project-name", project, *arguments]
        return self._run(command, seconds=seconds, check=True)

    def _run(self, command: list[str], *, seconds: float, check: bool, stdin: str = "") -> str:
        done = subprocess.run(
            command, env=self.env, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    need.program("docker", package="docker.io")
    need.program("docker-compose", package="docker-compose")
    running = Docker(os.environ)
    with contextlib.suppress(AssertionError):
        running("info")
        yield running
        return
    need.program("dockerd", package="docker.io")
    need.program("mmdebstrap", package="mmdebstrap")
    folder = Path(tempfile.mkdtemp(prefix="dockerd-"))
    env = os.environ | {"DOCKER_HOST": f"unix://{folder}/docker.sock"}
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [
                "dockerd",
                *("--data-root", f"{folder}/root", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"),
                *("--host", env["DOCKER_HOST"], *_DAEMON),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        own = Docker(env)
        deadline = time.monotonic() + 60
        while "Server Version" not in own("info", check=False):
            assert daemon.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()[-3000:]  # noqa: PT018
            time.sleep(0.2)
        _make_base(own)
        yield own
    finally:
        daemon.terminate()
        daemon.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _make_base(own: Docker) -> None:
    made = [
        *("mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates"),
        *(f"--customize-hook=copy-in {_CERTIFICATES} {_CERTIFICATES.parent}", "bookworm", "-"),
    ]
    with subprocess.Popen(made, stdout=subprocess.PIPE) as packed:
        subprocess.run([own.program, "import", "-", _BASE], stdin=packed.stdout, env=own.env, check=True, timeout=600)
    assert packed.returncode == 0
