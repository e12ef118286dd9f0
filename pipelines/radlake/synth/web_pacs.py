"""A PACS over DICOMweb: QIDO-RS and WADO-RS of an archive (PS3.18 clauses 10.4 and 10.6).

Instances go out as their files lie there, streamed. Nothing is logged.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydicom import dcmread
from pydicom.datadict import keyword_for_tag

from radlake.synth.holdings import LEVELS, Held, Holdings, dataset_from
from radlake.synth.quirks import Quirks

__all__ = ["WebPacs", "make_app"]

_CHUNK = 1 << 20
_UIDS = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID", "instance": "SOPInstanceUID"}
_STUDY = "/studies/{study}"
_SERIES = "/studies/{study}/series/{series}"
_INSTANCE = "/studies/{study}/series/{series}/instances/{instance}"
_SEARCHES = {
    "/studies": "STUDY",
    "/series": "SERIES",
    f"{_STUDY}/series": "SERIES",
    "/instances": "IMAGE",
    f"{_STUDY}/instances": "IMAGE",
    f"{_SERIES}/instances": "IMAGE",
}


class DicomJson(JSONResponse):
    media_type = "application/dicom+json"


class WebPacs:
    """A running DICOMweb origin."""

    def __init__(self, holdings: Holdings, *, host: str, port: int, token: str, quirks: Quirks) -> None:
        listener = socket.create_server((host, port), backlog=64)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            make_app(holdings, token=token, quirks=quirks),
            log_level="critical",
            access_log=False,
            limit_concurrency=32,
        )
        server = uvicorn.Server(config)
        threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()


def make_app(holdings: Holdings, *, token: str, quirks: Quirks) -> FastAPI:
    """The application; with a token every request must bear it (RFC 6750)."""

    def authorize(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})

    app = FastAPI(openapi_url=None, dependencies=[Depends(authorize)])
    line = _Line(quirks)

    def search(level: str) -> Any:
        def endpoint(request: Request) -> Response:
            return _search(request, level, holdings=holdings, quirks=quirks)

        return endpoint

    def metadata(request: Request) -> Response:
        found = _found(request, holdings)
        return DicomJson([_metadata(held) for held in found])

    def retrieve(request: Request) -> Response:
        accept = request.headers.get("accept", "*/*")
        if not any(kind in accept for kind in ("multipart/related", "multipart/*", "*/*")):
            raise HTTPException(406)
        boundary = secrets.token_hex(16)
        return StreamingResponse(
            line.parts(_found(request, holdings), boundary=boundary),
            media_type=f'multipart/related; type="application/dicom"; boundary={boundary}',
        )

    for path, level in _SEARCHES.items():
        app.add_api_route(path, search(level))
    for path in (_STUDY, _SERIES, _INSTANCE):
        app.add_api_route(path, retrieve)
        app.add_api_route(f"{path}/metadata", metadata)
    return app


def _found(request: Request, holdings: Holdings) -> list[Held]:
    found = holdings.instances({_UIDS[name]: uid for name, uid in request.path_params.items()})
    if not found:
        raise HTTPException(404)
    return found


def _metadata(held: Held) -> dict[str, Any]:
    ds = dcmread(held.path, stop_before_pixels=True)
    return ds.to_json_dict(bulk_data_threshold=1024, bulk_data_element_handler=lambda _: "", suppress_invalid_tags=True)


def _search(request: Request, level: str, *, holdings: Holdings, quirks: Quirks) -> Response:
    query = {_UIDS[name]: uid for name, uid in request.path_params.items()}
    limits = {"limit": quirks.result_cap or None, "offset": 0}
    for key, value in request.query_params.multi_items():
        if key in limits:
            if not value.isdigit():
                raise HTTPException(400)
            limits[key] = min(int(value), limits[key] or int(value)) if key == "limit" else int(value)
        elif key not in ("includefield", "fuzzymatching"):
            query[_keyword(key)] = value
    answers = list(holdings.find(level, query))
    first = limits["offset"] or 0
    last = None if limits["limit"] is None else first + limits["limit"]
    found = [_answer(level, answer, request=request, quirks=quirks) for answer in answers[first:last]]
    return DicomJson(found) if found else Response(status_code=204)


def _keyword(key: str) -> str:
    """A query parameter names an attribute by keyword or by 8 hexadecimal digits."""
    try:
        return keyword_for_tag(int(key, 16)) if len(key) == 8 and not key.isalpha() else key
    except ValueError:
        return key


def _answer(level: str, answer: dict[str, str], *, request: Request, quirks: Quirks) -> dict[str, Any]:
    if quirks.omit_counts:
        answer = {key: value for key, value in answer.items() if not key.startswith("NumberOf")}
    ds = dataset_from(answer)
    ds.SpecificCharacterSet = "ISO_IR 192"
    depth = list(LEVELS).index(level) + 1
    path = (_STUDY, _SERIES, _INSTANCE)[depth - 1]
    uids = {name: answer[keyword] for name, keyword in list(_UIDS.items())[:depth]}
    ds.RetrieveURL = str(request.base_url).rstrip("/") + path.format(**uids)
    return ds.to_json_dict()


class _Line:
    """What leaves the PACS, counted over all responses: some connections are cut, some instances missing."""

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks
        self._lock = threading.Lock()
        self._n_sent = 0

    def parts(self, instances: list[Held], *, boundary: str) -> Iterator[bytes]:
        """The body of a multipart response (PS3.18 8.6.1.2), in chunks that fit in memory."""
        for held in instances:
            if held.sop_instance_uid in self._quirks.fail_instances:
                continue
            with self._lock:
                self._n_sent += 1
                if self._n_sent == self._quirks.drop_after_n + 1 > 1:
                    raise ConnectionAbortedError
            kind = f"application/dicom; transfer-syntax={held.transfer_syntax_uid}"
            yield f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode()
            with held.path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()
