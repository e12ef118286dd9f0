"""What a hospital's folder can do to a run: nothing is lost, nothing stops the others, no path is published."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from radlake.cli.hospitals import hospital_of_files
from radlake.config import Settings
from radlake.errors import ConfigInvalid, SourceMissing, StoreUnavailable, WorkersLost
from radlake.ingest import HarvestSummary, harvest_folder, replay_quarantine, study
from radlake.ingest.job import IngestJob
from radlake.ingest.packing import Packing
from radlake.ingest.reading import Readable, Reading
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger, LedgerUnusable
from support.dicom import ct_study, dicom_bytes, image_study, uid, write, write_all
from support.lakes import settings_of, states


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path / "lake")


@pytest.fixture
def cd(tmp_path: Path) -> Path:
    folder = tmp_path / "cd"
    write_all(ct_study(n=2), folder)
    return folder


def harvest(settings: Settings, folder: Path) -> HarvestSummary:
    return harvest_folder(settings, folder, hospital=hospital_of_files(settings, "h1"))


def query(settings: Settings, sql: str) -> list[tuple]:
    with duck.connect(Lake.from_settings(settings)) as connection:
        return connection.execute(sql).fetchall()


def held(settings: Settings) -> list[dict]:
    ledger = Ledger(settings.ledger)
    try:
        return ledger.held()
    finally:
        ledger.close()


@pytest.mark.parametrize("day", ["00010101", "99991231", "20261399", "0000", "18991231"])
def test_a_console_without_a_clock_stops_nothing(settings: Settings, cd: Path, day: str) -> None:
    write_all(image_study("DX", patient_id="P2", accession="A2", study_date=day), cd)
    summary = harvest(settings, cd)
    assert (summary.studies_complete, summary.instances_stored) == (2, 3)


def test_a_study_that_breaks_the_code_is_set_aside_and_the_others_are_stored(
    settings: Settings, cd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all(image_study("DX", patient_id="SECRET"), cd)
    whole = study.identify_person

    def broken(datasets: list, **options: object) -> object:
        if datasets[0].PatientID == "SECRET":
            raise ZeroDivisionError("SECRET")
        return whole(datasets, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(study, "identify_person", broken)
    summary = harvest(settings, cd)
    assert (summary.studies_complete, summary.studies_quarantined) == (1, 1)
    assert [(item["reason"], item["detail"]) for item in held(settings)] == [("unexpected_error", "ZeroDivisionError")]


def test_one_instance_in_two_series_with_other_content_is_a_conflict(settings: Settings, tmp_path: Path) -> None:
    first, second = ct_study(n=1)[0], ct_study(n=1, seed=5)[0]
    second.SeriesInstanceUID = uid("another series")
    write(first, tmp_path / "cd" / "1.dcm")
    write(second, tmp_path / "cd" / "2.dcm")
    summary = harvest(settings, tmp_path / "cd")
    assert (summary.instances_stored, summary.instances_quarantined, summary.studies_partial) == (1, 1, 1)
    assert query(settings, "SELECT count(*), sum(n_instances) FROM dicom.series") == [(1, 1)]
    assert len(list((tmp_path / "lake" / "objects").rglob("*.zip"))) == 1


def test_two_hospitals_with_one_study_keep_a_row_each_when_more_of_it_comes(settings: Settings, tmp_path: Path) -> None:
    instances = ct_study(n=3, patient_id="11010519491231002X")  # known everywhere: the same person, the same month
    write_all(instances[:1], tmp_path / "first")
    write_all(instances, tmp_path / "whole")
    for folder in ("first", "whole"):
        for name in ("h1", "h2"):
            harvest_folder(settings, tmp_path / folder, hospital=hospital_of_files(settings, name))
    counts = "SELECT hospital_id, n_instances, study_bytes FROM dicom.study ORDER BY ALL"
    sums = "SELECT hospital_id, count(*), sum(instance_bytes) FROM dicom.instance GROUP BY ALL ORDER BY ALL"
    assert query(settings, counts) == query(settings, sums)
    assert [n for _, n, _ in query(settings, counts)] == [3, 3]


@pytest.mark.parametrize("when", ["before it is read", "after all are read"])
def test_a_file_that_vanishes_leaves_its_study_partial(
    settings: Settings, cd: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    victim = sorted(cd.iterdir())[0]
    place, name = (study, "read_files") if when == "before it is read" else (study, "identify_person")
    whole = getattr(place, name)

    def vanishing(given: object, **options: object) -> object:
        victim.unlink(missing_ok=True)
        return whole(given, **options)

    monkeypatch.setattr(place, name, vanishing)
    summary = harvest(settings, cd)
    assert (summary.instances_stored, summary.instances_quarantined) == (1, 0)
    assert list(states(settings).values()) == [("partial", "missing 1 of 2")]


@pytest.mark.parametrize("change", ["cut", "other header", "gone"])
def test_a_slice_that_is_lost_while_it_is_copied_leaves_the_others(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    paths = []
    for number, ds in enumerate(ct_study(n=5, rows=64, columns=64)):
        paths.append(tmp_path / "series" / f"{number}.dcm")
        write(ds, paths[-1])
    victim, whole = paths[3], Packing.members

    def losing(self: Packing, items: list[Readable]) -> Iterator[Any]:
        for done, member in enumerate(whole(self, items)):
            if done == 1:
                data = victim.read_bytes()
                if change == "gone":
                    victim.unlink()
                else:
                    victim.write_bytes(data[:-100] if change == "cut" else data[:400] + b"9" + data[401:])
            yield member

    monkeypatch.setattr(Packing, "members", losing)
    summary = harvest(settings, tmp_path / "series")
    assert (summary.instances_stored, summary.instances_quarantined) == (4, 0)
    assert list(states(settings).values()) == [("partial", "missing 1 of 5")]
    monkeypatch.undo()
    with zipfile.ZipFile(next((Path(settings.lake) / "objects").rglob("*.zip"))) as series:
        assert series.testzip() is None
        assert len(series.namelist()) == 4


@pytest.mark.parametrize("place", [0, 2])
def test_a_file_that_is_exchanged_after_it_was_read_brings_no_other_person(
    settings: Settings, cd: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    write_all(instances := ct_study(n=4), cd)
    stranger = image_study("CT", patient="韩梅梅", patient_id="P0002", study=2)[0]
    whole = study.read_files

    def exchanging(job: IngestJob, **options: Any) -> Reading:
        reading = whole(job, **options)
        for item in reading.readable:
            item.ds = None  # as of those for which there was no room
            if item.sop_uid == instances[place].SOPInstanceUID:
                write(stranger, item.file.path)
        return reading

    monkeypatch.setattr(study, "read_files", exchanging)
    assert harvest(settings, cd).instances_stored == 3
    assert list(states(settings).values()) == [("partial", "missing 1 of 4")]


class _Scratched(Executor):
    """Runs each call at once, after a file became unreadable."""

    def __init__(self, victim: Path) -> None:
        self._victim = victim

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._victim.unlink()
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def test_a_file_that_cannot_be_read_to_its_end_is_named(settings: Settings, cd: Path) -> None:
    victim = sorted(cd.iterdir())[0]
    summary = harvest_folder(settings, cd, hospital=hospital_of_files(settings, "h1"), executor=_Scratched(victim))
    assert summary.unreadable == [victim.name]
    assert (summary.error_class, summary.instances_stored) == ("SourceMissing", 1)
    assert list(states(settings).values()) == [("partial", "missing 1 of 2")]


def test_what_cannot_be_opened_is_told_after_the_rest_is_stored(settings: Settings, cd: Path) -> None:
    (cd / "unmounted.dcm").symlink_to("/nonexistent/radlake/1.dcm")
    (cd / "unmounted.zip").symlink_to("/nonexistent/radlake/1.zip")
    assert harvest(settings, cd).unreadable == ["unmounted.dcm", "unmounted.zip"]
    assert [state for state, _ in states(settings).values()] == ["complete"]
    assert query(settings, "SELECT error_class, n_instances_stored FROM ops.harvest_run") == [("SourceMissing", 2)]


def test_a_path_is_not_published(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SourceMissing):
        harvest(settings, tmp_path / "李雷_13901234567")
    [(text,)] = query(settings, "SELECT error_text FROM ops.harvest_run")
    assert text.startswith("What was to be harvested does not exist")


@pytest.mark.parametrize("folder", [".", "lake", "lake/objects"])
def test_the_lake_does_not_harvest_itself(settings: Settings, tmp_path: Path, folder: str) -> None:
    with pytest.raises(ConfigInvalid, match="the lake lies there"):
        harvest(settings, tmp_path / folder)


def test_names_in_gb18030_are_kept_readable(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "cd" / os.fsdecode("张三".encode("gb18030"))
    folder.mkdir(parents=True)
    (folder / "1.dcm").write_bytes(dicom_bytes(ct_study(n=1)[0])[:-30])
    harvest(settings, tmp_path / "cd")
    assert [item["origin"] for item in held(settings)] == ["张三/1.dcm"]


def test_replay_invents_no_study_and_keeps_why_an_archive_is_held(settings: Settings, tmp_path: Path) -> None:
    write(image_study("DX", StudyInstanceUID="")[0], tmp_path / "cd" / "1.dcm")
    with zipfile.ZipFile(tmp_path / "cd" / "outer.zip", "w") as archive:
        archive.writestr("inner.zip", b"PK\x05\x06" + bytes(18))
    harvest(settings, tmp_path / "cd")
    before = held(settings)
    assert sorted(item["reason"] for item in before) == ["archive_unreadable", "uid_missing"]
    replay_quarantine(settings, hospital_of_files(settings, "h1"), held=before)
    assert held(settings) == before
    assert states(settings) == {}


def test_a_replay_without_the_bytes_releases_nothing(settings: Settings, cd: Path) -> None:
    path = sorted(cd.iterdir())[0]
    path.write_bytes(path.read_bytes()[:-30])
    harvest(settings, cd)
    [item] = held(settings)
    [kept] = (settings.restricted / "quarantine").rglob("*.dcm")
    kept.unlink()
    replay_quarantine(settings, hospital_of_files(settings, "h1"), held=[item])
    assert held(settings) == [item]
    assert [state for state, _ in states(settings).values()] == ["partial"]


def test_a_killed_worker_is_told_and_the_next_run_goes_on(cd: Path, tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "lake", workers=1)
    with pytest.raises(WorkersLost, match="Nothing was lost"):
        harvest_folder(settings, cd, hospital=hospital_of_files(settings, "h1"), progress=lambda _: _kill_workers())
    assert harvest(settings, cd).studies_complete == 1


def test_workers_die_with_a_killed_run(cd: Path, tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "lake", workers=2)
    code = f"""
