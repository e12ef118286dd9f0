"""Programs of others that read DICOMweb: OHIF, Weasis and Orthanc."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import httpx
import pytest
from pydicom import Dataset

from support.dicomweb import PASSWORD, ct, of_multipart
from support.pacs import orthanc


def documented() -> str:
    return (Path(__file__).parents[3] / "docs" / "how-to" / "dicomweb.md").read_text(encoding="utf-8")


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
