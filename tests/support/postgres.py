"""A real PostgreSQL for tests: a cluster of its own on a free port, started once, stopped whatever happens.

@pytest.mark.postgres
def test_something(postgres: str):
    ledger = Ledger(postgres)     # a new, empty database for each test
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from support import need

__all__ = ["postgres", "postgres_cluster"]


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[str]:
    """URL of the running cluster, without a database."""
    with _cluster() as url:
        yield url


@pytest.fixture
def postgres(postgres_cluster: str) -> str:
    """SQLAlchemy URL of an empty database."""
    name = f"t{uuid.uuid4().hex}"
    engine = sa.create_engine(f"{postgres_cluster}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{postgres_cluster}/{name}"


@contextmanager
def _cluster() -> Iterator[str]:
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
        process = subprocess.Popen(
            [server, "-D", str(folder / "data"), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=user,
            cwd="/",
        )
        try:
            url = f"postgresql+psycopg2://radlake@127.0.0.1:{port}"
            _wait(url)
            yield url
        finally:
            process.terminate()
            process.wait(30)
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
