"""Airflow for tests: the probe in a process of its own, and all services as `radlake airflow` starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import yaml

from radlake.cli.airflow import environment
from radlake.config import Settings
from support import airflow_probe, need
from support.dicom import ct_study, image_study, write_all
from support.lakes import settings_of

DAGS = Path(__file__).resolve().parents[2] / "dags"
SETTINGS = {"AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1"}  # a test need not wait for minutes
SECRETS = ("李雷", "Meimei", "SECRET-1", "SECRET-2", "SECRET-3")


def probe(verb: str, *, settings: Settings, home: Path) -> dict[str, Any]:
    """What Airflow makes of the DAG files: see `airflow_probe`."""
    home.mkdir(parents=True, exist_ok=True)
    target = home / "probe.json"
    env = environment(settings, home=home, dags=DAGS, port=need.free_port(), jwt_secret="0" * 128)
    done = subprocess.run(
        [sys.executable, "-P", airflow_probe.__file__, verb, str(target)],  # its folder has an `airflow` too
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    (home / "probe.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(target.read_text(encoding="utf-8"))


def province(folder: Path, **given: Any) -> Settings:
    """A lake whose two hospitals are folders: a CT study of three instances, and a DX study of one.

    A value of the DX study is not valid, so that a library that warns with values would show it.
    """
    settings = settings_of(folder / "lake", **given)
    invalid = {"PatientBirthTime": "SECRET-3", "StudyTime": "SECRET-3"}
    write_all(ct_study(n=3, patient="李雷", patient_id="SECRET-1"), folder / "h1")
    with warnings.catch_warnings(action="ignore"):
        write_all(image_study("DX", patient="Han^Meimei", patient_id="SECRET-2", **invalid), folder / "h2")
    register(settings, {name: folder / name for name in ("h1", "h2")})
    return settings


def register(
    settings: Settings, folders: dict[str, Path], *, nodes: Mapping[str, dict[str, Any]] | None = None
) -> None:
    """Write hospitals.yaml: one hospital per folder, and one per node."""
    kept = {name: {"kind": "folder", "path": str(path)} for name, path in folders.items()} | dict(nodes or {})
    hospitals = [
        {
            "hospital_id": name,
            "name_zh": f"样例{name}医院",
            "name_en": f"Sample hospital {name}",
            "region_code": "320500",
            "node": node,
        }
        for name, node in kept.items()
    ]
    settings.hospitals.write_text(yaml.safe_dump({"hospitals": hospitals}, allow_unicode=True), encoding="utf-8")


def leaks(home: Path) -> list[str]:
    """Files of an Airflow home that hold a patient's name or number."""
    files = [path for path in home.rglob("*") if path.is_file()]
    assert home / "airflow.db" in files
    return [str(path) for path in files if any(secret.encode() in path.read_bytes() for secret in SECRETS)]


@contextmanager
def running(settings: Settings, *, home: Path) -> Iterator[Page]:
    """`radlake airflow` as a person starts it; Ctrl-C at the end, and nothing of it may be left."""
    port = need.free_port()
    program = Path(sys.executable).with_name("radlake")
    command = [
        program,
        "--lake",
        settings.lake,
        "airflow",
        f"--port={port}",
        f"--home={home}",
    ]
    process = subprocess.Popen(
        command,
        env=os.environ | {"RADLAKE_WORKERS": str(settings.workers), **SETTINGS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert process.stdout
        said = list(takewhile(lambda line: "Ctrl-C stops" not in line, process.stdout))
        assert process.poll() is None, "".join(said)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            yield Page(http, json.loads((home / "passwords.json").read_text()), "".join(said))
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=120)
        first, *killed = rest.splitlines()
        assert (process.returncode, first) == (0, "Stopping; running tasks have half a minute to finish.")
        # On a busy machine a service may need longer than it has: then it is killed, and named.
        assert all(line.endswith("did not end in time and is killed") for line in killed), killed
        assert _processes_of(home) == []
    finally:
        for pid in [process.pid, *_processes_of(home)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


class Page:
    """The REST API behind Airflow's page."""

    def __init__(self, http: httpx.Client, passwords: dict[str, str], said: str) -> None:
        self._http, self.passwords, self.said = http, passwords, said
        self._tokens: dict[str, str] = {}

    def ask(self, method: str, path: str, *, user: str = "admin", **given: Any) -> httpx.Response:
        if user not in self._tokens:
            answer = self._http.post("/auth/token", json={"username": user, "password": self.passwords[user]})
            self._tokens[user] = answer.raise_for_status().json()["access_token"]
        headers = {"Authorization": f"Bearer {self._tokens[user]}"}
        return self._http.request(method, f"/api/v2/{path}", headers=headers, **given)

    def get(self, path: str, **given: Any) -> Any:
        return self.ask("GET", path, **given).raise_for_status().json()

    def wait(self, what: Callable[[], Any], *, seconds: float = 240) -> Any:
        """The first true answer."""
        deadline = monotonic() + seconds
        while not (answer := what()):
            assert monotonic() < deadline, "it did not happen in time"
            sleep(0.5)
        return answer


def _processes_of(home: Path) -> list[int]:
    """Processes that were started for this Airflow home."""
    mark = f"AIRFLOW_HOME={home}\0".encode()
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in environ.read_bytes():
                found.append(int(environ.parent.name))
    return found
