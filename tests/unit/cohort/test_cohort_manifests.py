"""Every release carries a manifest of each study: it says what the headers say, and no more than the tables."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from typer.testing import CliRunner

from radlake.cli.cohort import app
from radlake.cohort.candidate import Candidate
from radlake.cohort.fhir.export import require_valid
from radlake.cohort.mado import export_mado, manifest_from_bundle, manifest_from_kos
from radlake.cohort.pull import Manifest, Release, open_release, pull
from radlake.config import Settings
from radlake.errors import ConfigInvalid
from radlake.lake import Lake, duck
from support.cohorts import CONTACT, approved, built_everybody, lake_of_cts, released, write_cts
from support.dicom import ct_study, sr_document, write
from support.pulling import TODAY

N_PERSONS, N_EXAMS, N_SLICES = 5, 2, 3


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("manifests")
    archive = write_cts(folder / "in", persons=N_PERSONS, exams=N_EXAMS, slices=N_SLICES)
    return lake_of_cts(folder, archive)


@pytest.fixture(scope="module")
def candidate(settings: Settings) -> Candidate:
    made = released(settings, built_everybody(settings))
    approved(settings, made.release_id)
    return made


@pytest.fixture(scope="module")
def release(settings: Settings, candidate: Candidate) -> Release:
    return open_release(settings, candidate.release_id, today=TODAY)


def kos_in(files: dict[str, Path]) -> dict[str, Dataset]:
    """By their names."""
    found = {}
    for path in files.values():
        with zipfile.ZipFile(path) as archive:
            found |= {name: dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist()}
    return found


def headers(release: Release) -> list[Dataset]:
    found = []
    for row in release.series_rows:
        with zipfile.ZipFile(Path(release.store.uri(f"objects/{row['object_path']}"))) as archive:
            found += [dcmread(io.BytesIO(archive.read(name)), stop_before_pixels=True) for name in archive.namelist()]
    return found


def test_a_manifest_of_each_study_refers_to_each_of_its_instances(candidate: Candidate, release: Release) -> None:
    found = kos_in(candidate.manifests)
    told = {
        (
            kos.PatientID,
            kos.StudyInstanceUID,
            series.SeriesInstanceUID,
            one.ReferencedSOPInstanceUID,
            one.ReferencedSOPClassUID,
        )
        for kos in found.values()
        for series in kos.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    assert told == {
        (ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.SOPClassUID)
        for ds in headers(release)
    }
    assert set(found) == {f"{kos.PatientID}/{kos.StudyInstanceUID}.dcm" for kos in found.values()}
    assert len(found) == N_PERSONS * N_EXAMS
    dates = {ds.StudyInstanceUID: (ds.StudyDate, ds.StudyTime) for ds in headers(release)}
    for kos in found.values():
        assert (kos.StudyDate, kos.StudyTime) == dates[kos.StudyInstanceUID]
        manifest = manifest_from_kos(kos)
        assert (manifest.institution, manifest.regions[0].code) == (CONTACT, "67734004")
        assert manifest.wado_url == ""


def test_nothing_of_the_lake_is_in_a_manifest(settings: Settings, candidate: Candidate) -> None:
    with duck.connect(Lake.from_settings(settings), tables=["dicom"]) as connection:
        rows = connection.execute(
            "SELECT study_instance_uid, series_instance_uid, sop_instance_uid, lower(hex(patient_key))"
            " FROM dicom.instance"
        ).fetchall()
    old = {value for row in rows for value in row}
    assert len(old) > N_PERSONS * N_EXAMS * N_SLICES
    for path in candidate.manifests.values():
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                content = archive.read(name) + name.encode()
                assert not [value for value in old if value.encode() in content]


def test_manifests_made_again_are_the_same_and_are_approved_with_the_release(
    settings: Settings, candidate: Candidate
) -> None:
    before = {name: path.read_bytes() for name, path in candidate.manifests.items()}
    again = released(settings, built_everybody(settings))
    assert {name: path.read_bytes() for name, path in again.manifests.items()} == before
    assert again.digest == candidate.digest
    assert set(candidate.document["manifests"]) == {"manifests-00001.zip"}
    approved(settings, again.release_id)


def test_a_pull_brings_manifests_that_lead_to_its_files(release: Release, tmp_path: Path) -> None:
    pull(release, tmp_path, manifest=Manifest(release.release_id))
    found = kos_in({path.name: path for path in tmp_path.glob("manifests-*.zip")})
    for kos in found.values():
        for series in kos.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence:
            folder = tmp_path / "dicom" / kos.PatientID / kos.StudyInstanceUID / series.SeriesInstanceUID
            assert {one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence} == {
                path.stem for path in folder.iterdir()
            }


def test_the_command_writes_both_formats_with_the_holders_address(
    settings: Settings, release: Release, candidate: Candidate, tmp_path: Path
) -> None:
    def run(*words: str) -> Any:
        return CliRunner().invoke(
            app, ["export", release.release_id, str(tmp_path), "--as", "mado", *words], obj=settings
        )

    assert json.loads(run("--json").stdout) == {"manifests": N_PERSONS * N_EXAMS}
    plain = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*.dcm")}
    assert {name: dcmread(io.BytesIO(content)) for name, content in plain.items()} == kos_in(candidate.manifests)
    assert run("--wado-rs", "https://pacs.example/dicom-web").exit_code == 0
    for path in tmp_path.rglob("*.dcm"):
        bundle = json.loads(path.with_suffix(".json").read_text())
        require_valid(bundle)
        kos = dcmread(path)
        assert manifest_from_bundle(bundle) == manifest_from_kos(kos)
        assert manifest_from_kos(kos).wado_url == "https://pacs.example/dicom-web"
        assert kos.SOPInstanceUID != dcmread(io.BytesIO(plain[path.relative_to(tmp_path).as_posix()])).SOPInstanceUID


def test_a_release_without_manifests_says_so(release: Release, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="carries no manifests"):
        export_mado(replace(release, document={**release.document, "metadata": {}}), tmp_path)


def test_a_report_in_a_study_is_referred_to_as_a_composite(tmp_path: Path) -> None:
    archive = write_cts(tmp_path / "in", persons=5, slices=1)
    write(ct_study(n=1, patient_id="P0000", patient="Wang^Number0000", birth_date="19600101")[0], archive / "x.dcm")
    write(sr_document(patient_id="P0000", birth_date="19600101"), archive / "sr.dcm")
    made = released(settings := lake_of_cts(tmp_path, archive), built_everybody(settings))
    kinds = {
        (item.ValueType, item.ReferencedSOPSequence[0].ReferencedSOPClassUID.startswith("1.2.840.10008.5.1.4.1.1.88."))
        for kos in kos_in(made.manifests).values()
        for item in kos.ContentSequence
        if "ReferencedSOPSequence" in item
    }
    assert kinds == {("IMAGE", False), ("COMPOSITE", True)}
