"""One request to an S3 store over kept connections, tried again when the store asks for patience.

Why not a library: docs/adr/0025-own-put.md. What is put where, and in how many parts, is `s3`'s to say.
"""

from __future__ import annotations

import hashlib
import random
import re
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

from radlake.lake.store.errors import StoreRefused
from radlake.lake.store.http1 import Answer, Body, Connection
from radlake.lake.store.signature import UNSIGNED, Credentials, encoded_path, encoded_query, signed_headers

__all__ = ["Bucket", "S3Client", "pause"]

_ATTEMPTS = 5
_BUSY = {408, 425, 429, 500, 502, 503, 504}
_LONGEST_PAUSE = 20.0
_TIMEOUT = 60.0
_ELEMENT = re.compile(r"<(Code|Region|Message)>([^<]*)</\1>")


@dataclass(frozen=True)
class Bucket:
    """Where a bucket is asked for: scheme, host with port, and what stands before each key in the path."""

    is_tls: bool
    host: str
    prefix: str

    @classmethod
    def at(cls, endpoint_url: str, name: str, *, region: str, is_virtual: bool) -> Bucket:
        """A bucket of an endpoint, or of AWS when that is empty; `is_virtual`: its name is part of the host's."""
        url = urlsplit(endpoint_url or f"https://s3.{region}.amazonaws.com")
        host = f"{name}.{url.netloc}" if is_virtual else url.netloc
        return cls(url.scheme == "https", host, url.path.rstrip("/") + ("" if is_virtual else f"/{name}"))


def pause(attempt: int, *, retry_after: str = "", share: float) -> float:
    """Seconds to wait before attempt `attempt + 1`: a share (0 to 1) of a time that doubles, or what the store asks."""
    asked = float(retry_after) if retry_after.isdecimal() else 0.0
    return min(max(share * 0.25 * 2**attempt, asked), _LONGEST_PAUSE)


@dataclass(eq=False)
class S3Client:
    """Requests to one bucket. Threads may share it, processes may not (a fork would share its connections)."""

    bucket: Bucket
    region: str
    credentials: Callable[[], Credentials] = field(repr=False)
    context: ssl.SSLContext | None = field(default=None, repr=False)
    sleep: Callable[[float], None] = time.sleep
    share: Callable[[], float] = random.random
    _idle: list[Connection] = field(default_factory=list, repr=False)

    def ask(
        self,
        method: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        expect: tuple[int, ...] = (200,),
    ) -> Answer:
        """Send one request until the store has an answer to it.

        A request whose answer was lost is sent again: what is asked for here must bear that.

        Raises
        ------
        StoreRefused
            With the status and code of an answer that is none of `expect`.
        OSError
            When the last attempt met no answer at all.
        """
        for attempt in range(_ATTEMPTS):
            is_last = attempt == _ATTEMPTS - 1
            asked = ""
            try:
                answer = self._send(method, key, query or {}, headers or {}, body)
            except OSError as exc:
                if is_last or isinstance(exc, ssl.SSLCertVerificationError):
                    raise
            else:
                if answer.status in expect:
                    return answer
                if is_last or answer.status not in _BUSY:
                    raise _refused(answer)
                asked = answer.headers.get("retry-after", "")
            self.sleep(pause(attempt, retry_after=asked, share=self.share()))
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        while connection := self._kept():
            connection.close()

    def _send(self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str], body: Body) -> Answer:
        path, asked = encoded_path(f"{self.bucket.prefix}/{key}"), encoded_query(query)
        to_send = signed_headers(
            method,
            path,
            asked,
            {"host": self.bucket.host, **headers},
            payload_hash=UNSIGNED if self.bucket.is_tls else hashlib.sha256(body).hexdigest(),
            credentials=self.credentials(),
            region=self.region,
            now=datetime.now(UTC),
        )
        if method in ("PUT", "POST"):  # an empty body too: RGW answers 411 without it
            to_send["content-length"] = str(len(body))
        url = f"{path}?{asked}" if asked else path
        while connection := self._kept():
            with suppress(ConnectionError):  # the store may have closed it meanwhile: that says nothing about the store
                return self._keep(connection, connection.exchange(method, url, to_send, body))
        connection = Connection(self.bucket.host, context=self.context, timeout=_TIMEOUT)
        return self._keep(connection, connection.exchange(method, url, to_send, body))

    def _kept(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _keep(self, connection: Connection, answer: Answer) -> Answer:
        if connection.is_open:
            self._idle.append(connection)
        return answer


def _refused(answer: Answer) -> StoreRefused:
    said = dict(_ELEMENT.findall(answer.body.decode("utf-8", "replace")))
    return StoreRefused(
        status=answer.status,
        code=said.get("Code", ""),
        region=said.get("Region") or answer.headers.get("x-amz-bucket-region", ""),
        message=said.get("Message", ""),
    )
