"""DICOMweb over a lake of real images, asked by dicomweb-client over a real socket; bytes are compared."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import httpx
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pydantic import ValidationError
from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.encaps import generate_frames
from pydicom.pixels.processing import apply_modality_lut, apply_windowing
from pydicom.uid import ExplicitVRLittleEndian as EXPLICIT
from pydicom.uid import RLELossless

from radlake.config import Settings
from radlake.contracts import load_table
from radlake.lake import Lake, duck
from radlake.web.access import Role
from radlake.web.access.gate import SESSION
from radlake.web.dicomweb import retrieve
from radlake.web.dicomweb.app import create_dicomweb
from radlake.web.dicomweb.fetches import LATER
from radlake.web.dicomweb.frames import OCTETS
from radlake.web.dicomweb.pixels import Pixels
from radlake.web.dicomweb.refusals import TryLater
from radlake.web.server import access_of, audit_of
from support.dicom import compressed, ct_study, image_study, sr_document, write
from support.dicomweb import PASSWORD, client_of, serving
from support.pacs import orthanc
from support.residency import harvested, kept_objects, write_archive

MAY = {Role.RESEARCHER, Role.ENGINEER}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two CT studies of a person, a compressed MR cine, and a report."""
    folder = tmp_path_factory.mktemp("dicomweb")
    studies: list[list[Dataset]] = [
        ct_study(n=3, patient="李雷"),
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
def test_who_may_read_images(settings: Settings, url: str, role: Role) -> None:
    """Every route, with names that are none."""
    routes = [getattr(route, "path", "") for route in create_dicomweb(settings, access_of(settings, "0.0.0.0")).routes]
    assert len(routes) == 18
    with httpx.Client(auth=(role.value, PASSWORD), timeout=60) as client:
        for route in routes:
            answer = client.get(url + re.sub(r"{\w+}", "x", route))
            assert (answer.status_code == 403) == (role not in MAY), route


def test_nobody_without_a_password(url: str) -> None:
    for auth in (None, ("researcher", "a wrong password")):
        answer = httpx.get(f"{url}/studies", auth=auth)
        assert (answer.status_code, answer.headers["www-authenticate"].split()[0]) == (401, "Basic")


def test_a_session_that_is_over_does_not_stand_before_a_password(web: httpx.Client) -> None:
    for _ in range(7):  # a name is locked after five wrong passwords
        assert web.get("/studies", headers={"cookie": f"{SESSION}=over"}).status_code == 200


def test_a_program_that_asks_at_once_signs_in_once(settings: Settings) -> None:
    with serving(settings) as url, ThreadPoolExecutor(8) as pool:
        before = len(list(audit_of(settings).events()))
        ask = partial(httpx.get, auth=("engineer", PASSWORD), timeout=60)
        assert {answer.status_code for answer in pool.map(ask, [f"{url}/studies"] * 8)} == {200}
    kinds = [event["type"]["code"] for event in list(audit_of(settings).events())[before:]]
    assert (kinds.count("110114"), kinds.count("rest")) == (1, 8)


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
    wider = web.get("/studies?EthnicGroup=x&limit=1000")
    assert wider.json() == whole
    assert 'were passed over: EthnicGroup"' in wider.headers["warning"]


# PS3.18 Tables 10.6.1-5 (what has to be searched for) and 10.6.3-3 to -5 (what has to be returned), but
# TimezoneOffsetFromUTC, which nobody knows.
SEARCHED = {  # by level and attribute: a value that no image has
    "studies": {
        "StudyDate": "19000101", "StudyTime": "000001", "AccessionNumber": "x", "ModalitiesInStudy": "x",
        "ReferringPhysicianName": "x", "PatientName": "x", "PatientID": "x", "StudyInstanceUID": "1.2.3",
        "StudyID": "x",
    },
    "series": {
        "Modality": "x", "SeriesInstanceUID": "1.2.3", "SeriesNumber": "77",
        "PerformedProcedureStepStartDate": "19000101", "PerformedProcedureStepStartTime": "000001",
        "RequestAttributesSequence.ScheduledProcedureStepID": "x",
        "RequestAttributesSequence.RequestedProcedureID": "x",
    },
    "instances": {"SOPClassUID": "1.2.3", "SOPInstanceUID": "1.2.3", "InstanceNumber": "77"},
}  # fmt: skip
RETURNED = {
    "studies": "StudyDate StudyTime AccessionNumber InstanceAvailability ModalitiesInStudy ReferringPhysicianName "
    "RetrieveURL PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID StudyID NumberOfStudyRelatedSeries "
    "NumberOfStudyRelatedInstances",
    "series": "Modality SeriesDescription RetrieveURL SeriesInstanceUID SeriesNumber NumberOfSeriesRelatedInstances "
    "PerformedProcedureStepStartDate PerformedProcedureStepStartTime RequestAttributesSequence",
    "instances": "SOPClassUID SOPInstanceUID InstanceAvailability RetrieveURL InstanceNumber Rows Columns "
    "BitsAllocated NumberOfFrames",
}
LEVELS = ("studies", "series", "instances")


@pytest.mark.parametrize(("level", "path"), [(level, path) for level in LEVELS for path in SEARCHED[level]])
def test_every_row_of_the_table_of_what_is_searched_for(web: httpx.Client, level: str, path: str) -> None:
    """By keyword and by tag: each value that images have finds them and no others."""
    tags = ".".join(f"{tag_for_keyword(part):08X}" for part in path.split("."))
    whole = web.get(f"/{level}").json()
    values = {str(value) for one in whole for value in _values(one.get(tags, {}))}
    for asked in (path, tags):
        for value in values:
            found = web.get(f"/{level}", params={asked: value})
            assert found.json() == [one for one in whole if value in map(str, _values(one[tags]))]
            assert "warning" not in found.headers
        assert web.get(f"/{level}", params={asked: SEARCHED[level][path]}).status_code == 204


def _values(element: dict[str, Any]) -> list[Any]:
    """Of a name the one that is written with letters."""
    return [one["Alphabetic"] if isinstance(one, dict) else one for one in element.get("Value", [])]


@pytest.mark.parametrize("level", LEVELS)
def test_every_row_of_the_tables_of_what_is_returned(web: httpx.Client, level: str) -> None:
    """Of a level and, where no path names them, of those above it; `all` adds what else there is."""
    above = LEVELS[: LEVELS.index(level) + 1]
    rows = {keyword for one in above for keyword in RETURNED[one].split()}
    few, more = (web.get(f"/{level}", params=asked).json() for asked in ({}, {"includefield": "all"}))
    told = [{keyword_for_tag(tag) for tag in one} for one in few]
    assert all(rows <= one for one in told)
    assert all(set(one) <= set(all_) for one, all_ in zip(few, more, strict=True))
    assert (few == more) == (level == "studies")
    for one in few:  # nothing empty but what no object has
        known = {keyword_for_tag(tag) for tag, element in one.items() if element.get("Value")}
        assert known >= {"StudyInstanceUID", "PatientID", "RetrieveURL", "InstanceAvailability"}


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/studies?limit=many", "*/*", 400),
        ("/studies?charset=gb18030", "*/*", 400),
        ("/studies?" + "&".join(["PatientID=a*"] * 201), "*/*", 400),
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
            assert links == {"7FE00010"} & expected.keys()
            for tag in links:
                assert given.pop(tag)["vr"] == expected.pop(tag)["vr"]
            assert given == {tag: _without_nothing(element) for tag, element in expected.items()}


def _without_nothing(element: dict[str, Any]) -> dict[str, Any]:
    """A sequence without items has no Value (PS3.18 F.2.5); pydicom gives it an empty one."""
    return {name: value for name, value in element.items() if value != []}


def of_multipart(answer: httpx.Response) -> list[bytes]:
    """Contents of the parts, read by the letter of RFC 2046."""
    assert answer.status_code == 200, answer.text
    boundary = answer.headers["content-type"].partition("boundary=")[2].encode()
    before, *parts, after = answer.content.split(b"--" + boundary)
    assert (before, after) == (b"", b"--\r\n")
    return [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts]


def frames_of(ds: Dataset) -> list[np.ndarray[Any, Any]]:
    array = ds.pixel_array
    return list(array) if ds.get("NumberOfFrames", 1) > 1 else [array]


def test_instances_are_the_stored_bytes(web: httpx.Client, files: dict[str, bytes], stored: dict[str, Dataset]) -> None:
    for ds in stored.values():
        for path in (path_of(ds).split("/series")[0], path_of(ds).split("/instances")[0], path_of(ds)):
            answer = web.get(path)
            expected = {uid: content for uid, content in files.items() if path in path_of(stored[uid])}
            assert int(answer.headers["content-length"]) == len(answer.content)
            assert sorted(of_multipart(answer)) == sorted(expected.values())


def test_compressed_instances_become_explicit(url: str, stored: dict[str, Dataset]) -> None:
    """dicomweb-client asks for no transfer syntax, which means Explicit VR Little Endian."""
    image = mr(stored)
    for given in client_of(url).retrieve_series(image.StudyInstanceUID, image.SeriesInstanceUID):
        expected = stored[given.SOPInstanceUID]
        assert given.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert np.array_equal(given.pixel_array, expected.pixel_array)
        assert {e.tag for e in given} == {e.tag for e in expected}


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_frames(url: str, web: httpx.Client, stored: dict[str, Dataset], modality: str) -> None:
    ds = ct(stored) if modality == "CT" else mr(stored)
    expected = [frame.tobytes() for frame in frames_of(ds)]
    octets = {"accept": 'multipart/related; type="application/octet-stream"'}
    assert of_multipart(web.get(f"{path_of(ds)}/frames/1", headers=octets)) == expected[:1]
    numbers = list(range(len(expected), 0, -1))
    given = client_of(url).retrieve_instance_frames(
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, numbers,
        media_types=("application/octet-stream",),
    )  # fmt: skip
    assert given == expected[::-1]


def test_compressed_frames_as_they_are_stored(web: httpx.Client, stored: dict[str, Dataset]) -> None:
    ds = mr(stored)
    expected = list(generate_frames(ds.PixelData, number_of_frames=ds.NumberOfFrames))
    for accept in ("*/*", 'multipart/related; type="image/dicom-rle"', "application/octet-stream;transfer-syntax=*"):
        for number, frame in enumerate(expected, start=1):
            answer = web.get(f"{path_of(ds)}/frames/{number}", headers={"accept": accept})
            got = of_multipart(answer) if "multipart" in answer.headers["content-type"] else [answer.content]
            assert got == [frame]


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/frames/4", "*/*", 404),
        ("/frames/0", "*/*", 400),
        ("/frames/x", "*/*", 400),
        ("/frames/1", "image/jls", 406),
        ("", "image/jpeg", 406),
        ("", "application/zip", 406),
        ("", "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.80", 406),
        ("/rendered", "image/gif", 406),
        ("/rendered?window=1,0", "*/*", 400),
        ("/rendered?viewport=0,9", "*/*", 400),
        ("/rendered?quality=101", "*/*", 400),
        ("/rendered?quality=" + "9" * 5000, "*/*", 400),
        ("/rendered?viewport=9,9,999,0,1,1", "*/*", 400),
        ("/bulkdata/00100010", "*/*", 404),
        ("/bulkdata/00082112.0.00091010", "*/*", 404),
        ("/bulkdata/00080008.0.00000000", "*/*", 404),
    ],
)
def test_refusals_of_pixels(web: httpx.Client, stored: dict[str, Dataset], path: str, accept: str, status: int) -> None:
    answer = web.get(path_of(mr(stored)) + path, headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/metadata", "text/html", 406),
        ("", "image/jpeg", 406),
        ("/frames/4", "*/*", 404),
        ("/frames/1", "image/jls", 406),
        ("/bulkdata/7FE00010", "image/jls", 406),
        ("/bulkdata/00282000", "image/jls", 406),
        ("/bulkdata/x", "*/*", 404),
        ("/rendered", "image/gif", 406),
        ("/rendered?quality=101", "*/*", 400),
        ("/frames/9/rendered", "*/*", 404),
        ("/metadata", "*/*", 503),
        ("", "*/*", 503),
        ("/frames/1", "*/*", 503),
        ("/bulkdata/7FE00010", "*/*", 503),
        ("/rendered", "*/*", 503),
    ],
)
def test_what_is_refused_asks_nothing_of_a_hospital(
    web: httpx.Client, stored: dict[str, Dataset], path: str, accept: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: object) -> None:
        raise TryLater(LATER)

    monkeypatch.setattr(Pixels, "require", fetch)
    assert web.get(path_of(mr(stored)) + path, headers={"accept": accept}).status_code == status


