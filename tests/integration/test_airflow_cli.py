"""`radlake airflow` says what is wrong before it starts anything."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from radlake.cli import airflow
from radlake.config import Settings
from radlake.errors import SourceMissing
from support import need


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def start(tmp_path: Path, **given: Any) -> None:
    settings = Settings(lake=str(tmp_path / "lake"))
    airflow.airflow(SimpleNamespace(obj=settings), **{"port": 1, "home": tmp_path / "home", "dags": None, **given})  # pyright: ignore[reportArgumentType]


def test_a_taken_port(tmp_path: Path, taken_port: int) -> None:
    with pytest.raises(
        airflow.PortTaken, match=f"Port {taken_port} of 127.0.0.1 is taken. Choose another one with --port"
    ):
        start(tmp_path, port=taken_port)
    assert not (tmp_path / "home").exists()


def test_no_airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(airflow.AirflowMissing, match="Airflow is not installed here"):
        start(tmp_path)


def test_no_dags(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match=str(tmp_path)):
        start(tmp_path, dags=tmp_path)


def test_a_service_that_stops_shows_its_last_words_and_stops_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A program that speaks and fails stands for Airflow: its database cannot be prepared."""
    program = tmp_path / "airflow"
    program.write_text("#!/bin/sh\necho no database today\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(airflow.AirflowStopped, match=r"Airflow's database stopped by itself.*\nno database today"):
        start(tmp_path, port=need.free_port())
    assert "starting" in capfd.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_its_services_die_with_it(tmp_path: Path) -> None:
    """A program that waits stands for Airflow's services."""
    program = tmp_path / "airflow"
    program.write_text(f'#!/bin/sh\n[ "$1" = db ] || {{ echo $$ >>{tmp_path}/services; exec sleep 600; }}\n')
    program.chmod(0o755)
    code = f"import sys; sys.executable = {str(tmp_path / 'python')!r}; from radlake.cli import main; main()"
    command = [sys.executable, "-c", code, "--lake", str(tmp_path / "lake"), "airflow"]
    command += ["--home", str(tmp_path / "home"), "--port", str(need.free_port())]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(services(tmp_path)) == len(airflow.SERVICES))
    finally:
        started.kill()
        started.wait()
    wait_until(lambda: not any(map(is_running, services(tmp_path))))
    assert [pid for pid in services(tmp_path) if is_running(pid)] == []


def services(folder: Path) -> list[int]:
    file = folder / "services"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def is_running(process_id: int) -> bool:
    status = Path(f"/proc/{process_id}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(600):
        if is_so():
            return
        time.sleep(0.05)
    pytest.fail("it did not come to that")


def test_passwords_are_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "passwords.json"
    made = airflow._write_passwords(path)
    assert sorted(made) == ["admin", "analyst"]
    assert json.loads(path.read_text()) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert airflow._write_passwords(path) == {}
    assert json.loads(path.read_text()) == made


def test_tasks_see_the_settings_that_were_given(tmp_path: Path) -> None:
    settings = Settings(lake=str(tmp_path / "lake"), hospitals=tmp_path / "all.yaml", ae_title="LAKE01")
    env = airflow.environment(settings, home=tmp_path, dags=tmp_path, port=18080, jwt_secret="s")
    given = {key: value for key, value in env.items() if key.startswith("RADLAKE_")}
    assert given["RADLAKE_LAKE"] == str(tmp_path / "lake")
    assert given["RADLAKE_HOSPITALS"] == str(tmp_path / "all.yaml")
    assert given["RADLAKE_AE_TITLE"] == "LAKE01"
    assert env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:18080/execution/"
