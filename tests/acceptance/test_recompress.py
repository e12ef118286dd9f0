"""Recompression of a harvested lake: fewer bytes, the same pixels, numbers and resends, whatever interrupts it."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from radlake.cli import main
from radlake.cli.hospitals import hospital_of_files
from radlake.config import Settings
from radlake.errors import LedgerBusy
from radlake.ingest import HarvestSummary, harvest_folder
from radlake.ingest.certify import verify
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from radlake.lake.upkeep import tidy
from radlake.recompress import estimate_hospital, instance, recompress_hospital, run
from support.dicom import ct_study, image_study, write
from support.killing import run_killed
from support.lakes import picture, settings_of
from support.recompress import pixels

_FACTS = {
    "dicom.study": "* EXCLUDE (study_bytes)",
    "dicom.series": "* EXCLUDE (series_bytes, object_bytes, object_path)",
    "dicom.instance": "* EXCLUDE (object_path, object_offset, instance_bytes, pixel_offset, digest,"
    " transfer_syntax_uid)",
}
_HTJ2K = "1.2.840.10008.1.2.4.201"


def _smooth(ds: Dataset, number: int) -> Dataset:
    """With pixels that compress; those of the phantom are noise."""
    ds.Rows = ds.Columns = 64
    slope = np.add.outer(np.arange(64), np.arange(64)) * (number + 3) % (1 << ds.BitsStored)
    ds.PixelData = slope.astype("<i2" if ds.PixelRepresentation else "<u2").tobytes()
    return ds


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    studies = [
        ct_study(n=3, patient="李雷"),
        image_study("MR", n=2, series=2, patient="韩梅梅", patient_id="P2", study_date="20260115"),
        image_study("DX", n=1, patient="Wang^Fang", patient_id="P3"),
    ]
    for s, study in enumerate(studies):
        for n, ds in enumerate(study):
            write(_smooth(ds, n), folder / f"{s}" / f"{n}.dcm")
    return folder


@pytest.fixture(scope="module")
def native(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = settings_of(tmp_path_factory.mktemp("native") / "lake")
    harvest(settings, archive)
    return settings


@pytest.fixture
def settings(native: Settings, tmp_path: Path) -> Settings:
    """A harvested lake of one's own."""
    shutil.copytree(native.lake, tmp_path / "lake")
    return settings_of(tmp_path / "lake")