import os, signal
from pathlib import Path
import radlake.ingest.running as running
from radlake.cli.hospitals import hospital_of_files
from radlake.config import Settings
from radlake.ingest import harvest_folder
settings = Settings(lake={settings.lake!r}, workers=2)
running.publish = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
harvest_folder(settings, Path({str(cd)!r}), hospital=hospital_of_files(settings, "h1"))
"""
    killed = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    assert killed.wait(timeout=60) == -signal.SIGKILL
    left: list[Path] = []
    for _ in range(200):
        if not (left := [path for path in _stats() if _field(path, 3) == str(killed.pid)]):
            return
        time.sleep(0.05)
    raise AssertionError(left)


def _kill_workers() -> None:
    """Every worker of this process's pools: the children of the fork server."""
    mine = {str(os.getpid())}
    for _ in range(200):
        parents = {path.parent.name: _field(path, 1) for path in _stats()}
        servers = {pid for pid, parent in parents.items() if parent in mine}
        workers = [int(pid) for pid, parent in parents.items() if parent in servers]
        if sum(_is_killed(pid) for pid in workers):
            return
        time.sleep(0.05)
    raise AssertionError("no worker was started")


def _is_killed(pid: int) -> bool:
    """Not one that ended by itself meanwhile."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _stats() -> list[Path]:
    return list(Path("/proc").glob("[0-9]*/stat"))


def _field(stat: Path, number: int) -> str:
    """State, parent, group, session, ... of a process; empty when it is gone or only waits to be buried."""
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[number]


def test_no_scheduler_is_told_in_words(cd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dask.config

    importlib.import_module("distributed")  # first, or its defaults would go with what is set here

    settings = settings_of(tmp_path / "lake", dask="tcp://127.0.0.1:1")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "100ms"}),
        pytest.raises(WorkersLost, match="no Dask scheduler"),
    ):
        harvest(settings, cd)


def test_a_ledger_that_does_not_answer_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no database " * 20)
    with pytest.raises(LedgerUnusable, match="not a database"):
        Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    with pytest.raises(StoreUnavailable, match="refused") as raised:
        Ledger("postgresql+psycopg://radlake:s3cret@127.0.0.1:1/ledger")
    assert "s3cret" not in str(raised.value)


def test_two_persons_in_one_study_are_set_aside(settings: Settings, tmp_path: Path) -> None:
    one, other = ct_study(n=2)
    other.PatientID, other.PatientName, other.PatientBirthDate = "P0999", "韩梅梅", "19911224"
    write_all([one, other], tmp_path / "mixed")
    summary = harvest(settings, tmp_path / "mixed")
    assert dict(summary.quarantine_by_reason) == {"patient_identity_conflict": 2}
    assert summary.instances_stored == 0


def test_what_one_instance_tells_is_searched_for_in_the_others(settings: Settings, tmp_path: Path) -> None:
    one, other = ct_study(n=2, patient="Ouyang^Xiaodong", patient_id="ZY70811029")
    other.SeriesInstanceUID = uid("another series")
    other.PatientName = other.PatientID = ""
    other.ProtocolName = "CT ZY70811029"
    write_all([one, other], tmp_path / "in")
    assert harvest(settings, tmp_path / "in").instances_stored == 2
    for path in (Path(settings.lake) / "objects").rglob("*.zip"):
        assert b"ZY70811029" not in path.read_bytes()