@pytest.mark.parametrize(
    ("accept", "kind", "syntax"),
    [
        ("*/*", "image/dicom-rle", RLELossless),
        ('multipart/related; type="image/dicom-rle"', "image/dicom-rle", RLELossless),
        ('multipart/related; type="application/octet-stream"', OCTETS, EXPLICIT),
        ('multipart/related; type="application/octet-stream"; transfer-syntax=*', OCTETS, RLELossless),
    ],
)
def test_bulk_data_of_pixels_are_sent_as_asked_for(
    web: httpx.Client, stored: dict[str, Dataset], accept: str, kind: str, syntax: str
) -> None:
    ds = mr(stored)
    answer = web.get(f"{path_of(ds)}/bulkdata/7FE00010", headers={"accept": accept})
    assert answer.content.count(f"Content-Type: {kind};transfer-syntax={syntax}".encode()) == ds.NumberOfFrames
    frames = generate_frames(ds.PixelData, number_of_frames=ds.NumberOfFrames)
    assert of_multipart(answer) == (
        list(frames) if syntax == RLELossless else [frame.tobytes() for frame in frames_of(ds)]
    )


@pytest.mark.parametrize(
    ("accept", "syntax"), [("application/dicom;transfer-syntax=*", RLELossless), ("application/dicom", EXPLICIT)]
)
def test_a_single_instance_says_its_transfer_syntax(
    web: httpx.Client, stored: dict[str, Dataset], accept: str, syntax: str
) -> None:
    answer = web.get(path_of(mr(stored)), headers={"accept": accept})
    assert answer.headers["content-type"] == f"application/dicom;transfer-syntax={syntax}"
    assert dcmread(BytesIO(answer.content)).file_meta.TransferSyntaxUID == syntax


