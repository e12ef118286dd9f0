"""HTTP/1.1 over one kept connection (RFC 9112): as much of it as a client of an object store needs.

Why not `http.client`: its parser of headers, made for mail, takes a third of the CPU time of a PUT of 0.5 MB
(docs/adr/0025-own-put.md).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Answer", "Body", "Connection", "ConnectionLost"]

Body = bytes | memoryview

_CONNECT_TIMEOUT = 10.0
_LONGEST_LINE = 65_536
_MOST_HEADERS = 100


class ConnectionLost(ConnectionError):
    """The other side closed the connection, or does not speak HTTP/1.1."""


@dataclass(frozen=True)
class Answer:
    """Status, headers (names in lower case) and body of what a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Connection:
    """A connection to `host` (`name` or `name:port`), open until the server or an error ends it."""

    def __init__(self, host: str, *, context: ssl.SSLContext | None, timeout: float) -> None:
        url = urlsplit(f"//{host}")
        name, port = url.hostname or "", url.port or (443 if context else 80)
        raw = socket.create_connection((name, port), timeout=_CONNECT_TIMEOUT)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = context.wrap_socket(raw, server_hostname=name) if context else raw
        except BaseException:
            raw.close()
            raise
        self._socket.settimeout(timeout)
        self._file = self._socket.makefile("rb")
        self.is_open = True

    def close(self) -> None:
        self.is_open = False
        with suppress(OSError):
            self._file.close()
            self._socket.close()

    def exchange(self, method: str, target: str, headers: Mapping[str, str], body: Body = b"") -> Answer:
        """Send a request and read its answer. Names and values of headers hold no line breaks.

        Raises
        ------
        OSError
            Of the socket; ConnectionLost when the answer breaks off or is none.
        """
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{method} {target} HTTP/1.1\r\n{fields}\r\n".encode("ascii")
        try:
            try:
                self._socket.sendall(head)
                if body:
                    self._socket.sendall(body)
            except (BrokenPipeError, ConnectionResetError):
                self.is_open = False  # a store that refuses does not wait for the whole body: its answer may be there
            answer = self._answer(method)
        except BaseException:
            self.close()
            raise
        if not self.is_open or answer.headers.get("connection", "").lower() == "close":
            self.close()
        return answer

    def _answer(self, method: str) -> Answer:
        status = 100
        headers: dict[str, str] = {}
        while 100 <= status < 200:
            status, headers = self._head()
        if method == "HEAD" or status in (204, 304):
            return Answer(status, headers)
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return Answer(status, headers, self._chunks())
        length = headers.get("content-length")
        if length is None:  # the body ends with the connection
            self.is_open = False
            return Answer(status, headers, self._file.read())
        return Answer(status, headers, self._exactly(_number(length, base=10)))

    def _head(self) -> tuple[int, dict[str, str]]:
        version, _, rest = self._line().partition(" ")
        if not version.startswith("HTTP/1."):
            raise ConnectionLost("no answer in HTTP/1.1")
        headers: dict[str, str] = {}
        while line := self._line():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
            if len(headers) > _MOST_HEADERS:
                raise ConnectionLost("too many headers")
        return _number(rest[:3], base=10), headers

    def _chunks(self) -> bytes:
        content = bytearray()
        while n_bytes := _number(self._line().partition(";")[0], base=16):
            content += self._exactly(n_bytes)
            self._line()
        while self._line():
            pass  # trailers
        return bytes(content)

    def _line(self) -> str:
        line = self._file.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise ConnectionLost("the answer broke off")
        return line.rstrip(b"\r\n").decode("latin-1")

    def _exactly(self, n_bytes: int) -> bytes:
        content = self._file.read(n_bytes)
        if len(content) != n_bytes:
            raise ConnectionLost("the answer broke off")
        return content


def _number(text: str, *, base: int) -> int:
    try:
        return int(text, base)
    except ValueError:
        raise ConnectionLost("no answer in HTTP/1.1") from None