@pytest.fixture(scope="module")
def uninterrupted(native: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("whole") / "lake"
    shutil.copytree(native.lake, folder)
    settings = settings_of(folder)
    recompress_hospital(settings, "h1")
    return settings


def harvest(settings: Settings, archive: Path) -> HarvestSummary:
    return harvest_folder(settings, archive, hospital=hospital_of_files(settings, "h1"))


def rows(settings: Settings, sql: str) -> list[Any]:
    with duck.connect(Lake.from_settings(settings)) as connection:
        return connection.execute(sql).fetchall()


def facts(settings: Settings) -> dict[str, list[Any]]:
    return {table: rows(settings, f"SELECT {columns} FROM {table} ORDER BY ALL") for table, columns in _FACTS.items()}


def instances(settings: Settings) -> dict[str, bytes]:
    """Part-10 files by SOP Instance UID, read as their rows say."""
    objects = Lake.from_settings(settings).objects
    return {
        uid: objects.read(path, offset, length)
        for uid, path, offset, length in rows(
            settings, "SELECT sop_instance_uid, object_path, object_offset, instance_bytes FROM dicom.instance"
        )
    }


def tidied(settings: Settings, *, days: int) -> None:
    ledger = Ledger(settings.ledger)
    tidy(Lake.from_settings(settings), ledger=ledger, retention=timedelta(days=days))
    ledger.close()


def objects(settings: Settings) -> set[str]:
    return set(Lake.from_settings(settings).objects.list())


def test_fewer_bytes_and_nothing_else(native: Settings, settings: Settings):
    done = recompress_hospital(settings, "h1")
    assert (done.whole.n_instances, done.n_objects, dict(done.left), dict(done.refused)) == (8, 4, {}, {})
    assert facts(settings) == facts(native)
    assert list(verify(settings)) == []  # the ledger knows the new digests
    before, after = instances(native), instances(settings)
    assert {uid: np.array_equal(pixels(after[uid]), pixels(before[uid])) for uid in before} == dict.fromkeys(
        after, True
    )
    assert (done.whole.bytes_before, done.whole.bytes_after) == tuple(
        sum(map(len, files.values())) for files in (before, after)
    )
    assert rows(settings, "SELECT DISTINCT transfer_syntax_uid FROM dicom.instance") == [(_HTJ2K,)]
    for uid, offset in rows(settings, "SELECT sop_instance_uid, pixel_offset FROM dicom.instance"):
        assert after[uid][offset - 4 : offset + 4] == b"\xff\xff\xff\xff\xfe\xff\x00\xe0"
        assert dcmread(io.BytesIO(after[uid])).file_meta.TransferSyntaxUID == _HTJ2K
    sums = """
        SELECT sum(study_bytes) = (SELECT sum(instance_bytes) FROM dicom.instance)
            AND sum(study_bytes) = (SELECT sum(series_bytes) FROM dicom.series)
        FROM dicom.study
    """
    assert rows(settings, sums) == [(True,)]
    sizes = Lake.from_settings(settings).objects.size
    assert all(sizes(path) == n for path, n in rows(settings, "SELECT object_path, object_bytes FROM dicom.series"))


def test_running_again_does_nothing(settings: Settings):
    recompress_hospital(settings, "h1")
    before, version = picture(settings), Lake.from_settings(settings).tables.version("dicom.instance")
    again = recompress_hospital(settings, "h1")
    assert (again.whole.n_instances, dict(again.left)) == (0, {"compressed": 8})
    assert picture(settings) == before
    assert Lake.from_settings(settings).tables.version("dicom.instance") == version


def test_a_resend_of_the_source_is_still_a_resend(settings: Settings, archive: Path, tmp_path: Path):
    recompress_hospital(settings, "h1")
    before = picture(settings)
    again = harvest(settings, archive)
    assert (again.instances_stored, again.instances_duplicate, again.instances_quarantined) == (0, 8, 0)
    other = tmp_path / "other bytes, same content"  # as another association writes it
    for path in archive.rglob("*.dcm"):
        ds = dcmread(path)
        ds.file_meta.ImplementationVersionName = "ANOTHER"
        (other / path.parent.name).mkdir(parents=True, exist_ok=True)
        ds.save_as(other / path.parent.name / path.name)
    again = harvest(settings, other)
    assert (again.instances_stored, again.instances_duplicate, again.instances_quarantined) == (0, 8, 0)
    assert picture(settings) == before


def test_late_slices_join_a_recompressed_study(settings: Settings, tmp_path: Path):
    recompress_hospital(settings, "h1")
    late = ct_study(n=4, patient="李雷")[3]
    write(_smooth(late, 3), tmp_path / "late" / "4.dcm")
    assert harvest(settings, tmp_path / "late").instances_stored == 1
    done = recompress_hospital(settings, "h1")
    assert (done.whole.n_instances, dict(done.left)) == (1, {"compressed": 8})
    query = """
        SELECT n_instances, study_bytes = (
            SELECT sum(instance_bytes) FROM dicom.instance WHERE instance.study_instance_uid = study.study_instance_uid
        )
        FROM dicom.study WHERE modality_group = 'CT'
    """
    assert rows(settings, query) == [(4, True)]


def test_tidy_deletes_the_old_objects_when_nobody_can_ask_for_them(native: Settings, settings: Settings):
    lake = Lake.from_settings(settings)
    version = lake.tables.version("dicom.instance") or 0
    recompress_hospital(settings, "h1")
    old, both = objects(native), objects(settings)
    tidied(settings, days=7)
    assert objects(settings) == both, "a reader of the older version may still come"
    lake.tables.pin("cohort", {"dicom.instance_v1": version})
    tidied(settings, days=0)
    assert objects(settings) == both, "the pin keeps them"
    lake.tables.unpin("cohort")
    ledger = Ledger(settings.ledger)
    with ledger.lock("h1"):
        tidied(settings, days=0)
    ledger.close()
    assert objects(settings) == both, "a harvest is under way"
    tidied(settings, days=0)
    assert objects(settings) == both - old
    assert len(instances(settings)) == 8


@pytest.mark.parametrize("point", ["batch.staged", "batch.dicom.instance"])
def test_a_harvest_finishes_what_a_killed_recompression_began(
    point: str, settings: Settings, uninterrupted: Settings, archive: Path
):
    run_killed(recompress_hospital, settings, "h1", point=point)
    assert harvest(settings, archive).instances_duplicate == 8
    assert picture(settings) == picture(uninterrupted)


def test_small_batches_and_worker_processes_make_the_same_lake(settings: Settings, uninterrupted: Settings):
    with_workers = settings.model_copy(update={"workers": 2})
    assert recompress_hospital(with_workers, "h1", limit=1, batch_instances=1).n_objects == 1
    assert recompress_hospital(with_workers, "h1", batch_instances=1).n_objects == 3
    assert picture(settings) == picture(uninterrupted)


def test_a_harvest_under_way_is_not_disturbed(settings: Settings):
    before = picture(settings)
    ledger = Ledger(settings.ledger)
    with ledger.lock("h1"), pytest.raises(LedgerBusy):
        recompress_hospital(settings, "h1")
    ledger.close()
    assert picture(settings) == before


def test_rows_that_went_meanwhile_do_not_come_back(
    native: Settings, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    """A person opts out while the series is being encoded."""
    lake = Lake.from_settings(settings)
    honest = run.swap

    def after_an_opt_out(*arguments: Any) -> Any:
        for table in ("dicom.instance", "dicom.series", "dicom.study"):
            with duck.connect(lake) as connection:
                found = connection.sql(
                    f"SELECT * FROM {table} WHERE study_month = (SELECT min(study_month) FROM {table})"
                )
                gone = found.to_arrow_table()
            keys = gone.select(["hospital_id", "study_instance_uid", "study_month"])
            lake.tables.commit_batch(table, gone.slice(0, 0), batch_id=f"opt-out-{table}", replace=keys)
        return honest(*arguments)

    monkeypatch.setattr(run, "swap", after_an_opt_out)
    done = recompress_hospital(settings, "h1")
    assert (done.n_objects, done.n_overtaken) == (2, 2)
    assert len(instances(settings)) == 4


def test_a_lying_encoder_changes_nothing(settings: Settings, native: Settings, monkeypatch: pytest.MonkeyPatch):
    honest = instance.encode_frame

    def lying(frame: Any, **kwargs: Any) -> bytes:
        stream = bytearray(honest(frame, **kwargs) or b"")
        stream[-20] ^= 0x01
        return bytes(stream)

    monkeypatch.setattr(instance, "encode_frame", lying)
    done = recompress_hospital(settings, "h1")
    assert (dict(done.refused), done.whole.n_instances) == ({"decode_differs": 4}, 0)
    assert picture(settings) == picture(native)


def test_an_estimate_is_near_and_writes_nothing(settings: Settings, native: Settings):
    estimated = estimate_hospital(settings, "h1")
    assert picture(settings) == picture(native)
    assert estimated.by_modality == recompress_hospital(settings, "h1").by_modality, "the sample is the whole here"


def call(monkeypatch: pytest.MonkeyPatch, settings: Settings, *arguments: str) -> Iterator[int]:
    monkeypatch.setenv("RADLAKE_LAKE", settings.lake)
    monkeypatch.setattr(sys, "argv", ["radlake", "recompress", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    yield int(end.value.code or 0)


def test_the_command_tells_what_it_did(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert [*call(monkeypatch, settings, "--dry-run", "--json")] == [0]
    estimated = json.loads(capsys.readouterr().out)
    assert (estimated["is_estimate"], estimated["n_instances"], estimated["price_fen_per_gb_month"]) == (True, 8, 12)
    assert [*call(monkeypatch, settings, "--json")] == [0]
    done = json.loads(capsys.readouterr().out)
    gb = (done["bytes_before"] - done["bytes_after"]) / 2**30
    assert done["saved_yuan"] == round(gb * 0.12 * 12 * 30, 2)
    assert sum(sizes["n_instances"] for sizes in done["by_modality"].values()) == done["n_instances"] == 8
    assert [*call(monkeypatch, settings)] == [0]
    assert "left as they are: compressed 8" in capsys.readouterr().out
    assert [*call(monkeypatch, settings, "--hospital", "nobody")] == [2]
