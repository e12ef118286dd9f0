"""QIDO-RS: what is found, what is told of it, and what is refused; asked over a real socket."""

from __future__ import annotations

from typing import Any

import httpx
import pyarrow as pa
import pytest
from pydicom import Dataset
from pydicom.datadict import keyword_for_tag, tag_for_keyword

from radlake.config import Settings
from radlake.contracts import load_table
from radlake.lake import Lake
from support.dicomweb import PASSWORD, client_of, ct, mr, serving


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
