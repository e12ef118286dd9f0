"""A hospital that keeps its pixels gives the same rows and states as any other, and no object in the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlake.config import Settings
from radlake.ingest import harvest_folder
from radlake.lake import Lake, duck
from radlake.lake.reading import read_object
from radlake.net import FolderNode, Hospital
from support.dicom import ct_study, image_study, write
from support.lakes import picture, settings_of, states


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for s, study in enumerate([ct_study(n=3, patient="李雷"), image_study("MR", n=2, patient_id="P2")]):
        for n, ds in enumerate(study):
            write(ds, folder / f"{s}" / f"{n}.dcm")
    whole = (folder / "0" / "2.dcm").read_bytes()
    (folder / "0" / "2.dcm").write_bytes(whole[:-20])
    return folder


def harvested(folder: Path, archive: Path, *, policy: str, **given: int) -> Settings:
    settings = settings_of(folder, **given)
    node = FolderNode(path=archive)
    hospital = Hospital.model_validate(
        {"hospital_id": "h1", "name_zh": "样例", "name_en": "Sample", "storage_policy": policy, "node": node}
    )
    harvest_folder(settings, archive, hospital=hospital)
    return settings


def test_both_policies_give_equal_rows_and_states(archive: Path, tmp_path: Path) -> None:
    central = harvested(tmp_path / "central", archive, policy="central")
    index = harvested(tmp_path / "index", archive, policy="index")
    ours, theirs = picture(central), picture(index)
    assert (len(ours["objects"]), len(theirs["objects"])) == (2, 0)
    assert theirs["dicom.instance"] == ours["dicom.instance"]
    assert theirs["dicom.study"] == ours["dicom.study"]
    assert [row[:-1] for row in theirs["dicom.series"]] == [row[:-1] for row in ours["dicom.series"]]
    assert {row[-1] for row in ours["dicom.series"]} == {"central"}
    assert {row[-1] for row in theirs["dicom.series"]} == {"index"}
    assert states(index) == states(central)
    assert sorted(state for state, _ in states(index).values()) == ["complete", "partial"]


@pytest.mark.parametrize(("limit", "n_kept"), [(0, 0), (10**9, 2)])
def test_what_was_harvested_stays_in_the_cache_as_far_as_it_has_room(
    archive: Path, tmp_path: Path, limit: int, n_kept: int
) -> None:
    settings = harvested(tmp_path / "lake", archive, policy="index", cache_bytes=limit)
    lake = Lake.from_settings(settings)
    with duck.connect(lake) as connection:
        rows = connection.execute("SELECT object_path, object_bytes FROM dicom.series").fetchall()
    assert sum(lake.cache.has(path) for path, _ in rows) == n_kept
    if n_kept:
        assert lake.cache.n_bytes() == sum(n for _, n in rows)
        assert all(read_object(lake, path, 0, n)[:2] == b"PK" for path, n in rows)


def test_harvesting_again_changes_nothing(archive: Path, tmp_path: Path) -> None:
    settings = harvested(tmp_path / "lake", archive, policy="index", cache_bytes=0)
    before = picture(settings)
    harvested(tmp_path / "lake", archive, policy="index", cache_bytes=0)
    assert picture(settings) == before
