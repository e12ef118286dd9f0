"""De-identification on Dask: the same lake as in this process, whatever becomes of the workers."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from radlake.cli.hospitals import hospital_of_files
from radlake.config import Settings
from radlake.errors import ConfigInvalid, WorkerKilled, WorkersLost
from radlake.ingest import HarvestSummary, harvest_folder
from radlake.ingest.dask_workers import _hand_over, dask_workers
from radlake.ingest.workers import most_under_way
from support.daskcluster import DaskCluster, dask_cluster, die, nap
from support.dicom import ct_study, write
from support.lakes import picture, settings_of, states

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
N_STUDIES = 12


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for s in range(N_STUDIES):
        for n, ds in enumerate(ct_study(n=2, study=s, patient_id=f"P{s}", rows=64, columns=64)):
            write(ds, folder / f"{s:02d}" / f"{n}.dcm")
    return folder


@pytest.fixture(scope="module")
def whole(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = settings_of(tmp_path_factory.mktemp("whole") / "lake")
    harvest(settings, archive)
    return settings


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path / "dask", workers=2) as cluster:
        yield cluster


def harvest(settings: Settings, archive: Path, **options: Any) -> HarvestSummary:
    return harvest_folder(settings, archive, hospital=hospital_of_files(settings, "h1"), **options)


def test_a_local_cluster_makes_the_same_lake(archive: Path, whole: Settings, tmp_path: Path):
    settings = settings_of(tmp_path / "lake", dask="local", workers=2)
    assert harvest(settings, archive).instances_stored == 2 * N_STUDIES
    assert (picture(settings), states(settings)) == (picture(whole), states(whole))


def test_a_worker_that_is_killed_under_load_changes_nothing(
    cluster: DaskCluster, archive: Path, whole: Settings, tmp_path: Path
):
    settings = settings_of(tmp_path / "lake", dask=cluster.address)
    done: list[int] = []

    def kill_one(step: Any) -> None:
        done.append(step.n_done)
        if step.n_done == N_STUDIES // 2:
            cluster.kill_worker(0)

    summary = harvest(settings, archive, progress=kill_one)
    assert cluster.workers[0].returncode == -signal.SIGKILL
    assert (summary.studies_complete, summary.instances_stored) == (N_STUDIES, 2 * N_STUDIES)
    assert (picture(settings), states(settings)) == (picture(whole), states(whole))


def test_both_workers_share_the_work_and_little_waits(cluster: DaskCluster, tmp_path: Path):
    settings = settings_of(tmp_path / "lake", dask=cluster.address)
    with dask_workers(settings) as pool:
        wait_for(lambda: len(pool._client.nthreads()) == 2)
        assert most_under_way(pool, settings) == 4
        assert len({future.result(60) for future in [pool.submit(nap, 0.3) for _ in range(4)]}) == 2


def test_a_job_whose_worker_dies_is_given_to_another(tmp_path: Path):
    settings = settings_of(tmp_path / "lake", dask="local", workers=1)
    marker = tmp_path / "deaths"
    marker.touch()
    with dask_workers(settings) as pool:
        assert pool.submit(die, str(marker), 1).result(120) == "done"


def test_a_job_that_kills_every_worker_is_told_and_the_others_go_on(tmp_path: Path):
    settings = settings_of(tmp_path / "lake", dask="local", workers=1)
    marker = tmp_path / "deaths"
    marker.touch()
    with dask_workers(settings) as pool:
        deadly = pool.submit(die, str(marker), 99)
        with pytest.raises(WorkerKilled, match="RADLAKE_WORKER_MEMORY"):
            deadly.result(120)
        assert pool.submit(nap, 0.0).result(120) > 0


def test_a_study_that_kills_every_worker_is_set_aside(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The executor here kills no process: that Dask tells of one is tested above."""
    from concurrent.futures import Future

    from radlake.ingest.workers import _Here

    class Deadly(_Here):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            if any("/07/" in str(file.path) for file in args[0].files):
                future: Future[Any] = Future()
                future.set_exception(WorkerKilled(n=4))
                return future
            return super().submit(fn, *args, **kwargs)

    settings = settings_of(tmp_path / "lake")
    summary = harvest(settings, archive, executor=Deadly())
    assert (summary.studies_complete, summary.studies_quarantined) == (N_STUDIES - 1, 1)
    assert summary.quarantine_by_reason == {"worker_killed": 2}


def test_a_worker_that_cannot_see_the_spool_is_told_before_anything_is_handed_out(
    cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from radlake.ingest import dask_workers as module

    settings = settings_of(tmp_path / "lake", dask=cluster.address)
    monkeypatch.setattr(Path, "touch", lambda *_, **__: None)  # the probe is not there, as on another machine
    with pytest.raises(ConfigInvalid, match="mount the restricted zone"), module.dask_workers(settings):
        pass


def test_a_scheduler_without_workers_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from radlake.ingest import dask_workers as module

    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.2)
    with dask_cluster(tmp_path / "dask", workers=0) as cluster:
        settings = settings_of(tmp_path / "lake", dask=cluster.address)
        with pytest.raises(WorkersLost, match="has no worker"), module.dask_workers(settings):
            pass


def test_a_scheduler_that_dies_ends_the_run_and_the_next_one_goes_on(archive: Path, whole: Settings, tmp_path: Path):
    settings = settings_of(tmp_path / "lake")
    with dask_cluster(tmp_path / "dask", workers=1) as cluster:
        on_dask = settings.model_copy(update={"dask": cluster.address})

        def stop(step: Any) -> None:
            if step.n_done == 6:
                threading.Thread(target=cluster.stop_scheduler).start()

        with pytest.raises(WorkersLost):
            harvest(on_dask, archive, progress=stop)
    harvest(settings, archive)
    assert (picture(settings), states(settings)) == (picture(whole), states(whole))


def test_a_scheduler_that_dies_with_a_result_in_its_hands_is_told(tmp_path: Path):
    with dask_cluster(tmp_path / "dask", workers=1) as cluster, Client(cluster.address) as client:
        task = client.submit(nap, 0)
        task.result()
        cluster.stop_scheduler()
        answer: Future[Any] = Future()
        _hand_over(task, answer)
        with pytest.raises(WorkersLost, match="the Dask scheduler is gone"):
            answer.result()


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it never came that far")
