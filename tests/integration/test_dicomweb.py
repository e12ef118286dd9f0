"""DICOMweb over a lake of real images, asked by dicomweb-client over a real socket; bytes are compared."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import pyarrow as pa
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag

from radlake.config import Settings
from radlake.contracts import load_table
from radlake.lake import Lake, duck
from radlake.web.access import Role
from radlake.web.server import audit_of
from support.dicom import compressed, ct_study, image_study, sr_document, write
from support.dicomweb import PASSWORD, client_of, serving
from support.residency import harvested

MAY = {Role.RESEARCHER, Role.ENGINEER}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two CT studies of a person, a compressed MR cine, and a report."""
    folder = tmp_path_factory.mktemp("dicomweb")
    studies: list[list[Dataset]] = [
        ct_study(n=3, patient="李雷", ICCProfile=bytes(3000)),
        ct_study(n=2, patient="李雷", study=2, study_date="20250102"),
        [compressed(ds) for ds in image_study("MR", n=2, patient_id="P2", frames=3)],
        [sr_document(patient_id="P3")],
    ]
    for s, study in enumerate(studies):
        for n, ds in enumerate(study):
            write(ds, folder / "archive" / f"{s}" / f"{n}.dcm")
    return harvested(folder / "lake", folder / "archive", policy="central")


@pytest.fixture(scope="module")
def url(settings: Settings) -> Iterator[str]:
    with serving(settings) as url:
        yield url


@pytest.fixture(scope="module")
def files(settings: Settings) -> dict[str, bytes]:
    """Every instance of the lake as it is stored, by its UID."""
    lake = Lake.from_settings(settings)
    with duck.connect(lake, tables=["dicom"]) as connection:
        rows = connection.execute(
            "SELECT sop_instance_uid, object_path, object_offset, instance_bytes FROM dicom.instance"
        ).fetchall()
    return {uid: lake.objects.read(*place) for uid, *place in rows}


@pytest.fixture(scope="module")
def stored(files: dict[str, bytes]) -> dict[str, Dataset]:
    return {uid: dcmread(BytesIO(content)) for uid, content in files.items()}


@pytest.fixture
def web(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, auth=("researcher", PASSWORD), timeout=60) as client:
        yield client


def path_of(ds: Dataset) -> str:
    return f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"


def ct(stored: dict[str, Dataset]) -> Dataset:
    return min((ds for ds in stored.values() if ds.Modality == "CT"), key=lambda ds: (ds.StudyDate, ds.InstanceNumber))


def mr(stored: dict[str, Dataset]) -> Dataset:
    return next(ds for ds in stored.values() if ds.Modality == "MR")


@pytest.mark.parametrize("role", Role)
def test_who_may_read_images(url: str, role: Role) -> None:
    answer = httpx.get(f"{url}/studies", auth=(role.value, PASSWORD))
    assert answer.status_code == (200 if role in MAY else 403)


def test_nobody_without_a_password(url: str) -> None:
    for auth in (None, ("researcher", "a wrong password")):
        answer = httpx.get(f"{url}/studies", auth=auth)
        assert (answer.status_code, answer.headers["www-authenticate"].split()[0]) == (401, "Basic")


def test_every_request_is_audited(settings: Settings, web: httpx.Client, stored: dict[str, Dataset]) -> None:
    asked = f"{path_of(ct(stored))}/metadata"
    web.get(asked)
    last = list(audit_of(settings).events())[-1]
    assert last["agent"][0]["who"]["identifier"]["value"] == "researcher"
    assert last["entity"][0]["what"]["display"] == f"/dicom-web{asked}"


def test_results_say_what_the_objects_say(url: str, stored: dict[str, Dataset]) -> None:
    """Every attribute that a search returns is the one of the headers."""
    client = client_of(url)
    found = client.search_for_instances(fields=["all"])
    assert len(found) == len(stored)
    counted = {"ModalitiesInStudy", "RetrieveURL", "InstanceAvailability", "AvailableTransferSyntaxUID"}
    for result in found:
        ds = stored[result["00080018"]["Value"][0]]
        for tag, element in result.items():
            keyword = keyword_for_tag(tag)
            if keyword in counted or keyword.startswith("NumberOf"):
                continue
            header: Any = ds.to_json_dict().get(tag, {})
            if keyword in ("StudyDescription", "SeriesDescription", "PatientPosition") and not element.get("Value"):
                continue
            assert element.get("Value", []) == header.get("Value", []), keyword


