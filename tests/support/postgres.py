"""A real PostgreSQL for tests: a cluster of its own on a free port, started once, stopped whatever happens.

@pytest.mark.postgres
def test_something(postgres: str):
    ledger = Ledger(postgres)     # a new, empty database for each test
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from support import need

__all__ = ["PostgresCluster", "new_database", "postgres", "postgres_cluster", "running_postgres"]


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[str]:
    """URL of the running cluster, without a database."""
    with running_postgres() as cluster:
        yield cluster.url


@pytest.fixture
def postgres(postgres_cluster: str) -> str:
    """SQLAlchemy URL of an empty database."""
    return new_database(postgres_cluster)


def new_database(cluster: str) -> str:
    """SQLAlchemy URL of an empty database of a cluster."""
    name = f"t{uuid.uuid4().hex}"
    engine = sa.create_engine(f"{cluster}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{cluster}/{name}"


@dataclass
class PostgresCluster:
    """A server that a test may stop and start again: SIGQUIT is `pg_ctl stop -m immediate`, as after a crash."""

    url: str
    command: list[str]
    user: str | None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        nothing = subprocess.DEVNULL
        self.process = subprocess.Popen(self.command, stdout=nothing, stderr=nothing, user=self.user, cwd="/")
        _wait(self.url)

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        assert self.process
        self.process.send_signal(number)
        self.process.wait(60)


@contextmanager
def running_postgres() -> Iterator[PostgresCluster]:
    """A cluster of one's own."""
    folders = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    path = os.pathsep.join([*folders, os.environ.get("PATH", "")])
    initdb, server = (shutil.which(name, path=path) for name in ("initdb", "postgres"))
    if not initdb or not server:
        need.missing("initdb and postgres (Debian package postgresql)")
    user = "postgres" if os.getuid() == 0 else None  # the server refuses to run as root
    folder, port = Path(tempfile.mkdtemp(prefix="radlake-pg-")), need.free_port()
    if user:
        shutil.chown(folder, user)
    try:
        command = [initdb, "-D", str(folder / "data"), "-A", "trust", "-U", "radlake", "-E", "UTF8", "--no-sync"]
        subprocess.run([*command, "--locale=C.UTF-8"], check=True, capture_output=True, user=user, cwd="/")
        options = ["-k", str(folder), "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        url = f"postgresql+psycopg2://radlake@127.0.0.1:{port}"
        cluster = PostgresCluster(url, [server, "-D", str(folder / "data"), *options], user)
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop(signal.SIGINT)  # SIGTERM would wait for a client that still holds a connection
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(url: str) -> None:

    engine, deadline = sa.create_engine(f"{url}/postgres"), time.monotonic() + 60
    while True:
        try:
            engine.connect().close()
            engine.dispose()
            return
        except sa.exc.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
