"""Pulling a release: verified, resumed after any kill, every layout the same instances, and nobody pulls unasked."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
from typer.testing import CliRunner

from radlake.cli.cohort import app
from radlake.cohort.approval import revoke
from radlake.cohort.candidate import Candidate
from radlake.cohort.pull import (
    LAYOUTS,
    Manifest,
    Pulled,
    Release,
    ReleaseClosed,
    ReleaseUnknown,
    manifest_from_text,
    manifest_of,
    manifest_text,
    open_release,
    pull,
    run,
)
from radlake.cohort.pull.run import FolderBusy, _locked
from radlake.config import Settings, StoreSettings
from radlake.errors import ConfigInvalid, SourceMissing, StoreFull
from support.cohorts import CONTACT, NOW, approved, built_everybody, lake_of_cts, released, write_cts
from support.dicom import ct_study, presentation_state, write
from support.pulling import TODAY, pull_until_killed, warm_up
from support.warm import Warm

N_SERIES, N_SLICES = 6, 4


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("pull")
    settings = lake_of_cts(folder, write_cts(folder / "in", persons=N_SERIES, slices=N_SLICES))
    made = released(settings, built_everybody(settings))
    approved(settings, made.release_id)
    return settings


@pytest.fixture
def release(settings: Settings) -> Release:
    return opened(settings)


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> StoreSettings:
    """A lake with nothing but the release, which a test may damage."""
    shutil.copytree(Path(settings.lake) / "releases", tmp_path / "own" / "releases")
    return StoreSettings(lake=str(tmp_path / "own"))


def release_id(settings: StoreSettings) -> str:
    [path] = (Path(settings.lake) / "releases").glob("*.alpha")
    return path.name


def opened(settings: StoreSettings) -> Release:
    return open_release(settings, release_id(settings), today=TODAY)


def pulled_to(folder: Path, release: Release, layout: str = "dicom", **given: object) -> Pulled:
    return pull(release, folder, manifest=Manifest(release.release_id), layout=layout, **given)  # type: ignore[arg-type]


def wanted(release: Release) -> dict[str, str]:
    """SHA-256 of every instance, read from the store without the code under test."""
    found = {}
    for row in release.series_rows:
        path = Path(release.store.uri(f"objects/{row['object_path']}"))
        with zipfile.ZipFile(path) as archive:
            found |= {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
    return found


def files_in(folder: Path) -> dict[str, str]:
    """SHA-256 of every instance of a pulled folder, whatever its layout."""
    found = {}
    for path in folder.rglob("*"):
        if ".radlake" in path.parts or path.name.startswith("manifests-"):
            continue
        if path.suffix == ".dcm":
            found[path.name] = path.read_bytes()
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                found |= {name: archive.read(name) for name in archive.namelist()}
        elif path.suffix == ".tar":
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.name.endswith(".dcm") and (file := archive.extractfile(member)):
                        name = member.name.rpartition("/")[2].removesuffix(".dcm").replace("-", ".")
                        found[f"{name}.dcm"] = file.read()
    return {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}


@pytest.mark.parametrize("layout", ["dicom", "zip", "webdataset"])
def test_every_layout_has_the_instances_of_the_release(layout: str, release: Release, tmp_path: Path) -> None:
    done = pulled_to(tmp_path, release, layout)
    assert (done.downloaded.n_series, done.downloaded.n_bytes) == (N_SERIES, release.document["n_bytes"])
    assert done.is_complete
    assert files_in(tmp_path) == wanted(release)
    assert len(wanted(release)) == N_SERIES * N_SLICES
    again = pulled_to(tmp_path, opened_again(release), layout, by_digest=True)
    assert (again.downloaded.n_series, again.skipped.n_series, again.is_complete) == (0, N_SERIES, True)
    assert not [path for path in (tmp_path / ".radlake").rglob("*") if path.name != "lock"]


def opened_again(release: Release) -> Release:
    return replace(release)  # without what it remembers


def test_a_tree_is_sorted_by_person_study_and_series(release: Release, tmp_path: Path) -> None:
    pulled_to(tmp_path, release)
    for path in (tmp_path / "dicom").rglob("*.dcm"):
        ds = pydicom.dcmread(path)
        told = (str(ds.PatientID), ds.StudyInstanceUID, ds.SeriesInstanceUID, f"{ds.SOPInstanceUID}.dcm")
        assert path.relative_to(tmp_path / "dicom").parts == told


def test_tables_are_those_that_were_approved_and_csv_opens_in_excel(release: Release, tmp_path: Path) -> None:
    pulled_to(tmp_path, release, "tables", with_csv=True)
    for name, told in release.document["tables"].items():
        path = tmp_path / "tables" / f"{name}.parquet"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == told["sha256"]
        text = path.with_suffix(".csv").read_bytes()
        assert text.startswith(b"\xef\xbb\xbf")
        assert len(text.splitlines()) == pq.read_table(path).num_rows + 1
    assert json.loads((tmp_path / "release.json").read_text())["approval"]["licence"] == "DUA 3"
    assert not (tmp_path / "dicom").exists()


def test_catalogues_of_research_data_are_told_what_lies_there(release: Release, tmp_path: Path) -> None:
    pulled_to(tmp_path, release, "tables")
    tables = {path.name: path for path in (tmp_path / "tables").iterdir()}
    croissant = json.loads((tmp_path / "croissant.json").read_text())
    assert croissant["conformsTo"][0] == "http://mlcommons.org/croissant/1.1"
    told = {one["@id"]: one["sha256"] for one in croissant["distribution"]}
    assert told == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in tables.items()}
    for record_set in croissant["recordSet"]:
        columns = [field["source"]["extract"]["column"] for field in record_set["field"]]
        assert columns == pq.read_schema(tables[f"{record_set['name']}.parquet"]).names
    crate = {one["@id"]: one for one in json.loads((tmp_path / "ro-crate-metadata.json").read_text())["@graph"]}
    assert crate["ro-crate-metadata.json"]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.3"}
    assert all((tmp_path / part["@id"]).is_file() and part["@id"] in crate for part in crate["./"]["hasPart"])
    datacite = json.loads((tmp_path / "datacite.json").read_text())
    assert (datacite["publicationYear"], datacite["rightsList"]) == ("2026", [{"rights": "DUA 3"}])
    assert [title["lang"] for title in datacite["titles"]] == ["en", "zh"]


def test_samples_of_a_shard_are_files_of_one_name(release: Release, tmp_path: Path) -> None:
    pulled_to(tmp_path, release, "webdataset")
    [shard] = (tmp_path / "webdataset").glob("*.tar")
    samples: dict[str, set[str]] = {}
    with tarfile.open(shard) as archive:
        for member in archive:
            folder, _, name = member.name.rpartition("/")
            key, _, kind = name.partition(".")  # how webdataset splits a name
            samples.setdefault(f"{folder}/{key}", set()).add(kind)
            if kind == "json":
                told = json.load(archive.extractfile(member))  # type: ignore[arg-type]
                assert told["sop_instance_uid"] == key.replace("-", ".")
    assert len(samples) == N_SERIES * N_SLICES
    assert set(map(frozenset, samples.values())) == {frozenset({"dcm", "json"})}


def test_nifti_has_the_geometry_of_the_series(tmp_path: Path) -> None:
    archive = write_cts(tmp_path / "in", persons=5, slices=4)
    write(presentation_state(of=ct_study(n=1, patient_id="P0003", study=0)[0]), archive / "pr.dcm")
    settings = lake_of_cts(tmp_path, archive)
    approved(settings, released(settings, built_everybody(settings)).release_id)
    release = opened(settings)
    done = pulled_to(tmp_path / "out", release, "nifti")
    assert (done.downloaded.n_series, done.is_complete) == (6, True)
    pictures = sorted((tmp_path / "out" / "nifti").rglob("*.nii.gz"))
    assert len(pictures) == 5
    [first] = [row for row in release.series() if row.series_uid == pictures[0].parent.name]
    data = release.store.read(f"objects/{first.path}", offset=first.members[0].offset, length=first.members[0].length)
    ds = pydicom.dcmread(io.BytesIO(data))
    picture = nibabel.load(pictures[0])
    assert picture.shape == (ds.Columns, ds.Rows, 4)
    assert picture.header.get_zooms()[:2] == pytest.approx([float(one) for one in ds.PixelSpacing])
    assert int(np.asarray(picture.dataobj).max()) >= 0
    told = [json.loads(path.read_text()) for path in (tmp_path / "out" / "nifti").rglob("conversion.json")]
    assert sorted(len(one["files"]) for one in told) == [0, 2, 2, 2, 2, 2]
    assert pulled_to(tmp_path / "out", opened(settings), "nifti", by_digest=True).skipped.n_series == 6


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm(warm_up) as warm:
        yield warm


@pytest.mark.parametrize("layout", ["dicom", "zip", "webdataset"])
def test_killed_ten_times_it_ends_and_reads_nothing_twice(
    layout: str, settings: Settings, warm: Warm, tmp_path: Path
) -> None:
    for _ in range(10):
        ended = warm.call(pull_until_killed, settings.lake, release_id(settings), tmp_path, layout)
        assert ended.exit_code == -9, ended.error
        assert set(files_in(tmp_path).items()) <= set(wanted(opened(settings)).items())
    release, read = counting(opened(settings))
    assert pulled_to(tmp_path, release, layout).is_complete
    assert files_in(tmp_path) == wanted(release)
    assert sum(read) <= 4 / 24 * release.document["n_bytes"] + 24 * 200  # 20 of 24 chunks were there


def counting(release: Release) -> tuple[Release, list[int]]:
    """A release whose store tells how many bytes of objects were read."""
    store, read = release.store, list[int]()

    class Counting:
        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

        def read(self, name: str, *, offset: int, length: int) -> bytes:
            if name.startswith("objects/"):
                read.append(length)
            return store.read(name, offset=offset, length=length)

    return replace(release, store=Counting()), read  # type: ignore[arg-type]


def object_of(own: StoreSettings, release: Release, number: int) -> Path:
    return Path(own.lake) / "releases" / release.release_id / "objects" / release.series_rows[number]["object_path"]


def test_damaged_and_missing_objects_fail_alone_and_the_retry_manifest_brings_them(
    own: StoreSettings, tmp_path: Path
) -> None:
    release = opened(own)
    whole = wanted(release)
    damaged, missing = object_of(own, release, 1), object_of(own, release, 4)
    kept = {path: path.read_bytes() for path in (damaged, missing)}
    damaged.chmod(0o600)
    damaged.write_bytes(kept[damaged].replace(b"DICM", b"DICN"))
    missing.unlink()
    out = tmp_path / "out"
    done = pulled_to(out, release)
    uids = [release.series_rows[n]["series_instance_uid"] for n in (1, 4)]
    assert set(done.failed) == set(uids)
    assert "another digest" in done.failed[uids[0]]
    assert "does not exist" in done.failed[uids[1]]
    assert (done.downloaded.n_series, done.n_left, done.is_complete) == (4, 2, False)
    assert set(files_in(out).items()) < set(whole.items())
    for path, content in kept.items():
        path.write_bytes(content)
    result = CliRunner().invoke(app, ["pull", str(out / "retry.manifest"), str(out), "--json"], obj=own)
    assert json.loads(result.stdout)["downloaded"]["n_series"] == 2
    assert files_in(out) == whole
    assert not (out / "retry.manifest").exists()


@pytest.mark.parametrize("layout", ["dicom", "zip", "webdataset"])
def test_what_was_changed_or_lost_at_home_is_mended(layout: str, release: Release, tmp_path: Path) -> None:
    pulled_to(tmp_path, release, layout)
    victim = max((path for path in (tmp_path / layout).rglob("*") if path.is_file()), key=lambda p: p.name)
    content = bytearray(victim.read_bytes())
    content[content.index(b"DICM") + 200] ^= 1
    victim.write_bytes(content)
    assert pulled_to(tmp_path, opened_again(release), layout).downloaded.n_series == 0  # names and sizes are right
    assert pulled_to(tmp_path, opened_again(release), layout, by_digest=True).downloaded.n_series > 0
    assert files_in(tmp_path) == wanted(release)
    victim.write_bytes(content[:-9])
    pulled_to(tmp_path, opened_again(release), layout)
    assert files_in(tmp_path) == wanted(release)


def test_a_changed_zip_between_its_members_is_noticed(own: StoreSettings, tmp_path: Path) -> None:
    release = opened(own)
    path = object_of(own, release, 0)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"PK\x01\x03", 1))
    done = pulled_to(tmp_path / "out", release, "zip")
    [reason] = done.failed.values()
    assert "its digest differs" in reason
    assert len(list((tmp_path / "out" / "zip").rglob("*.zip"))) == N_SERIES - 1


def test_a_table_that_is_not_what_was_approved_is_refused(own: StoreSettings, tmp_path: Path) -> None:
    path = Path(own.lake) / "releases" / release_id(own) / "tables" / "person.parquet"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    result = CliRunner().invoke(app, ["pull", release_id(own), str(tmp_path / "out")], obj=own)
    assert "its SHA-256 differs" in str(result.exception)
    assert CONTACT in str(result.exception)
    assert not (tmp_path / "out" / "tables" / "person.parquet").exists()


@contextmanager
def disk_of(free: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))  # type: ignore[attr-defined]
        yield


def test_too_small_a_disk_is_told_before_anything_is_fetched(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with disk_of(64 << 20, monkeypatch), pytest.raises(StoreFull, match="bytes are to come"):
        pulled_to(tmp_path, release)
    assert files_in(tmp_path) == {}
    assert pulled_to(tmp_path, release).is_complete


def test_nothing_has_its_name_before_it_is_durable(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_sync = list[int]()

    def full(handle: int) -> None:
        assert os.fstat(handle).st_dev == tmp_path.stat().st_dev
        at_sync.append(len(list(tmp_path.glob("dicom/*/*/*"))))
        raise OSError(errno.ENOSPC, "the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(run, "syncfs", full)
        with pytest.raises(StoreFull):
            pulled_to(tmp_path, release)
    assert set(at_sync) == {0}
    assert not list(tmp_path.glob("dicom/*/*/*"))
    assert len(manifest_from_text((tmp_path / "retry.manifest").read_text()).series) == N_SERIES
    again, read = counting(opened_again(release))
    assert pulled_to(tmp_path, again).is_complete
    assert sum(read) < release.document["n_bytes"]  # what was received is there
    assert files_in(tmp_path) == wanted(release)


def test_waiting_revoked_and_expired_releases_are_refused_with_whom_to_ask(settings: Settings, tmp_path: Path) -> None:
    made = released(settings, built_everybody(settings), "waiting")
    with pytest.raises(ReleaseClosed, match=f"waits for approval. Ask {CONTACT}"):
        open_release(settings, made.release_id, today=TODAY)
    approved(settings, made.release_id)
    assert open_release(settings, made.release_id, today=date(2027, 1, 1)).document["n_persons"] == N_SERIES
    with pytest.raises(ReleaseClosed, match=f"expired on 2027-01-01. Ask {CONTACT}"):
        open_release(settings, made.release_id, today=date(2027, 1, 2))
    revoke(settings, made.release_id, by="committee", why="2026-18", now=NOW)
    with pytest.raises(ReleaseClosed, match=f"was revoked, .*Ask {CONTACT}"):
        open_release(settings, made.release_id, today=TODAY)
    with pytest.raises(SourceMissing):
        open_release(settings, "no.such.release", today=TODAY)
    with pytest.raises(ConfigInvalid, match="neither a file nor the id"):
        open_release(settings, "../../restricted", today=TODAY)


def test_a_manifest_is_read_as_it_was_written_by_whatever_editor() -> None:
    whole = Manifest("a.v1.0.p", ("1.2.3", "1.2.4"), "s3://bucket/lake", "https://store.example")
    text = manifest_text(whole)
    assert manifest_from_text(text) == whole
    assert manifest_from_text("\ufeff" + text.replace("\n", "\r\n") + "\r\n# a note\r\n1.2.3\r\n") == whole
    with pytest.raises(ConfigInvalid) as caught:
        manifest_from_text("# radlake manifest 9\nseries\n1.2.3\nhello,world\n")
    told = str(caught.value)
    for problem in ("line 1:", "line 2: 'series'", "line 4: 'hello,world'", "'# release: ID' is missing"):
        assert problem in told


def test_a_manifest_that_was_cut_off_does_not_mean_everything() -> None:
    text = manifest_text(Manifest("a.v1.0.p", ("1.2.3", "1.2.4")))
    with pytest.raises(ConfigInvalid, match="it was cut off"):
        manifest_from_text(text.partition("1.2.3")[0])
    assert manifest_from_text(text.replace("1.2.3\n", "")).series == ("1.2.4",)
    assert manifest_from_text("# radlake manifest 1\n# release: a.v1.0.p\n").series == ()


def test_a_manifest_of_another_encoding_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m.manifest"
    path.write_text(manifest_text(Manifest("a.v1.0.p")), encoding="utf-16")
    with pytest.raises(ConfigInvalid, match="no text in UTF-8"):
        manifest_of(str(path), StoreSettings())


def test_a_manifest_says_where_the_lake_is_unless_somebody_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.manifest"
    path.write_text(manifest_text(Manifest("a.v1.0.p", (), "s3://bucket/lake", "https://store.example")))
    monkeypatch.delenv("RADLAKE_LAKE", raising=False)
    _, found = manifest_of(str(path), StoreSettings(s3_access_key="env:KEY"))
    assert (found.lake, found.s3_endpoint_url, found.s3_access_key) == (
        "s3://bucket/lake",
        "https://store.example",
        "env:KEY",
    )
    _, found = manifest_of(str(path), StoreSettings(lake="s3://other/lake"))
    assert (found.lake, found.s3_endpoint_url) == ("s3://other/lake", "")
    with pytest.raises(SourceMissing):
        manifest_of(str(tmp_path / "none.manifest"), StoreSettings())


def test_a_manifest_of_some_series_brings_them_and_refuses_others_with_the_nearest(
    release: Release, tmp_path: Path
) -> None:
    uid = release.series_rows[2]["series_instance_uid"]
    done = pull(release, tmp_path, manifest=Manifest(release.release_id, (uid,)))
    assert (done.downloaded.n_series, {path.name for path in (tmp_path / "dicom").glob("*/*/*")}) == (1, {uid})
    with pytest.raises(ConfigInvalid, match=f"nearest: {uid}"):
        pull(opened_again(release), tmp_path, manifest=Manifest(release.release_id, (uid[:-1],)))


def test_a_folder_has_one_release_and_one_pull(settings: Settings, release: Release, tmp_path: Path) -> None:
    pulled_to(tmp_path, release, "tables")
    other: Candidate = released(settings, built_everybody(settings), "other")
    approved(settings, other.release_id)
    with pytest.raises(ConfigInvalid, match="it holds the release"):
        pulled_to(tmp_path, open_release(settings, other.release_id, today=TODAY))
    with _locked(tmp_path), pytest.raises(FolderBusy):
        pulled_to(tmp_path, release)


def test_an_unknown_layout_is_told(own: StoreSettings, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["pull", release_id(own), str(tmp_path), "--layout", "hdf5"], obj=own)
    assert all(name in str(result.exception) for name in LAYOUTS)


def test_who_pulls_needs_nothing_of_the_platform(settings: Settings, tmp_path: Path) -> None:
    """A process that cannot import what only the extra `server` brings, with no restricted zone anywhere."""
    shutil.copytree(Path(settings.lake) / "releases", tmp_path / "lake" / "releases")
    with (Path(__file__).parents[3] / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    names = {re.split(r"[\[<>=]", one)[0] for one in project["optional-dependencies"]["server"]}
    names -= {re.split(r"[\[<>=]", one)[0] for one in project["dependencies"]}
    assert {"duckdb", "deltalake", "sqlalchemy"} <= names
    blocked = {re.sub(r"[-.]", "_", name) for name in names} | {"airflow", "distributed", "jwt", "gdcm", "psycopg2"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RADLAKE_")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = (
            f"import sys; sys.modules.update(dict.fromkeys({sorted(blocked)!r})); sys.argv[1:] = {arguments!r}\n"
            "from radlake.cli import main; main()"
        )
        command = [sys.executable, "-X", "importtime", "-c", code]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    done = run("--lake", str(tmp_path / "lake"), "cohort", "pull", release_id(settings), "out")
    assert done.returncode == 0, done.stderr
    assert not re.search(r"\| +pandas\n", done.stderr)  # it takes longer to import than many a pull
    assert files_in(tmp_path / "out") == wanted(opened(settings))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake", "out"]
    assert [path.name for path in (tmp_path / "lake").iterdir()] == ["releases"]
    assert (
        done.stdout.split()
        == f"""
        series bytes {"─" * 40} downloaded 6 {opened(settings).document["n_bytes"]:,} skipped (here already) 0 0
        failed 0 out holds {release_id(settings)}, for lung nodules, until 2027-01-01
        under DUA 3; questions: {CONTACT}
        """.split()
    )
    exported = run("--lake", str(tmp_path / "lake"), "cohort", "export", release_id(settings), "omop", "--as", "omop")
    assert exported.returncode == 0, exported.stderr
    assert pq.read_table(tmp_path / "omop" / "image_occurrence.parquet").num_rows == N_SERIES
    refused = run("--lake", str(tmp_path / "lake"), "sql", "SELECT 1")
    assert (refused.returncode, "pip install 'radlake[server]'" in refused.stderr) == (1, True), refused.stderr


def test_a_release_that_is_not_there_says_where_to_look(settings: Settings) -> None:
    with pytest.raises(ReleaseUnknown, match=r"has no release nonsuch\.v1, .*\n.*--lake"):
        open_release(settings, "nonsuch.v1", today=TODAY)


def test_a_manifest_of_another_release_is_refused_in_few_lines(settings: Settings, release: Release) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        list(release.series([f"2.25.{n}" for n in range(10_000)]))
    assert "nor are 9,990 more of 10,000: is it of another release?" in str(caught.value)
    assert len(str(caught.value).splitlines()) < 20
