"""An HTTP proxy before a real S3 store that answers some requests wrongly: 500, 503 SlowDown, silence, reset.

with FaultyProxy(rgw.endpoint_url) as proxy:
    proxy.fail(kind="503", methods={"PUT"}, share=0.5)     # half of the PUTs from now on
"""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlsplit

__all__ = ["FaultyProxy", "Kind"]

Kind = Literal["500", "503", "reset", "lost answer", "silence"]

_BODY = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>injected</Message>'
    "<RequestId>0</RequestId></Error>"
)
_CODES = {"500": "InternalError", "503": "SlowDown"}
_HOP = {"connection", "transfer-encoding", "keep-alive"}


class FaultyProxy:
    """Runs as long as the `with` block; without faults it hands everything through.

    Attributes
    ----------
    endpoint_url : str
    injected : Counter
        How many requests got which fault.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream)
        self._faults: tuple[Kind, frozenset[str], float, int] | None = None
        self._dice = random.Random(1)
        self._lock = threading.Lock()
        self.injected: Counter[str] = Counter()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def fail(self, kind: Kind, *, methods: frozenset[str], share: float = 1.0, most: int = 1 << 30) -> None:
        """From now on, this share of the requests with these methods; after `most` of them all is well."""
        with self._lock:
            self.injected.clear()
            self._faults = kind, methods, share, most

    def heal(self) -> None:
        with self._lock:
            self._faults = None

    def fault_for(self, method: str) -> Kind | None:
        with self._lock:
            if self._faults is None:
                return None
            kind, methods, share, most = self._faults
            if method not in methods or self.injected[kind] >= most or self._dice.random() >= share:
                return None
            self.injected[kind] += 1
            return kind

    def connect(self) -> http.client.HTTPConnection:
        assert self._upstream.hostname
        return http.client.HTTPConnection(self._upstream.hostname, self._upstream.port, timeout=60)

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(proxy: FaultyProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = proxy.fault_for(self.command)
            if fault in _CODES:
                self._answer(int(fault), [], _BODY.format(code=_CODES[fault]).encode())
            elif fault == "silence":
                time.sleep(120)
            elif fault == "reset":
                self._reset()
            else:
                status, headers, content = self._ask(body)
                if fault == "lost answer":  # the store did it and nobody hears of it
                    self._reset()
                else:
                    self._answer(status, headers, content)

        def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            upstream = proxy.connect()
            try:
                headers = {name: value for name, value in self.headers.items() if name.lower() not in {"expect"}}
                upstream.request(self.command, self.path, body=body, headers=headers)  # Host stays: it is signed
                answer = upstream.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            except OSError:  # the store itself is away
                return 502, [], b""
            finally:
                upstream.close()

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            self.send_response_only(status)
            told = {name.lower() for name, _ in headers}
            for name, value in headers:
                if name.lower() not in _HOP and not (name.lower() == "content-length" and self.command != "HEAD"):
                    self.send_header(name, value)
            if self.command != "HEAD" or "content-length" not in told:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _reset(self) -> None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

        def handle(self) -> None:
            try:
                super().handle()
            except (OSError, ValueError):  # the client went away, or we closed the connection ourselves
                return

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    return Handler
