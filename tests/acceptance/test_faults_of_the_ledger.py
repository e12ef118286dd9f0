"""A ledger whose database restarts in mid-run: ridden out or told, and the next run mends all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from radlake.commit_points import listening
from radlake.config import Settings
from support.faults import Once, harvest, harvest_or_tell, outcome
from support.lakes import settings_of
from support.postgres import PostgresCluster, new_database, running_postgres

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresCluster]:
    with running_postgres() as cluster:
        yield cluster


@pytest.mark.postgres
@pytest.mark.parametrize(
    "point", ["study.discovered", "study.begun", "batch.staged", "batch.dicom.series", "batch.settled", "spool.emptied"]
)
def test_a_ledger_that_restarts_in_mid_run(
    point: str, database: PostgresCluster, small_archive: Path, whole_lake: Settings, tmp_path: Path
):
    settings = settings_of(tmp_path / "lake", ledger=new_database(database.url))

    def restart() -> None:
        database.stop()
        database.start()

    with listening(Once(point, restart)):
        told = harvest_or_tell(settings, small_archive)
    harvest(settings, small_archive)
    print(told or "ridden out")
    assert outcome(settings) == outcome(whole_lake)
    with sa.create_engine(settings.ledger, poolclass=sa.NullPool).connect() as connection:
        locks = connection.execute(sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")).scalar()
    assert locks == 0
