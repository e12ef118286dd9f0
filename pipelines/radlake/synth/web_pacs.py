"""A PACS over DICOMweb: QIDO-RS and WADO-RS of an archive (PS3.18 clauses 10.4 and 10.6).

Instances go out as they are held, one after the other. Nothing is logged.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import threading
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydicom import dcmread
from pydicom.datadict import keyword_for_tag

from radlake.synth.behaviour import Behaviour, Offline, TooBroad
from radlake.synth.holdings import LEVELS, Held, dataset_from

__all__ = ["WebPacs", "make_app"]

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

    def __init__(self, behaviour: Behaviour, *, host: str, port: int, token: str) -> None:
        listener = socket.create_server((host, port), backlog=64)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            make_app(behaviour, token=token),
            log_level="critical",
            access_log=False,
            limit_concurrency=32,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close its port when the answers under way are given."""
        self._server.should_exit = True
        self._thread.join()


def make_app(behaviour: Behaviour, *, token: str) -> FastAPI:
    """The application; with a token every request must bear it (RFC 6750)."""

    def authorize(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})
        if behaviour.refuses():
            raise HTTPException(503)

    app = FastAPI(openapi_url=None, dependencies=[Depends(authorize)])

    def search(level: str) -> Any:
        def endpoint(request: Request) -> Response:
            try:
                return _search(request, level, behaviour=behaviour)
            except TooBroad as exc:
                raise HTTPException(413) from exc

        return endpoint

    def metadata(request: Request) -> Response:
        found = behaviour.holdings.instances(_uids(request))
        if not found:
            raise HTTPException(404)
        return DicomJson([_metadata(held) for held in found])

    def retrieve(request: Request) -> Response:
        accept = request.headers.get("accept", "*/*")
        if not any(kind in accept for kind in ("multipart/related", "multipart/*", "*/*")):
            raise HTTPException(406)
        try:
            found = behaviour.sends(_uids(request))
        except Offline as exc:
            raise HTTPException(504) from exc  # it waited for the tape in vain; it is not busy
        if not found:
            raise HTTPException(404)
        boundary = secrets.token_hex(16)
        return StreamingResponse(
            _parts(found, boundary=boundary, behaviour=behaviour),
            media_type=f'multipart/related; type="application/dicom"; boundary={boundary}',
        )

    for path, level in _SEARCHES.items():
        app.add_api_route(path, search(level))
    for path in (_STUDY, _SERIES, _INSTANCE):
        app.add_api_route(path, retrieve)
        app.add_api_route(f"{path}/metadata", metadata)
    return app


def _uids(request: Request) -> dict[str, str]:
    return {_UIDS[name]: uid for name, uid in request.path_params.items()}


def _metadata(held: Held) -> dict[str, Any]:
    ds = dcmread(BytesIO(held.content()), stop_before_pixels=True)
    return ds.to_json_dict(bulk_data_threshold=1024, bulk_data_element_handler=lambda _: "", suppress_invalid_tags=True)


def _search(request: Request, level: str, *, behaviour: Behaviour) -> Response:
    quirks, query = behaviour.quirks, _uids(request)
    limits = {"limit": quirks.result_cap or None, "offset": 0}
    for key, value in request.query_params.multi_items():
        if key in limits:
            if not value.isdigit():
                raise HTTPException(400)
            limits[key] = min(int(value), limits[key] or int(value)) if key == "limit" else int(value)
        elif key not in ("includefield", "fuzzymatching"):
            query[_keyword(key)] = value
    answers = list(behaviour.find(level, query))
    first = limits["offset"] or 0
    last = None if limits["limit"] is None else first + limits["limit"]
    found = [_answer(level, answer, request=request) for answer in answers[first:last]]
    return DicomJson(found) if found else Response(status_code=204)


def _keyword(key: str) -> str:
    """A query parameter names an attribute by keyword or by 8 hexadecimal digits."""
    try:
        return keyword_for_tag(int(key, 16)) if len(key) == 8 and not key.isalpha() else key
    except ValueError:
        return key


def _answer(level: str, answer: dict[str, str], *, request: Request) -> dict[str, Any]:
    ds = dataset_from(answer)
    ds.SpecificCharacterSet = "ISO_IR 192"
    depth = list(LEVELS).index(level) + 1
    path = (_STUDY, _SERIES, _INSTANCE)[depth - 1]
    uids = {name: answer[keyword] for name, keyword in list(_UIDS.items())[:depth]}
    ds.RetrieveURL = str(request.base_url).rstrip("/") + path.format(**uids)
    return ds.to_json_dict()


def _parts(instances: list[Held], *, boundary: str, behaviour: Behaviour) -> Iterator[bytes]:
    """The body of a multipart response (PS3.18 8.6.1.2); instances that cannot be sent are left out."""
    for held in instances:
        if behaviour.cannot_send(held):
            continue
        if behaviour.is_cut():
            raise ConnectionAbortedError
        kind = f"application/dicom; transfer-syntax={held.transfer_syntax_uid}"
        yield f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode()
        yield held.content()
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()