def test_what_cannot_be_shown_is_left_out_and_told(
    web: httpx.Client, stored: dict[str, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    series = path_of(ct(stored)).split("/instances")[0]
    monkeypatch.setattr("radlake.web.dicomweb.app.can_be_shown", lambda one: one.uid != ct(stored).SOPInstanceUID)
    answer = web.get(f"{series}/rendered")
    n = sum(ds.SeriesInstanceUID == ct(stored).SeriesInstanceUID for ds in stored.values())
    assert len(of_multipart(answer)) == n - 1
    assert f"1 of {n} instances cannot be shown" in answer.headers["warning"]
    monkeypatch.setattr("radlake.web.dicomweb.app.can_be_shown", lambda _: False)
    assert web.get(f"{series}/rendered").status_code == 406


def test_viewers_of_other_origins_are_named_by_configuration(settings: Settings, web: httpx.Client) -> None:
    ours, other = "https://viewer.example:8443", "https://evil.example"
    asks = {"access-control-request-method": "GET", "access-control-request-headers": "authorization"}
    allowed = "access-control-allow-origin"
    assert allowed not in web.get("/studies", headers={"origin": ours}).headers
    assert web.options("/studies", headers={"origin": ours, **asks}).status_code == 405
    with serving(settings.model_copy(update={"viewers": f"https://a.example,{ours}"})) as url:
        asked = httpx.options(f"{url}/studies", headers={"origin": ours, **asks})
        assert (asked.status_code, asked.headers[allowed]) == (200, ours)
        assert allowed not in httpx.options(f"{url}/studies", headers={"origin": other, **asks}).headers
        for auth, status in ((("researcher", PASSWORD), 200), (None, 401)):
            answer = httpx.get(f"{url}/studies", auth=auth, headers={"origin": ours})
            assert (answer.status_code, answer.headers[allowed]) == (status, ours)
            assert "access-control-allow-credentials" not in answer.headers
    for wrong in ("*", "viewer.example", "https://viewer.example/path", "https://a.example, https://b.example"):
        with pytest.raises(ValidationError):
            Settings(lake=settings.lake, viewers=wrong)


def documented() -> str:
    return (Path(__file__).parents[2] / "docs" / "how-to" / "dicomweb.md").read_text(encoding="utf-8")


def test_ohif_gets_what_it_asks_for(url: str, web: httpx.Client, stored: dict[str, Dataset]) -> None:
    """The data source of the documentation, and the requests of OHIF 3.13 that opens a study, in their order."""
    source = json.loads(documented().partition("```json\n")[2].partition("```")[0])["configuration"]
    qido, wado = (source[name].replace("https://HOST/dicom-web", url) for name in ("qidoRoot", "wadoRoot"))
    image = ct(stored)
    fields = {"limit": 101, "offset": 0, "fuzzymatching": str(source["supportsFuzzyMatching"]).lower(),
              "includefield": "00081030,00080060,00080090,00100030"}  # fmt: skip
    json_only = {"accept": "application/dicom+json"}

    def found(path: str, **query: Any) -> list[dict[str, Any]]:
        answer = web.get(f"{qido}{path}", params=query, headers=json_only)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom+json")
        assert "warning" not in answer.headers
        return answer.json()

    [study] = found("/studies", **fields, StudyInstanceUID=image.StudyInstanceUID)
    assert study["00081030"]["vr"] == "LO"
    series = found(f"/studies/{image.StudyInstanceUID}/series", includefield="00080021,00080031,0008103E,00200011")
    assert {one["0020000E"]["Value"][0] for one in series} == {image.SeriesInstanceUID}
    prior = found("/studies", **fields, **{"00100020": study["00100020"]["Value"][0]})
    assert len(prior) == 2
    place = f"{wado}/studies/{image.StudyInstanceUID}/series/{image.SeriesInstanceUID}"
    headers = web.get(f"{place}/metadata", headers=json_only).json()
    assert len(headers) == series[0]["00201209"]["Value"][0]
    octets = {"accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"}
    for header in headers:
        uid = header["00080018"]["Value"][0]
        frame = web.get(f"{place}/instances/{uid}/frames/1", headers=octets)
        assert of_multipart(frame) == [stored[uid].PixelData]


def test_the_address_that_weasis_opens(url: str, web: httpx.Client, stored: dict[str, Dataset]) -> None:
    [template] = re.findall(r"`(weasis://[^`]+studyUID[^`]+)`", documented())
    opened = template.replace("{StudyInstanceUID}", ct(stored).StudyInstanceUID)
    command = unquote_plus(opened.removeprefix("weasis://"))
    parts = re.fullmatch(r'\$dicom:rs --url "(\S+)" -r "studyUID=([0-9.]+)"', command)
    assert parts is not None, command
    assert parts[1] == "https://HOST/dicom-web"
    found = web.get(f"{url}/studies", params={"StudyInstanceUID": parts[2], "includefield": "all"})
    assert [one["0020000D"]["Value"] for one in found.json()] == [[ct(stored).StudyInstanceUID]]


def test_the_first_wish_that_can_be_met(web: httpx.Client, stored: dict[str, Dataset]) -> None:
    accept = "image/jls, application/octet-stream;q=0.5, image/dicom-rle;q=0.9"
    answer = web.get(f"{path_of(mr(stored))}/frames/1", headers={"accept": accept})
    assert answer.headers["content-type"] == "image/dicom-rle;transfer-syntax=1.2.840.10008.1.2.5"


def test_bulk_data_of_metadata(web: httpx.Client, stored: dict[str, Dataset]) -> None:
    ds = ct(stored)
    [given] = web.get(f"{path_of(ds)}/metadata").json()
    links = {tag: element["BulkDataURI"] for tag, element in given.items() if "BulkDataURI" in element}
    assert links.keys() == {"7FE00010"}
    for tag, link in links.items():
        assert of_multipart(web.get(link)) == [ds[int(tag, 16)].value]


def test_pictures_are_windowed(web: httpx.Client, stored: dict[str, Dataset]) -> None:
    ds = ct(stored)
    answer = web.get(f"{path_of(ds)}/rendered?window=40,400,linear", headers={"accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    shown = np.asarray(Image.open(BytesIO(answer.content)))
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = 40, 400, "LINEAR"
    windowed = apply_windowing(apply_modality_lut(ds.pixel_array, ds), ds)
    low, high = (-1024.0, (1 << ds.BitsStored) - 1 - 1024.0)
    assert np.array_equal(shown, np.rint((windowed - low) / (high - low) * 255).astype(np.uint8))
    small = web.get(f"{path_of(ds)}/frames/1/rendered?viewport=8,99&quality=50")
    picture = Image.open(BytesIO(small.content))
    assert (picture.format, picture.size) == ("JPEG", (8, 8))
    assert len(of_multipart(web.get(path_of(mr(stored)).split("/instances")[0] + "/rendered"))) == 6


def test_zip_of_a_study(web: httpx.Client, files: dict[str, bytes], stored: dict[str, Dataset]) -> None:
    study = path_of(ct(stored)).split("/series")[0]
    answer = web.get(study, headers={"accept": "application/zip"})
    assert answer.content == web.get(study, params={"accept": "application/zip"}).content
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        got = {name: archive.read(name) for name in archive.namelist()}
    assert got == {
        f"{ds.SeriesInstanceUID}/{uid}.dcm": files[uid] for uid, ds in stored.items() if study in path_of(ds)
    }


def test_a_large_instance_leaves_in_pieces(settings: Settings, files: dict[str, bytes], monkeypatch) -> None:
    monkeypatch.setattr(retrieve, "_PIECE", 1000)
    asked: list[int] = []
    read = Pixels.read
    monkeypatch.setattr(Pixels, "read", lambda self, *place: asked.append(place[2]) or read(self, *place))
    with serving(settings) as url:
        [study] = {ds["0020000D"]["Value"][0] for ds in client_of(url).search_for_instances(
            search_filters={"Modality": "MR"})}  # fmt: skip
        answer = httpx.get(f"{url}/studies/{study}", auth=("researcher", PASSWORD))
        zipped = httpx.get(f"{url}/studies/{study}?accept=application/zip", auth=("researcher", PASSWORD))
    assert sorted(of_multipart(answer)) == sorted(f for f in files.values() if study.encode() in f)
    with zipfile.ZipFile(BytesIO(zipped.content)) as archive:
        assert archive.testzip() is None
    assert max(asked) == 1000


@pytest.mark.orthanc
def test_orthanc_retrieves_from_us(
    url: str, files: dict[str, bytes], stored: dict[str, Dataset], tmp_path: Path
) -> None:
    server = {"Servers": {"radlake": [url, "researcher", PASSWORD]}}
    web = {"Enable": True, "Root": "/dicom-web/", **server}
    with orthanc(tmp_path, settings={"DicomWeb": web}) as pacs:
        study = ct(stored).StudyInstanceUID
        with httpx.Client(base_url=f"http://127.0.0.1:{pacs.http_port}", timeout=60) as client:
            found = client.post("/dicom-web/servers/radlake/qido", json={"Uri": "/studies",
                                "Arguments": {"StudyInstanceUID": study}})  # fmt: skip
            assert found.status_code == 200, found.text
            answer = client.post("/dicom-web/servers/radlake/retrieve", json={"Resources": [{"Study": study}]})
            assert answer.status_code == 200, answer.text
            got = [client.get(f"/instances/{one}/file").content for one in client.get("/instances").json()]
    assert sorted(got) == sorted(files[uid] for uid, ds in stored.items() if ds.StudyInstanceUID == study)


def test_pixels_that_a_hospital_keeps(tmp_path: Path) -> None:
    """The first reading brings them; when the hospital lost them, they are gone."""
    kept = harvested(tmp_path / "lake", write_archive(tmp_path / "archive"), cache_bytes=1 << 30)
    for item in kept_objects(kept):
        Lake.from_settings(kept).cache.drop(item.path)
    with serving(kept) as url, httpx.Client(base_url=url, auth=("engineer", PASSWORD), timeout=120) as client:
        first, second = client.get("/studies").json()
        study = f"/studies/{first['0020000D']['Value'][0]}"
        assert [one["00080056"]["Value"] for one in (first, second)] == [["NEARLINE"]] * 2
        assert client.get(f"{study}/series").json()[0]["00080056"]["Value"] == ["NEARLINE"]
        answer = client.get(study)
        assert len(of_multipart(answer)) == first["00201208"]["Value"][0]
        shutil.rmtree(tmp_path / "archive")
        assert client.get(study).content.count(b"DICM") == answer.content.count(b"DICM")
        gone = client.get(f"/studies/{second['0020000D']['Value'][0]}")
        assert gone.status_code in (410, 503)
        assert b"DICM" not in gone.content
