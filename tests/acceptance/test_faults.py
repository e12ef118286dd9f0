"""Disk full, a store that errs, a gateway or database that restarts: told or ridden out, and a re-run mends all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from radlake.cli.hospitals import hospital_of_files
from radlake.commit_points import listening
from radlake.config import Settings
from radlake.errors import TransientError
from radlake.ingest import harvest_folder
from support.faulty_proxy import FaultyProxy, Kind
from support.kills import commands
from support.kills.archive import write_archive
from support.lakes import picture, settings_of, states
from support.postgres import PostgresCluster, new_database, running_postgres
from support.rgw import Rgw
from support.warm import Warm

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
_MUTATING = frozenset({"PUT", "POST", "DELETE"})
_READING = frozenset({"GET", "HEAD"})


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "archive"
    write_archive(folder)
    return folder


@pytest.fixture(scope="module")
def whole(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = settings_of(tmp_path_factory.mktemp("whole") / "lake")
    harvest(settings, archive)
    return settings


def harvest(settings: Settings, archive: Path) -> None:
    harvest_folder(settings, archive, hospital=hospital_of_files(settings, "h1"))


def harvest_or_tell(settings: Settings, archive: Path) -> str:
    """Ride it out, or tell what to do next; anything else fails the test."""
    try:
        harvest(settings, archive)
    except TransientError as error:
        return str(error)
    return ""


def outcome(settings: Settings) -> tuple[object, object, list[Path]]:
    """States of the ledger, all that the lake holds, and what is staged still."""
    return states(settings), picture(settings), list((settings.restricted / "staged").rglob("*.parquet"))


class Once:
    """A listener that does something the first time that a point is reached."""

    def __init__(self, point: str, action: Callable[[], None]) -> None:
        self._point, self._action, self.is_done = point, action, False

    def __call__(self, name: str) -> None:
        if name == self._point and not self.is_done:
            self.is_done = True
            self._action()


# A full disk: from a commit point on no file of the process may grow.


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm(commands.warm_up) as warm:
        yield warm


@pytest.mark.parametrize(
    "point",
    [
        "study.discovered",
        "study.begun",
        "quarantine.entered",
        "object.built",
        "object.stored",
        "batch.written",
        "batch.staged",
        "table.created",
        "table.written",
        "batch.dicom.instance",
        "batch.settled",
        "batch.unstaged",
    ],
)
def test_a_disk_that_is_full_is_told_and_mended(point: str, archive: Path, whole: Settings, warm: Warm, tmp_path: Path):
    given = {"folder": str(archive)}
    settings = settings_of(tmp_path / "lake")
    error, text = warm.value(commands.starved, "folder", tmp_path, given, point)
    assert error in ("StoreFull", "StoreUnavailable")
    assert "othing was lost" in text
    assert warm.call(commands.run_again, "folder", tmp_path, given).error == ""
    assert outcome(settings) == outcome(whole)


# A store that errs.


@pytest.fixture(scope="module")
def proxy(rgw: Rgw) -> Iterator[FaultyProxy]:
    with FaultyProxy(rgw.endpoint_url) as proxy:
        yield proxy


def s3_settings(rgw: Rgw, folder: Path, *, endpoint_url: str) -> Settings:
    settings = Settings(
        lake=f"{rgw.bucket()}/lake",
        restricted=folder / "restricted",
        s3_endpoint_url=endpoint_url,
        s3_access_key=rgw.options.access_key,
        s3_secret_key=rgw.options.secret_key,
        workers=0,
    )
    (settings.prepare_restricted() / "root.key").write_text("5f" * 32)
    return settings


@pytest.mark.rgw
@pytest.mark.parametrize("kind", ["500", "503", "reset", "lost answer"])
@pytest.mark.parametrize("methods", [_MUTATING, _READING], ids=["writing", "reading"])
def test_a_store_that_errs_now_and_then(
    kind: Kind,
    methods: frozenset[str],
    rgw: Rgw,
    proxy: FaultyProxy,
    archive: Path,
    whole: Settings,
    tmp_path: Path,
):
    proxy.heal()
    settings = s3_settings(rgw, tmp_path, endpoint_url=proxy.endpoint_url)
    proxy.fail(kind, methods=methods, share=0.2)
    told = harvest_or_tell(settings, archive)
    n_injected = sum(proxy.injected.values())
    proxy.heal()
    harvest(settings, archive)
    print(f"{kind}: {n_injected} faults, {told or 'ridden out'}")
    assert n_injected > 0
    assert "Nothing was lost" in told or not told
    assert outcome(settings) == outcome(whole)


@pytest.mark.rgw
@pytest.mark.parametrize("point", ["object.stored", "batch.dicom.instance", "batch.settled"])
def test_a_gateway_that_is_killed_and_restarted(point: str, rgw: Rgw, archive: Path, whole: Settings, tmp_path: Path):
    settings = s3_settings(rgw, tmp_path, endpoint_url=rgw.endpoint_url)
    restarts: list[threading.Thread] = []

    def restart() -> None:
        time.sleep(1)
        rgw.start_gateway()

    def kill() -> None:
        rgw.kill_gateway()
        restarts.append(threading.Thread(target=restart))
        restarts[0].start()

    with listening(Once(point, kill)):
        told = harvest_or_tell(settings, archive)
    restarts[0].join()
    print(told or "ridden out")
    harvest(settings, archive)
    assert outcome(settings) == outcome(whole)


# A ledger that restarts.


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresCluster]:
    with running_postgres() as cluster:
        yield cluster


@pytest.mark.postgres
@pytest.mark.parametrize(
    "point", ["study.discovered", "study.begun", "batch.staged", "batch.dicom.series", "batch.settled", "spool.emptied"]
)
def test_a_ledger_that_restarts_in_mid_run(
    point: str, database: PostgresCluster, archive: Path, whole: Settings, tmp_path: Path
):
    settings = settings_of(tmp_path / "lake", ledger=new_database(database.url))

    def restart() -> None:
        database.stop()
        database.start()

    with listening(Once(point, restart)):
        told = harvest_or_tell(settings, archive)
    harvest(settings, archive)
    print(told or "ridden out")
    assert outcome(settings) == outcome(whole)
    with sa.create_engine(settings.ledger, poolclass=sa.NullPool).connect() as connection:
        locks = connection.execute(sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")).scalar()
    assert locks == 0
