"""A policy that becomes central brings the objects in, and changes nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlake.commit_points import listening
from radlake.config import Settings
from radlake.lake import Lake
from radlake.lake.cache import FetchBusy
from radlake.residency import bring_in, fetch_study, held
from support.lakes import picture, states
from support.residency import harvested, kept_objects, the_hospital, write_archive


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def central(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return picture(harvested(tmp_path_factory.mktemp("central") / "lake", archive, policy="central"))


def turned_central(folder: Path, archive: Path) -> Settings:
    settings = harvested(folder, archive)
    text = settings.hospitals.read_text()
    settings.hospitals.write_text(text.replace("storage_policy: index", "storage_policy: central"))
    return settings


def test_the_lake_is_that_of_a_central_hospital_afterwards(
    archive: Path, central: dict[str, object], tmp_path: Path
) -> None:
    settings = turned_central(tmp_path / "lake", archive)
    before = states(settings)
    assert [one.outcome for one in bring_in(settings, the_hospital(settings))] == ["fetched", "fetched"]
    assert picture(settings) == central
    assert states(settings) == before
    assert [(item.residency, item.n_objects) for item in held(Lake.from_settings(settings))] == [("central", 2)]
    assert bring_in(settings, the_hospital(settings)) == []
    assert not list(Lake.from_settings(settings).cache.root.glob("*/*/*.zip"))


def test_what_cannot_be_brought_stays_where_it_is(archive: Path, tmp_path: Path) -> None:
    source = write_archive(tmp_path / "source")
    settings = turned_central(tmp_path / "lake", source)
    (source / "0" / "0.dcm").unlink()
    assert sorted(one.outcome for one in bring_in(settings, the_hospital(settings))) == ["fetched", "gone"]
    (left,) = kept_objects(settings)
    assert len(left.instances) == 3
    assert fetch_study(settings, the_hospital(settings), [left])[0].outcome == "gone"


def test_no_withdrawal_empties_the_cache_while_an_object_is_brought_in(archive: Path, tmp_path: Path) -> None:
    settings = turned_central(tmp_path / "lake", archive)
    lake, studies = Lake.from_settings(settings), {item.study_uid for item in kept_objects(settings)}
    n_stored = n_locked = 0

    def look(point: str) -> None:
        nonlocal n_stored, n_locked
        n_stored += point == "object.stored"
        for study in studies if point == "object.stored" else ():
            try:
                with lake.cache.lock(f"h1/{study}", timeout=0):
                    pass
            except FetchBusy:
                n_locked += 1

    with listening(look):
        bring_in(settings, the_hospital(settings))
    assert n_stored == n_locked == 4  # two are packed in the cache, and stored
