"""QIDO-RS and WADO-RS: a real Orthanc, and origin servers that break their word."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from radlake.errors import KeyMissing, NodeUnavailable, QueryFailed, RetrieveFailed, SlowDown
from radlake.net import NodeClient, RetrieveResult, StudyFound, WebNode, Window, connect
from radlake.net.instance_files import part10_header
from radlake.net.node import Timeouts
from support.dicom import ct_study, dicom_bytes, uid
from support.odd_origin import MULTIPART, Answer, OddOrigin, Request, multipart, odd_origin
from support.pacs import Pacs, orthanc
from support.samples import sample_study

MARCH = Window(date(2026, 3, 1), date(2026, 3, 31))
SAMPLE = uid("sample")
SLICES = ct_study(n=4)
STUDY, SERIES = SLICES[0].StudyInstanceUID, SLICES[0].SeriesInstanceUID
FILES = {str(ds.SOPInstanceUID): dicom_bytes(ds) for ds in SLICES}

Files = dict[str, Path]


def client(peer: Pacs | OddOrigin, **settings: Any) -> NodeClient:
    node = peer.web_node(**settings) if isinstance(peer, Pacs) else peer.node(**settings)
    return connect(node, ae_title="RADLAKE")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return sample_study(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def archive(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    with orthanc(tmp_path_factory.mktemp("orthanc"), files=files.values()) as pacs:
        yield pacs


@pytest.mark.orthanc
class TestOrthanc:
    def test_echo(self, archive: Pacs) -> None:
        assert 0 < client(archive).echo() < 60

    def test_studies_of_a_window(self, archive: Pacs, files: Files) -> None:
        found = client(archive).find_studies(MARCH)
        modalities = ("CT", "MR", "NM", "OT", "RTPLAN", "SR")
        assert [one.study_time is not None for one in found] == [True]
        assert [replace(one, study_time=None) for one in found] == [
            StudyFound(SAMPLE, date(2026, 3, 1), len(files), modalities)
        ]
        assert client(archive).find_studies(Window(date(2026, 3, 2), date(2026, 3, 3))) == []

    def test_the_list_of_instances(self, archive: Pacs, files: Files) -> None:
        assert client(archive).find_instances(SAMPLE) == files.keys()
        assert client(archive).find_instances("1.2.3") is None

    def test_a_study_arrives_byte_for_byte(self, archive: Pacs, files: Files, tmp_path: Path) -> None:
        assert client(archive).retrieve(SAMPLE, into=tmp_path) == RetrieveResult(len(files), 0)
        assert {path.stem: path.read_bytes() for path in tmp_path.iterdir()} == {
            sop_uid: path.read_bytes() for sop_uid, path in files.items()
        }

    def test_only_what_is_missing_is_fetched(self, archive: Pacs, files: Files, tmp_path: Path) -> None:
        asked = client(archive)
        asked.retrieve(SAMPLE, into=tmp_path)
        kept = {path: path.stat().st_ino for path in sorted(tmp_path.iterdir())[3:]}
        for path in sorted(tmp_path.iterdir())[:3]:
            path.unlink()
        assert asked.retrieve(SAMPLE, into=tmp_path) == RetrieveResult(3, 0)
        assert {path: path.stat().st_ino for path in kept} == kept

    def test_a_study_that_is_not_there(self, archive: Pacs, tmp_path: Path) -> None:
        with pytest.raises(RetrieveFailed, match="HTTP 404"):
            client(archive).retrieve("1.2.3", into=tmp_path)

    def test_the_same_study_the_three_ways(self, archive: Pacs, files: Files, tmp_path: Path) -> None:
        ways: dict[str, NodeClient] = {"wado-rs": client(archive)}
        for retrieve in ("get", "move"):
            node = archive.dimse_node(retrieve=retrieve)
            ways[retrieve] = connect(node, ae_title="RADLAKE", scp_port=archive.destination_port)
        for way, asked in ways.items():
            assert asked.retrieve(SAMPLE, into=tmp_path / way) == RetrieveResult(len(files), 0)
        for sop_uid in files:
            one, two, three = (dcmread(tmp_path / way / f"{sop_uid}.dcm") for way in ways)
            assert one == two == three
            assert len({ds.file_meta.TransferSyntaxUID for ds in (one, two, three)}) == 1


# QIDO-RS


def study_rows(n: int) -> list[dict[str, Any]]:
    return [
        {
            "0020000D": {"vr": "UI", "Value": [f"1.2.{k}"]},
            "00080020": {"vr": "DA", "Value": ["20260305"]},
            "00080061": {"vr": "CS", "Value": ["CT", None, "SR"]},
            "00201208": {"vr": "IS", "Value": [k]},
            "00100010": {"vr": "PN"},
        }
        for k in range(n)
    ]


def paged(rows: list[dict[str, Any]], *, cap: int) -> Callable[[Request], Answer]:
    """A server that never gives more than `cap` rows, whatever is asked."""

    def answer(request: Request) -> Answer:
        begin, limit = int(request.query["offset"]), int(request.query["limit"])
        page = rows[begin : begin + min(limit, cap)]
        return Answer(json.dumps(page).encode()) if page else Answer(status=204)

    return answer


@pytest.mark.parametrize("cap", [1, 7, 23, 24, 1000], ids=str)
def test_no_page_is_lost_when_the_server_cuts_them_shorter(cap: int) -> None:
    with odd_origin(paged(study_rows(23), cap=cap)) as origin:
        found = client(origin).find_studies(MARCH)
    assert found == [StudyFound(f"1.2.{k}", date(2026, 3, 5), k, ("CT", "SR")) for k in range(23)]


def test_pages_that_overlap() -> None:
    rows = study_rows(9)

    def answer(request: Request) -> Answer:
        begin = max(0, int(request.query["offset"]) - 2)  # two came in meanwhile
        return Answer(json.dumps(rows[begin : begin + 4]).encode())

    with odd_origin(answer) as origin:
        assert {study.study_uid for study in client(origin).find_studies(MARCH)} == {f"1.2.{k}" for k in range(9)}


def test_a_server_without_paging_that_gives_all_at_once() -> None:
    with odd_origin(lambda _: Answer(json.dumps(study_rows(5)).encode())) as origin:
        assert len(client(origin).find_studies(MARCH)) == 5


def test_a_server_without_paging_that_has_more() -> None:
    more = {"Warning": "299 pacs: There are additional results that can be requested"}
    with (
        odd_origin(lambda _: Answer(json.dumps(study_rows(5)).encode(), headers=more)) as origin,
        pytest.raises(QueryFailed, match="same page"),
    ):
        client(origin).find_studies(MARCH)


def test_what_is_asked_survives_servers_that_decode_nothing() -> None:
    with odd_origin(lambda _: Answer(b"[]")) as origin:
        client(origin).find_studies(MARCH)
        (request,) = origin.requests
    assert request.path == "/studies"
    assert request.query["StudyDate"] == "20260301-20260331"
    assert request.headers["Accept"] == "application/dicom+json"


@pytest.mark.parametrize(
    ("answer", "error", "match"),
    [
        (Answer(b"<html>"), QueryFailed, "not DICOM JSON"),
        (Answer(b'{"a": 1}'), QueryFailed, "not DICOM JSON"),
        (Answer(b"[1]"), QueryFailed, "not DICOM JSON"),
        (Answer(status=500), QueryFailed, "HTTP 500"),
        (Answer(b"[", said_length=100), QueryFailed, "connection lost"),
        (Answer(status=401), NodeUnavailable, "HTTP 401: it refuses our credentials"),
        (Answer(status=302, headers={"Location": "/elsewhere"}), NodeUnavailable, "HTTP 302: it redirects"),
        (Answer(status=429), SlowDown, "HTTP 429"),
        (Answer(status=503), SlowDown, "HTTP 503"),
    ],
    ids=["a web page", "no list", "a list of numbers", "500", "cut off", "401", "a redirect", "429", "503"],
)
def test_answers_that_are_none(answer: Answer, error: type[Exception], match: str) -> None:
    with odd_origin(lambda _: answer) as origin:
        with pytest.raises(error, match=match):
            client(origin).find_studies(MARCH)
        assert len(origin.requests) == 1, "a redirect must not be followed"


def test_a_server_that_cannot_list_instances() -> None:
    with odd_origin(lambda _: Answer(status=404)) as origin:
        assert client(origin).find_instances(STUDY) is None


def test_a_server_that_falls_silent() -> None:
    enough = threading.Event()
    with odd_origin(lambda _: Answer(b"[", said_length=2, pause=enough)) as origin:
        with pytest.raises(QueryFailed, match=r"silent for 0\.2 s"):
            client(origin, timeouts=Timeouts(query=0.2)).find_studies(MARCH)
        enough.set()


# Credentials


@pytest.mark.parametrize(
    ("auth", "secret", "header"),
    [
        ({"bearer": "env:RADLAKE_TEST_SECRET"}, "t0ken", "Bearer t0ken"),
        ({"basic": "env:RADLAKE_TEST_SECRET"}, "王:pass:word", "Basic 546LOnBhc3M6d29yZA=="),
    ],
    ids=["bearer", "basic"],
)
def test_credentials_are_resolved_at_use(
    auth: dict[str, str], secret: str, header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with odd_origin(lambda _: Answer(b"[]")) as origin:
        asked = client(origin, auth=auth)
        with pytest.raises(KeyMissing):
            asked.echo()
        monkeypatch.setenv("RADLAKE_TEST_SECRET", secret)
        asked.echo()
        assert [request.headers["Authorization"] for request in origin.requests] == [header]
        assert secret not in repr(vars(asked))


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with odd_origin(lambda _: Answer(b"[]")) as origin:
        client(origin).echo()
        assert len(origin.requests) == 1, "it was asked itself"


# WADO-RS


def serving(body: bytes | Answer, *, listed: bool = True) -> Callable[[Request], Answer]:
    """A server that lists the study, and answers every WADO-RS request with `body`."""

    def answer(request: Request) -> Answer:
        if request.path.endswith("/instances"):
            rows = [{"00080018": {"Value": [sop_uid]}, "0020000E": {"Value": [SERIES]}} for sop_uid in FILES]
            return paged(rows, cap=3)(request) if listed else Answer(status=404)
        return body if isinstance(body, Answer) else Answer(body, content_type=MULTIPART)

    return answer


@pytest.mark.parametrize("with_length", [True, False], ids=["lengths", "no lengths"])
def test_a_study_in_one_answer(with_length: bool, tmp_path: Path) -> None:
    with odd_origin(serving(multipart(*FILES.values(), with_length=with_length))) as origin:
        assert client(origin).retrieve(STUDY, into=tmp_path) == RetrieveResult(4, 0)
        wado = origin.requests[-1]
    assert {path.stem: path.read_bytes() for path in tmp_path.iterdir()} == FILES
    assert wado.path == f"/studies/{STUDY}"
    assert wado.headers["Accept"] == 'multipart/related; type="application/dicom"; transfer-syntax=*'


WHOLE = multipart(*FILES.values())
HALF = len(multipart(*list(FILES.values())[:2], is_closed=False)) + 200  # inside the third instance


@pytest.mark.parametrize(
    ("answer", "n_received", "reason"),
    [
        (Answer(WHOLE[:HALF], content_type=MULTIPART), 2, "the body ended before its closing boundary"),
        (Answer(WHOLE[:HALF], content_type=MULTIPART, said_length=len(WHOLE)), 2, "connection lost"),
        (Answer(multipart(*list(FILES.values())[:3]), content_type=MULTIPART), 3, "did not come"),
        (Answer(multipart(*list(FILES.values())[:3]), content_type=MULTIPART, status=206), 3, "HTTP 206"),
        (Answer(multipart(b"<html>", FILES[SLICES[0].SOPInstanceUID]), content_type=MULTIPART), 1, "no usable SOP"),
        (Answer(FILES[SLICES[0].SOPInstanceUID], content_type="application/dicom"), 1, "did not come"),
    ],
    ids=["cut, no length", "cut, with a length", "fewer than listed", "206", "a part of HTML",
         "one instance without multipart"],
)  # fmt: skip
def test_what_is_whole_is_kept_and_the_rest_is_told(
    answer: Answer, n_received: int, reason: str, tmp_path: Path
) -> None:
    with odd_origin(serving(answer)) as origin:
        result = client(origin).retrieve(STUDY, into=tmp_path)
    assert (result.n_received, result.n_failed) == (n_received, 4 - n_received)
    assert reason in result.reason
    assert {path.name for path in tmp_path.iterdir()} <= {f"{sop_uid}.dcm" for sop_uid in FILES}
    assert all(path.read_bytes() == FILES[path.stem] for path in tmp_path.iterdir())


def test_all_that_is_listed_is_all_whatever_the_answer_lacks(tmp_path: Path) -> None:
    unclosed = Answer(WHOLE[: -len(b"--\r\n")], content_type=MULTIPART)
    with odd_origin(serving(unclosed)) as origin:
        assert client(origin).retrieve(STUDY, into=tmp_path) == RetrieveResult(4, 0)


def test_a_cut_answer_is_told_without_a_list_too(tmp_path: Path) -> None:
    with odd_origin(serving(Answer(WHOLE[:HALF], content_type=MULTIPART), listed=False)) as origin:
        result = client(origin).retrieve(STUDY, into=tmp_path)
    assert (result.n_received, result.n_failed) == (2, 1), "at least one is missing"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(Answer(status=500), "HTTP 500"), (Answer(b"<html>", content_type="text/html"), "no DICOM files"),
     (Answer(b"", content_type=MULTIPART), "closing boundary")],
    ids=["500", "a web page", "nothing"],
)  # fmt: skip
def test_an_answer_without_a_single_instance(answer: Answer, reason: str, tmp_path: Path) -> None:
    with odd_origin(serving(answer)) as origin, pytest.raises(RetrieveFailed, match=reason):
        client(origin).retrieve(STUDY, into=tmp_path)


def test_only_the_missing_instances_are_asked_for(tmp_path: Path) -> None:
    def answer(request: Request) -> Answer:
        if "/instances/" not in request.path:
            return serving(b"")(request)
        return Answer(multipart(FILES[request.path.rpartition("/")[2]]), content_type=MULTIPART)

    for sop_uid in list(FILES)[:2]:
        (tmp_path / f"{sop_uid}.dcm").write_bytes(FILES[sop_uid])
    with odd_origin(answer) as origin:
        assert client(origin).retrieve(STUDY, into=tmp_path) == RetrieveResult(2, 0)
        asked = [request.path for request in origin.requests if not request.query]
    assert asked == [f"/studies/{STUDY}/series/{SERIES}/instances/{sop_uid}" for sop_uid in sorted(list(FILES)[2:])]
    assert {path.stem: path.read_bytes() for path in tmp_path.iterdir()} == FILES


def test_a_server_that_falls_silent_is_not_asked_for_every_other_instance(tmp_path: Path) -> None:
    enough = threading.Event()

    def answer(request: Request) -> Answer:
        if "/instances/" not in request.path:
            return serving(b"")(request)
        return Answer(WHOLE[:10], content_type=MULTIPART, said_length=100, pause=enough)

    (tmp_path / f"{SLICES[0].SOPInstanceUID}.dcm").write_bytes(FILES[SLICES[0].SOPInstanceUID])
    with odd_origin(answer) as origin:
        with pytest.raises(RetrieveFailed, match=r"silent for 0\.2 s"):
            client(origin, timeouts=Timeouts(retrieve=0.2)).retrieve(STUDY, into=tmp_path)
        enough.set()
        assert sum("/instances/" in request.path for request in origin.requests) == 1


def test_a_path_as_sop_instance_uid_goes_nowhere(tmp_path: Path) -> None:
    header = part10_header(sop_class_uid="1.2", sop_instance_uid="../../escaped", transfer_syntax="1.2.840.10008.1.2")
    with odd_origin(serving(multipart(header))) as origin, pytest.raises(RetrieveFailed, match="no usable SOP"):
        client(origin).retrieve(STUDY, into=tmp_path / "deep" / "down")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_memory_does_not_grow_with_the_study(tmp_path: Path) -> None:
    head, megabyte = FILES[SLICES[0].SOPInstanceUID], b"\0" * 1_000_000

    def pieces() -> Iterator[bytes]:
        start = multipart(head, is_closed=False)
        yield start
        yield from [megabyte] * 40
        yield multipart()

    with odd_origin(serving(Answer(pieces(), content_type=MULTIPART), listed=False)) as origin:
        asked = client(origin)
        tracemalloc.start()
        result = asked.retrieve(STUDY, into=tmp_path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert result == RetrieveResult(1, 0)
    assert next(tmp_path.iterdir()).stat().st_size == len(head) + 40_000_000
    assert peak < 8_000_000


@pytest.mark.parametrize(
    ("url", "reason"),
    [("http://127.0.0.1:1", "connection refused"), ("http://no-such-host.invalid", "host name is not known")],
    ids=["closed port", "unknown host"],
)
def test_an_origin_that_cannot_be_reached(url: str, reason: str) -> None:
    with pytest.raises(NodeUnavailable, match=reason):
        connect(WebNode(name="n", base_url=url), ae_title="RADLAKE").echo()
