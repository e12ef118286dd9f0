"""What hospitals push over HTTP: STOW-RS (PS3.18 10.5) and notices in JSON; health and readiness for whoever watches.

A request body is read in a thread as it arrives, at the pace of the disk: neither memory nor the event loop waits for
its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import anyio
import anyio.from_thread
from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from radlake.errors import StoreFull
from radlake.lake.pushed import Notice, PushRecords, StepStatus
from radlake.log import get_logger
from radlake.machine import utc_now
from radlake.net import Hospital
from radlake.net.multipart import MultipartBroken, boundary_of
from radlake.receive.senders import Senders
from radlake.receive.spool import PushSpool
from radlake.receive.stow import answer, http_status, store_all

__all__ = ["create_app"]

_LARGEST_NOTICE = 16 << 20
_RETRY_SECONDS = 60
_DICOM_JSON = "application/dicom+json"

UID = Annotated[str, Field(pattern=r"^[0-9][0-9.]{0,63}$")]


class _Series(BaseModel):
    model_config = ConfigDict(extra="forbid")

    series: UID
    instances: list[UID] = Field(min_length=1)


class _Told(BaseModel):
    """A notice: the study, and the instances of its series, or how many instances there are, or both."""

    model_config = ConfigDict(extra="forbid")

    study: UID
    series: list[_Series] | None = None
    instances: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _tells(self) -> _Told:
        if not self.series and self.instances is None:
            raise ValueError("tell series with their instances, or how many instances the study has")
        if self.series and self.instances not in (None, len(self.listed or ())):
            raise ValueError("instances is another number than that of the instances in series")
        return self

    @property
    def listed(self) -> frozenset[str] | None:
        return frozenset(uid for item in self.series for uid in item.instances) if self.series else None


def create_app(
    senders: Senders,
    spool: PushSpool,
    records: PushRecords,
    *,
    told: Callable[[str, str], None],
    troubles: Callable[[], list[str]],
    largest: int,
    silence: float,
) -> FastAPI:
    """The application that hospitals push to.

    Parameters
    ----------
    told : callable
        Called with hospital and study when a notice was kept.
    troubles : callable
        Why we are not ready; empty when we are.
    largest : int
        Bytes of a request at most.
    silence : float
        Seconds without a byte that end a request.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)

    @app.post("/studies")
    async def store(request: Request) -> Response:
        return await _stored(request, None)

    @app.post("/studies/{study_uid}")
    async def store_study(request: Request, study_uid: str) -> Response:
        return await _stored(request, study_uid)

    async def _stored(request: Request, study_uid: str | None) -> Response:
        hospital = await to_thread.run_sync(_hospital, request, senders)
        content_type = request.headers.get("content-type", "")
        boundary = boundary_of(content_type)
        if boundary is None or "application/dicom+" in content_type or not _is_related(content_type):
            raise HTTPException(415, 'send multipart/related; type="application/dicom"')
        if not any(kind in request.headers.get("accept", "*/*") for kind in ("json", "*/*", "application/*")):
            raise HTTPException(406, f"the answer is {_DICOM_JSON}")
        name, body = hospital.hospital_id, _Body(request, largest=largest, silence=silence)

        def work() -> Any:
            return store_all(
                body.chunks(), boundary=boundary, study_uid=study_uid, intake=lambda uid: spool.intake(name, uid)
            )

        try:
            stored = await to_thread.run_sync(work)
        except MultipartBroken as exc:
            raise HTTPException(400, str(exc)) from exc
        except ClientDisconnect:
            get_logger().warning("stow_request_lost", hospital=name)
            return Response(status_code=400)
        status = http_status(stored)
        n_failed = sum(1 for item in stored if item.failure)
        get_logger().info("stow_request_done", hospital=name, n_instances=len(stored), n_failed=n_failed, status=status)
        headers = {"retry-after": str(_RETRY_SECONDS)} if status == 503 else None
        return JSONResponse(answer(stored), status_code=status, headers=headers, media_type=_DICOM_JSON)

    @app.post("/notices")
    async def notify(request: Request) -> Response:
        hospital = await to_thread.run_sync(_hospital, request, senders)
        body = _Body(request, largest=_LARGEST_NOTICE, silence=silence)
        try:
            notice = _Told.model_validate_json(await body.whole())
        except ValidationError as exc:
            problems = [
                f"{'.'.join(map(str, error['loc']))}: {error['msg'].removeprefix('Value error, ')}".removeprefix(": ")
                for error in exc.errors(include_url=False, include_input=False, include_context=False)
            ]
            return JSONResponse({"problems": problems}, status_code=400)
        kept = Notice(
            f"json:{notice.study}",
            notice.study,
            StepStatus.COMPLETED,
            notice.listed,
            None if notice.series else notice.instances,
        )
        await to_thread.run_sync(lambda: records.tell(hospital.hospital_id, kept, now=utc_now()))
        told(hospital.hospital_id, notice.study)
        return JSONResponse({"study": notice.study, "status": "kept"})

    @app.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> Response:
        found = await to_thread.run_sync(troubles)
        return JSONResponse({"status": "not ready" if found else "ok", "reasons": found}, 503 if found else 200)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, exc: HTTPException) -> Response:
        return JSONResponse({"problems": [exc.detail]}, status_code=exc.status_code, headers=exc.headers)

    @app.exception_handler(StoreFull)
    async def full(_: Request, __: StoreFull) -> Response:
        return JSONResponse(
            {"problems": ["our disk is full"]}, status_code=503, headers={"retry-after": str(_RETRY_SECONDS)}
        )

    return app


def _hospital(request: Request, senders: Senders) -> Hospital:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    hospital = senders.of_token(token.strip()) if scheme.lower() == "bearer" and token.strip() else None
    if hospital is None:
        address = request.client.host if request.client else "?"
        get_logger().warning("sender_refused", reason=f"no bearer token of a hospital, from {address}")
        raise HTTPException(401, "give the bearer token of your hospital", headers={"www-authenticate": "Bearer"})
    return hospital


def _is_related(content_type: str) -> bool:
    """Whether the parts are Part-10 files; a request without a type parameter is taken at its parts."""
    kind, _, rest = content_type.lower().partition(";")
    return kind.strip() == "multipart/related" and ("type=" not in rest or "application/dicom" in rest)


class _Body:
    """A request body with an end to its size and to every wait."""

    def __init__(self, request: Request, *, largest: int, silence: float) -> None:
        if int(request.headers.get("content-length", 0)) > largest:
            raise HTTPException(413, f"at most {largest} bytes in a request; send the study in several")
        self._stream = request.stream()
        self._largest, self._silence = largest, silence
        self._n_read = 0

    async def _next(self) -> bytes | None:
        try:
            with anyio.fail_after(self._silence):
                chunk = await anext(self._stream, None)
        except TimeoutError as exc:
            raise HTTPException(408, f"nothing came for {self._silence:g} s") from exc
        self._n_read += len(chunk or b"")
        if self._n_read > self._largest:
            raise HTTPException(413, f"at most {self._largest} bytes in a request; send the study in several")
        return chunk

    def chunks(self) -> Iterator[bytes]:
        """The body as it arrives; called in a worker thread."""
        while (chunk := anyio.from_thread.run(self._next)) is not None:
            yield chunk

    async def whole(self) -> bytes:
        data = bytearray()
        while (chunk := await self._next()) is not None:
            data += chunk
        return bytes(data)
