"""Odd requests to DICOMweb over a bare socket: each has its status code, none hangs, and the next is answered."""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from support.dicom import ct_study, write
from support.dicomweb import PASSWORD, serving
from support.residency import harvested

ROOT = "/dicom-web"
SIGNED_IN = "Authorization: Basic " + base64.b64encode(f"researcher:{PASSWORD}".encode()).decode()
SECONDS = 20.0  # milliseconds on a machine that does nothing else


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("http")
    for n, ds in enumerate(ct_study(n=2)):
        write(ds, folder / "archive" / f"{n}.dcm")
    with serving(harvested(folder / "lake", folder / "archive", policy="central")) as url:
        assert httpx.get(f"{url}/studies", auth=("researcher", PASSWORD), timeout=60).status_code == 200
        yield url


def asked(path: str = f"{ROOT}/studies", *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", SIGNED_IN, *headers, "", ""]).encode() + body


@pytest.fixture
def web(url: str) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", urlsplit(url).port), timeout=SECONDS) as connection:
        yield connection


def status_of(web: socket.socket) -> int:
    """The next answer's, in time; nothing is read of its body."""
    head = b""
    while b"\r\n" not in head:
        piece = web.recv(1 << 16)
        assert piece, "the server hung up without an answer"
        head += piece
    return int(head.split()[1])


LONG = "a" * 70_000
ODD = {
    "a URL of 60 kB": (asked(f"{ROOT}/studies?PatientID={LONG[:60_000]}"), 204),
    "a URL of 70 kB": (asked(f"{ROOT}/studies?PatientID={LONG}"), 400),
    "a URL of 70 kB with a cookie": (asked(f"{ROOT}/studies?PatientID={LONG}", "Cookie: radlake_session=x"), 400),
    "a URL of 5 MB": (asked(f"{ROOT}/studies?PatientID={LONG * 70}"), 400),
    "a cookie of 70 kB": (asked(f"{ROOT}/studies", f"Cookie: radlake_session={LONG}"), 200),
    "5,000 headers": (asked(f"{ROOT}/studies", *(f"X-{n}: x" for n in range(5000))), 200),
    "5,000 media types": (asked(f"{ROOT}/studies", f"Accept: {'image/jls, ' * 5000}*/*"), 200),
    "5,000 UIDs": (asked(f"{ROOT}/studies?StudyInstanceUID={','.join(f'1.2.{n}' for n in range(5000))}"), 204),
    "5,000 conditions": (asked(f"{ROOT}/studies?{'&'.join(['PatientID=a*'] * 5000)}"), 400),
    "5,000 fields": (asked(f"{ROOT}/studies?includefield={','.join(['PatientID'] * 5000)}"), 200),
    "HEAD": (asked(method="HEAD"), 405),
    "OPTIONS": (asked(method="OPTIONS"), 405),
    "TRACE": (asked(method="TRACE"), 405),
    "a method that is none": (asked(method="STORE"), 400),
    "POST": (asked(method="POST", body=b""), 405),
    "POST with a body that does not come": (asked(f"{ROOT}/studies", "Content-Length: 100000", method="POST"), 405),
    "POST that waits": (asked(f"{ROOT}/studies", "Content-Length: 9", "Expect: 100-continue", method="POST"), 405),
    "GET with a body that does not come": (asked(f"{ROOT}/studies", "Content-Length: 100000"), 200),
    "GET with half of a body in chunks": (asked(f"{ROOT}/studies", "Transfer-Encoding: chunked", body=b"5\r\nhe"), 200),
    "a body with broken chunks": (asked(f"{ROOT}/studies", "Transfer-Encoding: chunked", body=b"zz\r\n"), 400),
    "two lengths": (asked(f"{ROOT}/studies", "Content-Length: 0", "Content-Length: 5"), 400),
    "a length and chunks": (asked(f"{ROOT}/studies", "Content-Length: 0", "Transfer-Encoding: chunked"), 400),
    "an upgrade to HTTP/2": (asked(f"{ROOT}/studies", "Connection: Upgrade", "Upgrade: h2c"), 200),
    "HTTP/2 at once": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (bytes.fromhex("16030100a5010000a10303") + bytes(150), 400),
    "no HTTP": (b"\0\1\2\r\n\r\n", 400),
    "a path that is not ASCII": (asked(f"{ROOT}/studies/\u674e"), 400),
    "bytes that are no UTF-8": (asked(f"{ROOT}/studies?PatientID=%FF%00%ED%A0%80"), 204),
    "a header with NUL": (asked(f"{ROOT}/studies", "X: a\0b"), 400),
    "a password that is no Base64": (asked().replace(b"Basic ", b"Basic !"), 401),
    "a range": (asked(f"{ROOT}/studies", "Range: bytes=0-1"), 200),
    "two slashes": (asked(f"{ROOT}//studies"), 404),
    "a way up": (asked(f"{ROOT}/../studies"), 404),
    "a quality that is none": (asked(f"{ROOT}/studies", "Accept: application/json;q=nan"), 406),
}  # fmt: skip


@pytest.mark.parametrize(("request_", "status"), [pytest.param(*one, id=name) for name, one in ODD.items()])
def test_an_odd_request_has_its_status(url: str, web: socket.socket, request_: bytes, status: int) -> None:
    web.sendall(request_)
    assert status_of(web) == status
    assert httpx.get(f"{url}/studies", auth=("researcher", PASSWORD), timeout=60).status_code == 200


def test_a_request_that_comes_byte_by_byte_keeps_nobody_waiting(url: str, web: socket.socket) -> None:
    whole = asked()
    for byte in whole[:40]:
        web.sendall(bytes([byte]))
    assert httpx.get(f"{url}/studies", auth=("researcher", PASSWORD), timeout=60).status_code == 200
    web.sendall(whole[40:])
    assert status_of(web) == 200


def test_requests_that_are_sent_at_once_are_answered_in_turn(web: socket.socket) -> None:
    paths = [f"{ROOT}/studies?limit=x", f"{ROOT}/nothing", f"{ROOT}/studies?PatientID=x", f"{ROOT}/series"]
    web.sendall(b"".join(map(asked, paths[:-1])) + asked(paths[-1], "Connection: close"))
    answer = b""
    while piece := web.recv(1 << 16):
        answer += piece
    assert re.findall(rb"HTTP/1\.1 (\d+) ", answer) == [b"400", b"404", b"204", b"200"]
