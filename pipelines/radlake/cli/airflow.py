"""`radlake airflow`: Airflow on this machine, with the DAGs of this repository.

Airflow itself is never imported: its services run as programs, and everything they must know is in their
environment. They are started one by one, because `airflow standalone` also starts two log servers that listen on
every interface, and leaves its services behind when it is terminated.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import sleep
from typing import Annotated

import typer

from radlake.config import Settings
from radlake.errors import PermanentError, SourceMissing
from radlake.machine import die_with_parent, is_free
from radlake.resources import data_root

app = typer.Typer()

USERS = {"admin": "admin", "analyst": "viewer"}
# No log servers: the page reads the log files itself.
SERVICES = {
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "api-server": ["api-server"],
}
_SECONDS_TO_STOP = 30


class AirflowMissing(PermanentError):
    sentence = (
        "Airflow is not installed here. `make install` installs it; where radlake was installed as a "
        "package, install its extra `airflow` too, from the same wheel or folder: pip install 'FOLDER[airflow]'."
    )


class PortTaken(PermanentError):
    sentence = "Port {port} of 127.0.0.1 is taken. Choose another one with --port."


class AirflowStopped(PermanentError):
    sentence = "Airflow's {service} stopped by itself. The last lines of {log}:\n{lines}"


@app.command()
def airflow(
    ctx: typer.Context,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page, on 127.0.0.1.")] = 8080,
    home: Annotated[Path, typer.Option(help="Airflow's own folder: database, logs, passwords.")] = Path("airflow-home"),
    dags: Annotated[Path | None, typer.Option(help="Folder of DAGs; the one of this repository.")] = None,
) -> None:
    """Start Airflow on this machine, with the DAGs of this repository. Ctrl-C stops it.

    Its tasks work on the lake of --lake or RADLAKE_LAKE. For a server, see docs/how-to/run-airflow.md.
    """
    program = Path(sys.executable).with_name("airflow")
    if not program.is_file():
        raise AirflowMissing
    dags = (dags or data_root() / "dags").resolve()
    if not any(dags.glob("*.py")):
        raise SourceMissing(path=dags)
    if not is_free(port):
        raise PortTaken(port=port)
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    passwords = _write_passwords(home / "passwords.json")
    env = os.environ | environment(ctx.obj, home=home, dags=dags, port=port, jwt_secret=secrets.token_hex(64))
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    services: dict[str, subprocess.Popen[bytes]] = {}
    typer.echo("Airflow is starting; this takes half a minute.")
    try:
        services["database"] = _start([program, "db", "migrate"], env=env, log=home / "database.log")
        if services["database"].wait():
            raise _stopped("database", home)
        del services["database"]
        for name, command in SERVICES.items():
            services[name] = _start([program, *command], env=env, log=home / f"{name}.log")
        while not _is_healthy(port):
            _watch(services, home=home)
        _tell(port=port, home=home, passwords=passwords)
        while True:
            _watch(services, home=home)
    except KeyboardInterrupt:
        typer.echo("Stopping; running tasks have half a minute to finish.")
    finally:
        _stop(services)
        signal.signal(signal.SIGTERM, before)


def environment(settings: Settings, *, home: Path, dags: Path, port: int, jwt_secret: str) -> dict[str, str]:
    """What Airflow's services and tasks must find in their environment."""
    url = f"http://127.0.0.1:{port}"
    given = settings.model_dump(mode="json", exclude_defaults=True)
    return {
        **{f"RADLAKE_{name.upper()}": str(value) for name, value in given.items()},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__MAX_MAP_LENGTH": "4096",  # one mapped task per hospital; the default is 1024
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",  # not derived from the port: tasks would fail
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API_AUTH__JWT_SECRET": jwt_secret,
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
    }


def _write_passwords(path: Path) -> Mapping[str, str]:
    """Make the passwords on the first start; they are shown once."""
    if path.exists():
        return {}
    passwords = {name: secrets.token_urlsafe(12) for name in USERS}
    path.touch(mode=0o600)
    path.write_text(json.dumps(passwords) + "\n", encoding="ascii")
    return passwords


def _start(command: Sequence[str | Path], *, env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, so that Ctrl-C of the terminal reaches this process only.

    It ends with this process, however that ended.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, signal.SIGTERM),
        )


def _watch(services: Mapping[str, subprocess.Popen[bytes]], *, home: Path) -> None:
    """Wait half a second; one service that has ended ends all."""
    sleep(0.5)
    for name, process in services.items():
        if process.poll() is not None:
            raise _stopped(name, home)


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/monitor/health", timeout=5) as answer:
            parts = json.load(answer)
    except (OSError, ValueError):
        return False
    services = ("metadatabase", "scheduler", "triggerer", "dag_processor")
    return all(parts[name]["status"] == "healthy" for name in services)


def _tell(*, port: int, home: Path, passwords: Mapping[str, str]) -> None:
    typer.echo(f"Airflow is at http://127.0.0.1:{port}  (its logs: {home})")
    for name, password in passwords.items():
        typer.echo(f"  {name:<8} {password}   ({USERS[name]})")
    if not passwords:
        typer.echo(f"  passwords of {' and '.join(USERS)}: {home / 'passwords.json'}")
    typer.echo("New DAGs are paused, so that no node is asked before you say so: switch them on in the page.")
    typer.echo("Ctrl-C stops.")


def _stopped(service: str, home: Path) -> AirflowStopped:
    log = home / f"{service}.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
    return AirflowStopped(service=service, log=log, lines="\n".join(lines))


def _stop(services: Mapping[str, subprocess.Popen[bytes]]) -> None:
    """End the services in their order: tasks that run report to the API server, so the scheduler goes first.

    A task that does not finish in time is killed; a harvest goes on where it stopped when it is run again.
    """
    for name, process in services.items():
        process.terminate()
        try:
            process.wait(_SECONDS_TO_STOP)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            typer.echo(f"{name} did not end in time and is killed", err=True)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
