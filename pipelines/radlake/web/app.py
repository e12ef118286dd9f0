"""The web application: routes, headers, errors. It only reads; what it reads comes through `open_lake`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from radlake.cohort.pull import Release, ReleaseClosed, manifest_text
from radlake.contracts.periods import is_of_period
from radlake.errors import TransientError
from radlake.log import get_logger
from radlake.web.access import Access, Right
from radlake.web.access.gate import CALLBACK, ELSEWHERE, SIGN_IN, SIGN_OUT, Forbidden, NotSignedIn, Person, TooMany
from radlake.web.access.oidc import ProviderUnavailable, SignInRefused
from radlake.web.audited import AuditView
from radlake.web.dicomweb import ROOT
from radlake.web.export import FORMATS
from radlake.web.figures import FIGURES
from radlake.web.pages import PAGES, Page
from radlake.web.releases import Choice, Releases
from radlake.web.render import Renderer
from radlake.web.snapshot import Copy, LakeReader, LakeUnreadable
from radlake.web.tracing import TraceFailed, Tracer
from radlake.web.view import ViewInvalid

__all__ = ["create_app"]

EXAMS_TRACED = 3
EXAMS_LISTED = 200
_MOST_FORM_BYTES = 4096
STATIC = Path(__file__).parent / "static"
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def create_app(
    copy: Copy,
    *,
    access: Access | None = None,
    tracer: Tracer | None = None,
    releases: Releases | None = None,
    services: Mapping[str, ASGIApp] = MappingProxyType({}),
    version: Callable[[], Hashable] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
    check_seconds: float = 2.0,
) -> FastAPI:
    """Build the application over a lake.

    Parameters
    ----------
    copy : callable
        Writes the published tables of the lake to a DuckDB file; called again for each new version.
    access : Access, optional
        Who may see what; without it everybody is an analyst, and nothing is audited.
    tracer : Tracer, optional
        Traces numbers; without it cells have no links.
    releases : Releases, optional
        Opens releases of cohorts; without it there is no page of them.
    services : mapping of str to ASGI application
        For programs (DICOMweb, FHIR), by the path that each is mounted at.
    version : callable
        A cheap value that changes when the lake does.
    clock, check_seconds
        Monotonic seconds, and how often at most `version` is asked.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    reader = LakeReader(copy, version=version, clock=clock, check_seconds=check_seconds)
    gate = access or Access()
    show = Renderer(
        static=f"/static/{_digest(STATIC)}",
        access=gate,
        may_trace=tracer is not None,
        has_releases=releases is not None,
    )

    def add_page(page: Page) -> None:
        @app.api_route(page.path, methods=["GET", "HEAD"], name=page.name)
        def get(request: Request) -> Response:
            person = gate.require(request, page.right)
            return show.page(request, page, reader.snapshot(), person)

    for page in PAGES:
        add_page(page)

    @app.get("/export/{name}.{suffix}")
    def export(request: Request, name: str, suffix: str) -> Response:
        if name not in FIGURES or suffix not in FORMATS:
            raise HTTPException(404)
        person = gate.require(request, Right.EXPORT)
        if not person.may(FIGURES[name].right):
            raise Forbidden
        return show.export(request, FIGURES[name], suffix, reader.snapshot())

    @app.get("/trace/{number:path}")
    def trace(request: Request, number: str) -> Response:
        if tracer is None:
            raise HTTPException(404)
        person = gate.require(request, Right.LINEAGE)
        snapshot = reader.snapshot()
        n_exams = EXAMS_TRACED if person.may(Right.EXAMS) and not is_of_period(number) else 0
        return show.trace(request, snapshot, person, tracer.trace(number, n_exams=n_exams, snapshot=snapshot.id))

    @app.get("/exams/{number:path}")
    def exams(request: Request, number: str) -> Response:
        if tracer is None:
            raise HTTPException(404)
        person = gate.require(request, Right.EXAMS)
        snapshot = reader.snapshot()
        return show.exams(request, snapshot, person, tracer.exams(number, limit=EXAMS_LISTED, snapshot=snapshot.id))

    @app.get("/audit")
    def audit(request: Request) -> Response:
        person = gate.require(request, Right.AUDIT)
        if gate.audit is None:
            raise HTTPException(404)
        return show.audit(request, reader.snapshot(), person, AuditView.from_query(request.query_params), gate.audit)

    def opened(request: Request) -> tuple[Person, Releases, Choice, Release | None]:
        """Who asks for what of which release, which may be pulled; none when no release is named."""
        if releases is None:
            raise HTTPException(404)
        person = gate.require(request, Right.RELEASES)
        choice = Choice.from_query(request.query_params)
        return person, releases, choice, releases.open(choice.release_id) if choice.release_id else None

    @app.get("/releases")
    def release_page(request: Request) -> Response:
        person, _, choice, release = opened(request)
        if choice.release_id and release is None:
            return show.error(request, 404, "release", person=person)
        return show.release(request, reader.snapshot(), person, choice, release)

    @app.get("/releases/manifest")
    def manifest(request: Request) -> Response:
        person, kept, choice, release = opened(request)
        if release is None:
            return show.error(request, 404, "release", person=person)
        text = manifest_text(choice.manifest(release, kept.settings))
        headers = {
            "content-disposition": f'attachment; filename="{release.release_id}.manifest"',
            "cache-control": "private, no-cache",
        }
        return Response(text, media_type="text/plain; charset=utf-8", headers=headers)

    @app.exception_handler(ReleaseClosed)
    def release_closed(request: Request, exc: ReleaseClosed) -> Response:
        return show.error(request, 403, "release_closed", person=gate.person(request), reason=str(exc))

    @app.exception_handler(TraceFailed)
    def trace_failed(request: Request, exc: TraceFailed) -> Response:
        return show.error(request, 404, "trace", person=gate.person(request), reason=str(exc))

    @app.api_route(SIGN_IN, methods=["GET", "HEAD"])
    def sign_in(request: Request) -> Response:
        if gate.everyone is not None:
            raise HTTPException(404)
        return show.sign_in(request, gate)

    @app.post(SIGN_IN)
    async def signed_in(request: Request) -> Response:
        given = await _form(request)
        if gate.everyone is not None:
            raise HTTPException(404)

        def answer() -> Response:
            wanted = given.get("to", "")
            found = gate.sign_in(
                request,
                name=given.get("name", ""),
                password=given.get("password", ""),
                form_token=given.get("token", ""),
                wanted=wanted,
            )
            return found or show.sign_in(request, gate, wanted=wanted, is_wrong=True)

        return await run_in_threadpool(answer)  # a password is checked for a tenth of a second

    @app.post(SIGN_OUT)
    async def signed_out(request: Request) -> Response:
        given = await _form(request)
        return gate.sign_out(request, form_token=given.get("token", ""))

    @app.get(ELSEWHERE)
    def elsewhere(request: Request) -> Response:
        if gate.provider is None:
            raise HTTPException(404)
        return gate.send_elsewhere(request, gate.provider, wanted=request.query_params.get("to", ""))

    @app.get(CALLBACK)
    def callback(request: Request) -> Response:
        if gate.provider is None:
            raise HTTPException(404)
        return gate.come_back(request, gate.provider)

    @app.exception_handler(SignInRefused)
    def refused(request: Request, _: SignInRefused) -> Response:
        return show.error(request, 403, "refused")

    @app.exception_handler(ProviderUnavailable)
    def unavailable(request: Request, exc: ProviderUnavailable) -> Response:
        get_logger().error("provider_failed", reason=str(exc))
        return show.error(request, 503, "provider")

    @app.exception_handler(NotSignedIn)
    def not_signed_in(request: Request, _: NotSignedIn) -> Response:
        return show.to_sign_in(request)

    @app.exception_handler(Forbidden)
    def forbidden(request: Request, _: Forbidden) -> Response:
        return show.error(request, 403, "forbidden", person=gate.person(request))

    @app.exception_handler(TooMany)
    def too_many(request: Request, exc: TooMany) -> Response:
        response = show.error(request, 429, "too_many")
        response.headers["retry-after"] = str(round(exc.seconds) + 1)
        return response

    @app.api_route("/healthz", methods=["GET", "HEAD"])
    def healthz() -> Response:
        try:
            snapshot = reader.snapshot()
        except LakeUnreadable:
            return JSONResponse({"status": "lake unreadable"}, status_code=503)
        return JSONResponse({"status": "ok", "snapshot": snapshot.id, "data_to": snapshot.data_to})

    @app.api_route("/readyz", methods=["GET", "HEAD"])
    def readyz() -> Response:
        try:
            snapshot = reader.snapshot()
        except LakeUnreadable:
            return JSONResponse({"status": "not ready", "reasons": ["lake unreadable"]}, status_code=503)
        if not reader.is_current:  # pages show an old copy: another instance may have a newer one
            return JSONResponse({"status": "not ready", "reasons": ["old snapshot"]}, status_code=503)
        return JSONResponse({"status": "ok", "reasons": [], "snapshot": snapshot.id})

    @app.exception_handler(ViewInvalid)
    def view_invalid(request: Request, exc: ViewInvalid) -> Response:
        return show.error(request, 400, "view", parameter=exc.parameter, value=exc.value)

    @app.exception_handler(HTTPException)
    def http_error(request: Request, exc: HTTPException) -> Response:
        return show.error(request, exc.status_code, "not_found" if exc.status_code == 404 else "request")

    @app.exception_handler(LakeUnreadable)
    @app.exception_handler(TransientError)  # of the store, asked for a release
    def lake_unreadable(request: Request, _: Exception) -> Response:
        return show.error(request, 503, "lake")

    @app.exception_handler(Exception)
    def broken(request: Request, exc: Exception) -> Response:
        get_logger().error("request_failed", error_class=type(exc).__name__)
        response = show.error(request, 500, "internal")
        response.headers.update(HEADERS)  # this handler answers outside of every middleware
        return response

    for path, service in services.items():
        app.mount(path, service)
    app.mount(show.static, _Static(directory=STATIC), name="static")
    app.add_middleware(_Headers)
    app.add_middleware(_Compression, minimum_size=1024, compresslevel=6)
    return app


async def _form(request: Request) -> dict[str, str]:
    """Fields of a small form; what is longer, or no text, is refused unread."""
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > _MOST_FORM_BYTES:
            raise HTTPException(413)
    try:
        return dict(parse_qsl(content.decode("utf-8"), max_num_fields=20))
    except ValueError as exc:
        raise HTTPException(400) from exc


class _Headers:
    """Security headers on every response. Pages load nothing from elsewhere and hold no inline script or style."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                added = ((name.encode(), value.encode()) for name, value in HEADERS.items())
                message["headers"] = [*message["headers"], *(item for item in added if item[0] not in present)]
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class _Compression(GZipMiddleware):
    """Of pages. Images are large, and compressed where it helps."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_image = scope["type"] == "http" and scope["path"].startswith(f"{ROOT}/")
        await (self.app if is_image else super().__call__)(scope, receive, send)


class _Static(StaticFiles):
    """Files below a name that changes with their content: a browser asks for each only once."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def _digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:12]
