"""A release as FHIR: every resource valid, nothing that the release does not tell, everything that its headers say."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydicom import Dataset, dcmread
from typer.testing import CliRunner

from radlake.cli.cohort import app
from radlake.cohort.fhir import TYPES, export_fhir
from radlake.cohort.fhir.export import ResourceInvalid, require_valid
from radlake.cohort.fhir.resources import AGE_BAND, group_id, imaging_study
from radlake.cohort.pull import Release, open_release
from radlake.cohort.studies import studies
from radlake.config import Settings
from radlake.errors import ConfigInvalid
from support.cohorts import approved, built_everybody, lake_of_cts, released, with_findings, write_cts
from support.pulling import TODAY

N_PERSONS, N_EXAMS, N_SLICES = 6, 2, 3
REPORTS = {"A00000": "右肺气胸。未见胸腔积液。肺炎可能。", "A00011": "双肺肺气肿。"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("fhir")
    archive = write_cts(folder / "in", persons=N_PERSONS, exams=N_EXAMS, slices=N_SLICES, body_part="CHEST")
    settings = lake_of_cts(folder, archive)
    with_findings(settings, REPORTS)
    approved(settings, released(settings, built_everybody(settings)).release_id)
    return settings


@pytest.fixture(scope="module")
def release(settings: Settings) -> Release:
    [path] = (Path(settings.lake) / "releases").glob("*.alpha")
    return open_release(settings, path.name, today=TODAY)


@pytest.fixture(scope="module")
def resources(release: Release, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("ndjson")
    counts = export_fhir(release, folder)
    found = {path.stem: [json.loads(line) for line in path.read_text().splitlines()] for path in folder.iterdir()}
    assert counts == {name: len(some) for name, some in found.items()}
    return found


@pytest.fixture(scope="module")
def headers(release: Release) -> dict[str, Dataset]:
    """Every instance of the release by its UID, read without the code under test."""
    found = {}
    for row in release.series_rows:
        with zipfile.ZipFile(Path(release.store.uri(f"objects/{row['object_path']}"))) as archive:
            for name in archive.namelist():
                ds = dcmread(BytesIO(archive.read(name)), stop_before_pixels=True)
                found[str(ds.SOPInstanceUID)] = ds
    return found


def test_every_resource_is_valid(resources: dict[str, list[dict[str, Any]]]) -> None:
    assert set(resources) == set(TYPES)
    ids = set()
    for name, some in resources.items():
        for one in some:
            require_valid(one)
            assert one["resourceType"] == name
            ids.add((name, one["id"]))
    assert len(ids) == sum(map(len, resources.values()))
    for reference in references(resources):
        assert tuple(reference.split("/")) in ids


def references(found: Any) -> list[str]:
    if isinstance(found, list):
        return [one for inside in found for one in references(inside)]
    if isinstance(found, dict):
        own = [found["reference"]] if "reference" in found else []
        return own + [one for inside in found.values() for one in references(inside)]
    return []


def test_imaging_studies_say_what_the_headers_say(
    resources: dict[str, list[dict[str, Any]]], headers: dict[str, Dataset]
) -> None:
    assert len(resources["ImagingStudy"]) == N_PERSONS * N_EXAMS
    told = {}
    for study in resources["ImagingStudy"]:
        assert study["numberOfSeries"] == len(study["series"])
        assert study["numberOfInstances"] == sum(len(series["instance"]) for series in study["series"])
        for series in study["series"]:
            for one in series["instance"]:
                told[one["uid"]] = (study["id"], series["uid"], one["sopClass"]["code"], one["number"],
                                    study["subject"]["reference"], series["modality"]["code"])  # fmt: skip
            assert series["bodySite"] == {"system": "http://snomed.info/sct", "code": "816094009", "display": "CHEST"}
    assert told == {
        uid: (ds.StudyInstanceUID, ds.SeriesInstanceUID, f"urn:oid:{ds.SOPClassUID}", ds.InstanceNumber,
              f"Patient/{ds.PatientID}", ds.Modality)
        for uid, ds in headers.items()
    }  # fmt: skip
    started = {one["id"]: one["started"] for one in resources["ImagingStudy"]}
    for ds in headers.values():
        day, time = ds.StudyDate, ds.StudyTime[:6]
        expected = f"{day[:4]}-{day[4:6]}-{day[6:]}T{time[:2]}:{time[2:4]}:{time[4:]}"
        assert started[ds.StudyInstanceUID].startswith(expected)
        assert started[ds.StudyInstanceUID].endswith("+08:00")


def test_reports_say_their_findings_and_nothing_else(resources: dict[str, list[dict[str, Any]]]) -> None:
    facts = sorted(
        (one["code"]["text"], one["valueCodeableConcept"]["coding"][0]["display"]) for one in resources["Observation"]
    )
    assert facts == [
        ("emphysema", "Present"),
        ("pleural effusion", "Absent"),
        ("pneumonia", "Possible"),
        ("pneumothorax", "Present"),
    ]
    concluded = sorted(sorted(code["text"] for code in one["conclusionCode"]) for one in resources["DiagnosticReport"])
    assert concluded == [["emphysema"], ["pneumothorax"]]
    for one in resources["DiagnosticReport"]:
        assert one["status"] == "unknown"
        assert len(one["imagingStudy"]) == 1
        assert not {"conclusion", "presentedForm", "performer"} & set(one)


def test_a_group_has_the_persons_and_they_have_no_names(
    resources: dict[str, list[dict[str, Any]]], release: Release
) -> None:
    [group] = resources["Group"]
    assert group["identifier"] == [{"system": "urn:radlake:release", "value": release.release_id}]
    assert group["quantity"] == len(group["member"]) == N_PERSONS
    for person in resources["Patient"]:
        assert set(person) == {"resourceType", "id", "meta", "extension", "identifier", "gender"}
        [band] = person["extension"]
        assert (band["url"], band["valueRange"]["low"]["value"]) == (AGE_BAND, 65)
        assert person["gender"] == "male"


def test_an_id_of_a_group_is_one_of_fhir() -> None:
    assert group_id("chest_ct.v1.0123456789ab.a-b_c") == "chest..ct.v1.0123456789ab.a-b..c"
    longest = [group_id(f"{'a' * 40}.v1.0123456789ab.{'b' * 60}{end}") for end in "cd"]
    assert len(set(longest)) == 2
    for found in longest:
        require_valid({"resourceType": "Group", "id": found, "type": "person", "actual": True})


def test_what_is_not_valid_is_not_written(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = next(studies(release.table))
    study.series[0].instances[0]["sop_instance_uid"] = "no uid of DICOM"  # type: ignore[index]
    with pytest.raises(ValidationError):
        require_valid(imaging_study(study, release.document))
    monkeypatch.setattr("radlake.cohort.fhir.export.studies", lambda _: iter([study]))
    with pytest.raises(ResourceInvalid, match="ImagingStudy"):
        export_fhir(release, tmp_path, types=["ImagingStudy"])
    assert not list(tmp_path.glob("*.ndjson"))


def test_the_command_writes_some_types_and_refuses_others(settings: Settings, release: Release, tmp_path: Path) -> None:
    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["export", release.release_id, str(tmp_path / "out"), *words], obj=settings)

    done = run("--as", "fhir", "--type", "Patient", "--type", "ImagingStudy", "--json")
    assert json.loads(done.stdout) == {"Patient": N_PERSONS, "ImagingStudy": N_PERSONS * N_EXAMS}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ImagingStudy.ndjson", "Patient.ndjson"]
    assert "ImagingStudy" in run("--as", "fhir", "--type", "ImagingStudy").stdout
    refused = ("--as", "hl7v2"), ("--as", "fhir", "--type", "Medication"), ("--as", "fhir", "--wado-rs", "https://x")
    for words in refused:
        assert isinstance(run(*words).exception, ConfigInvalid)
