"""Pulling a release from a real S3 store, with keys that may only read it, through a gateway that goes away."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from radlake.cli import main
from radlake.cohort.pull import Manifest, Release, chunks, manifest_text, open_release, pull
from radlake.commit_points import listening
from radlake.config import Settings, StoreSettings
from radlake.errors import StoreUnavailable
from radlake.lake.store import open_store
from support.cohorts import approved, built_everybody, lake_of_cts, released, write_cts
from support.pulling import TODAY
from support.rgw import Rgw

pytestmark = pytest.mark.rgw


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("pull-s3")
    settings = lake_of_cts(folder, write_cts(folder / "in", persons=6, slices=4))
    approved(settings, released(settings, built_everybody(settings)).release_id)
    return settings


@pytest.fixture
def remote(local: Settings, rgw: Rgw, tmp_path: Path) -> StoreSettings:
    """The release alone, in a bucket, under a prefix."""
    root = f"{rgw.bucket()}/deep/lake"
    copy = shutil.copytree(Path(local.lake) / "releases", tmp_path / "copy" / "releases")
    files = {path.relative_to(tmp_path / "copy").as_posix(): path for path in copy.rglob("*") if path.is_file()}
    open_store(root, options=rgw.options).put(files)
    return StoreSettings(
        lake=root,
        s3_endpoint_url=rgw.endpoint_url,
        s3_access_key=rgw.options.access_key,
        s3_secret_key=rgw.options.secret_key,
    )


def release_id(local: Settings) -> str:
    [path] = (Path(local.lake) / "releases").iterdir()
    return path.name


def files_of(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if not name.startswith(".radlake")}


def opened(settings: StoreSettings, local: Settings) -> Release:
    return open_release(settings, release_id(local), today=TODAY)


@pytest.mark.parametrize("layout", ["dicom", "zip", "webdataset"])
def test_from_s3_it_is_what_it_is_from_a_folder(
    layout: str, local: Settings, remote: StoreSettings, tmp_path: Path
) -> None:
    for name, settings in (("near", local), ("far", remote)):
        wanted = Manifest(release_id(local))
        assert pull(opened(settings, local), tmp_path / name, manifest=wanted, layout=layout).is_complete
    assert files_of(tmp_path / "far") == files_of(tmp_path / "near")
    assert len(files_of(tmp_path / "far")) > 7


def test_the_command_needs_the_manifest_and_two_keys(
    local: Settings, remote: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = tmp_path / "mine.manifest"
    manifest.write_text(manifest_text(Manifest(release_id(local), (), remote.lake, remote.s3_endpoint_url)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RADLAKE_LAKE", raising=False)
    monkeypatch.setenv("RADLAKE_S3_ACCESS_KEY", remote.s3_access_key)
    monkeypatch.setenv("RADLAKE_S3_SECRET_KEY", remote.s3_secret_key)
    monkeypatch.setattr(sys, "argv", ["radlake", "cohort", "pull", str(manifest), "out"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert len(list((tmp_path / "out" / "dicom").rglob("*.dcm"))) == 24


def test_a_gateway_that_goes_away_ends_the_pull_and_the_same_command_goes_on(
    local: Settings, remote: StoreSettings, rgw: Rgw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_PIECE", 1500)
    n_left = 9

    def cut(point: str) -> None:
        nonlocal n_left
        n_left -= point == "pull.received"
        if n_left == 0:
            rgw.kill_gateway()

    wanted = Manifest(release_id(local))
    release = opened(remote, local)
    try:
        with listening(cut):
            done = pull(release, tmp_path / "out", manifest=wanted, workers=2)
    finally:
        rgw.start_gateway()
    assert isinstance(done.ended_by, StoreUnavailable)
    assert not done.is_complete
    pull(opened(local, local), tmp_path / "near", manifest=wanted)
    near = files_of(tmp_path / "near")
    cut_off = files_of(tmp_path / "out")
    assert 0 < len(cut_off) < len(near)
    assert {name: near.get(name) for name in cut_off if name != "retry.manifest"} == {
        name: content for name, content in cut_off.items() if name != "retry.manifest"
    }
    assert pull(opened(remote, local), tmp_path / "out", manifest=wanted).is_complete
    assert files_of(tmp_path / "out") == near
