"""WADO-RS over a real socket: metadata, instances, frames, bulk data and pictures; bytes are compared."""

from __future__ import annotations

import shutil
import zipfile
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.pixels.processing import apply_modality_lut, apply_windowing
from pydicom.uid import ExplicitVRLittleEndian as EXPLICIT
from pydicom.uid import RLELossless

from radlake.config import Settings
from radlake.lake import Lake
from radlake.web.dicomweb import retrieve
from radlake.web.dicomweb.fetches import LATER
from radlake.web.dicomweb.frames import OCTETS
from radlake.web.dicomweb.pixels import Pixels
from radlake.web.dicomweb.refusals import TryLater
from support.dicomweb import PASSWORD, client_of, ct, mr, of_multipart, path_of, serving
from support.residency import harvested, kept_objects, write_archive


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
    ds = deepcopy(ct(stored))
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