def test_what_a_search_finds(url: str, stored: dict[str, Dataset]) -> None:
    client, image = client_of(url), ct(stored)

    def n(**filters: str) -> int:
        return len(client.search_for_studies(search_filters=filters))

    assert n() == 4
    assert n(PatientID=image.PatientID) == n(PatientName=str(image.PatientName)) == 2
    assert n(PatientID=image.PatientID[:5] + "*") == 2
    assert n(StudyInstanceUID=image.StudyInstanceUID) == 1
    assert n(StudyDate=image.StudyDate) == n(StudyDate=f"-{image.StudyDate}", ModalitiesInStudy="CT") == 1
    assert n(StudyTime=image.StudyTime[:4], StudyDate=image.StudyDate) == 1
    assert n(ModalitiesInStudy="MR") == 1
    assert n(AccessionNumber="A1") == 0
    assert n(AccessionNumber="*") == 4
    series = client.search_for_series(search_filters={"Modality": "MR"})
    assert [one["0020000E"]["Value"] for one in series] == [[mr(stored).SeriesInstanceUID]]
    instances = client.search_for_instances(image.StudyInstanceUID, search_filters={"InstanceNumber": "2"})
    assert len(instances) == 1


def test_pages_of_results(web: httpx.Client) -> None:
    whole = web.get("/studies").json()
    pages = [web.get("/studies", params={"limit": 3, "offset": offset}) for offset in (0, 3, 6)]
    assert [one.status_code for one in pages] == [200, 200, 204]
    assert pages[0].json() + pages[1].json() == whole
    assert pages[0].headers["warning"].startswith("299 ")
    assert '"There are 1 additional results that can be requested"' in pages[0].headers["warning"]
    assert "warning" not in pages[1].headers
    assert "Only literal matching" in web.get("/studies?fuzzymatching=true&PatientName=x").headers["warning"]


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/studies?EthnicGroup=x", "*/*", 400),
        ("/studies?limit=many", "*/*", 400),
        ("/studies", "application/dicom+xml", 406),
        ("/studies/1.2.3/metadata", "*/*", 404),
        ("/studies/1.2.3/series", "*/*", 404),
        ("/studies/1'--/metadata", "*/*", 400),
        ("/patients", "*/*", 404),
    ],
)
def test_refusals(web: httpx.Client, path: str, accept: str, status: int) -> None:
    answer = web.get(path, headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")


def test_an_expired_study_is_gone(settings: Settings, web: httpx.Client) -> None:
    row = {"hospital_id": "h1", "study_instance_uid": "1.2.99", "removed_year": 2026, "rule": "outpatient 15",
           "n_series": 1, "n_instances": 1, "n_bytes": 1, "digest": ""}  # fmt: skip
    table = load_table("ops.tombstone")
    lake = Lake.from_settings(settings)
    lake.tables.commit_batch(table, pa.Table.from_pylist([row], schema=table.arrow_schema()),
                             batch_id="test")  # fmt: skip
    with serving(settings) as url:
        answer = httpx.get(f"{url}/studies/1.2.99/metadata", auth=("researcher", PASSWORD))
    assert answer.status_code == 410


def test_metadata_are_the_headers(url: str, web: httpx.Client, stored: dict[str, Dataset]) -> None:
    client = client_of(url)
    for study in client.search_for_studies():
        for given in client.retrieve_study_metadata(study["0020000D"]["Value"][0]):
            expected = stored[given["00080018"]["Value"][0]].to_json_dict(bulk_data_threshold=1 << 40)
            links = {tag for tag, element in given.items() if "BulkDataURI" in element}
            assert links == {"7FE00010", "00282000"} & expected.keys()
            for tag in links:
                assert given.pop(tag)["vr"] == expected.pop(tag)["vr"]
            assert given == {tag: _without_nothing(element) for tag, element in expected.items()}


def _without_nothing(element: dict[str, Any]) -> dict[str, Any]:
    """A sequence without items has no Value (PS3.18 F.2.5); pydicom gives it an empty one."""
    return {name: value for name, value in element.items() if value != []}
