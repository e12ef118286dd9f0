"""A DICOMweb origin server that misbehaves to order: a real HTTP server whose answers the test writes.

with odd_origin(lambda request: Answer(b"[]")) as origin:
    connect(origin.node(), ae_title="RADLAKE").find_studies(window)
    origin.requests                            # what was asked, with its headers
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from radlake.net.node import WebNode

__all__ = ["Answer", "OddOrigin", "Request", "multipart", "odd_origin"]

BOUNDARY = b"radlake-test-boundary"
MULTIPART = f'multipart/related; type="application/dicom"; boundary={BOUNDARY.decode()}'


@dataclass(frozen=True)
class Request:
    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """A body in pieces.

    Attributes
    ----------
    said_length : int, optional
        Content-Length, true or not; the connection is closed after the body when None.
    pause : threading.Event, optional
        Waited for after the last piece, before the connection closes.
    """

    body: bytes | Iterable[bytes] = b""
    status: int = 200
    content_type: str = "application/dicom+json"
    headers: dict[str, str] = field(default_factory=dict)
    said_length: int | None = None
    pause: threading.Event | None = None


@dataclass
class OddOrigin:
    port: int
    requests: list[Request] = field(default_factory=list)

    def node(self, **settings: Any) -> WebNode:
        known = {"name": "odd", "base_url": f"http://127.0.0.1:{self.port}/dicom-web"}
        return WebNode.model_validate({**known, **settings})


def multipart(*instances: bytes, is_closed: bool = True, with_length: bool = False) -> bytes:
    body = b""
    for instance in instances:
        length = b"Content-Length: %d\r\n" % len(instance) if with_length else b""
        body += b"\r\n--" + BOUNDARY + b"\r\nContent-Type: application/dicom\r\n" + length + b"\r\n" + instance
    return body + (b"\r\n--" + BOUNDARY + b"--\r\n" if is_closed else b"")


@contextmanager
def odd_origin(answer: Callable[[Request], Answer], *, tls: ssl.SSLContext | None = None) -> Iterator[OddOrigin]:
    """Listen on 127.0.0.1 until the block ends."""
    origin = OddOrigin(0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {key: values[-1] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
            request = Request(url.path.removeprefix("/dicom-web"), query, dict(self.headers.items()))
            origin.requests.append(request)
            said = answer(request)
            self.send_response(said.status)
            for name, value in {"Content-Type": said.content_type, **said.headers}.items():
                self.send_header(name, value)
            if said.said_length is not None:
                self.send_header("Content-Length", str(said.said_length))
            self.end_headers()
            try:
                for piece in [said.body] if isinstance(said.body, bytes) else said.body:
                    self.wfile.write(piece)
                    self.wfile.flush()
                if said.pause:
                    said.pause.wait(10)
            except ConnectionError:
                pass  # it had enough of us

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    origin.port = server.server_address[1]
    listening = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    listening.start()
    try:
        yield origin
    finally:
        server.shutdown()
        server.server_close()
        listening.join()
