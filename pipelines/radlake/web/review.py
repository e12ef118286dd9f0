"""The reviewer's pages: pictures of quarantine and what a person decides about them.

Not part of the public pages. They show identified pictures, so they belong to the restricted zone: loopback only, a
link that works once, requests for another host name refused, nothing kept by the browser.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from radlake.errors import RadlakeError
from radlake.ingest import HarvestSummary
from radlake.lake.reviews import ReviewRefused
from radlake.log import get_logger
from radlake.machine import utc_now
from radlake.pixels import DecisionKind
from radlake.review import Item, Queue, region_from_text, text_from_region
from radlake.review.picture import PictureUnreadable, frame_png, proposed_regions
from radlake.web.app import HEADERS, STATIC
from radlake.web.i18n import Words, language_from, load_words
from radlake.web.render import templates
from radlake.web.server import listen

__all__ = ["create_review_app", "serve_review"]

_HOSTS = ("127.0.0.1", "localhost")  # the second for a tunnel
_NO_TRACE = {
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
}
_MAX_BODY = 1 << 20
_SHOWN = 200  # rows of a list


class _Decision(BaseModel):
    model_config = ConfigDict(extra="forbid")

    decision: DecisionKind
    regions: list[str] = []
    why: str
    also: list[str] = []  # others of the same series


class _Undo(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ids: list[str]


def create_review_app(queue: Queue, *, by: str, token: str, replay: Callable[[], Sequence[HarvestSummary]]) -> ASGIApp:
    """The application of one reviewer.

    Parameters
    ----------
    by : str
        Who decides.
    token : str
        What the first request must carry as `?token=`; it works once.
    replay : callable
        Stores what is decided.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)

    def html(request: Request, template: str, *, status: int = 200, **context: Any) -> Response:
        words = _words(request)
        root = request.scope["root_path"]
        asked = f"?lang={words.language}" if "lang" in request.query_params else ""
        text = (
            templates()
            .get_template(template)
            .render(t=words, root=root, static=f"{root}/static", query=asked, path=request.url.path, by=by, **context)
        )
        return Response(text, status, media_type="text/html", headers={"content-language": words.language})

    @app.get("/")
    def overview(request: Request) -> Response:
        return html(request, "review.html", shown=_SHOWN, waiting=queue.waiting(), decided=queue.decided())

    @app.get("/items/{quarantine_id}")
    def item_page(request: Request, quarantine_id: str) -> Response:
        item = queue.find(quarantine_id)
        waiting = queue.waiting()
        ids = [other.quarantine_id for other in waiting]
        at = ids.index(item.quarantine_id) if item.quarantine_id in ids else None
        return html(
            request,
            "review_item.html",
            item=item,
            place=None if at is None else at + 1,
            n_waiting=len(waiting),
            before=ids[at - 1] if at else None,
            after=ids[at + 1] if at is not None and at + 1 < len(ids) else None,
            alike=queue.alike(item) if item.facts.has_picture else [],
        )

    @app.get("/items/{quarantine_id}/frames/{frame}.png")
    def picture(quarantine_id: str, frame: int) -> Response:
        item = queue.find(quarantine_id)
        if not 1 <= frame <= item.facts.n_frames:
            raise HTTPException(404)
        return Response(frame_png(item.path, frame), media_type="image/png")

    @app.get("/items/{quarantine_id}/text")
    def text(quarantine_id: str) -> Response:
        found = proposed_regions(queue.find(quarantine_id).path)
        return JSONResponse([text_from_region(region) for region in found])

    @app.post("/items/{quarantine_id}")
    def decide(quarantine_id: str, given: _Decision) -> Response:
        item = queue.find(quarantine_id)
        others = {other.quarantine_id: other for other in queue.alike(item)}
        if not set(given.also) <= others.keys():
            raise ReviewRefused(code="changed", what="series", reason="one of them does not wait any more; look again")
        try:
            regions = [region_from_text(region) for region in given.regions]
        except ValueError as exc:
            raise ReviewRefused(code="region", what="region", reason=str(exc)) from exc
        items: list[Item] = [item, *(others[name] for name in given.also)]
        queue.decide(items, kind=given.decision, regions=regions, by=by, why=given.why, now=utc_now())
        return JSONResponse({"decided": len(items)})

    @app.post("/undo")
    def undo(given: _Undo) -> Response:
        queue.undo(given.ids, by=by, now=utc_now())
        return JSONResponse({"undone": len(given.ids)})

    @app.post("/store")
    def store() -> Response:
        summaries = replay()
        return JSONResponse(
            {
                "stored": sum(item.instances_stored + item.instances_duplicate for item in summaries),
                "held": sum(item.instances_quarantined for item in summaries),
            }
        )

    def told(request: Request, exc: ReviewRefused, status: int) -> Response:
        message = _words(request)(f"review.refused.{exc.facts['code']}")
        if request.method == "GET" and not request.url.path.endswith((".png", "/text")):
            return html(request, "review_error.html", status=status, message=message)
        return JSONResponse({"message": message}, status)

    @app.exception_handler(ReviewRefused)
    def refused(request: Request, exc: ReviewRefused) -> Response:
        return told(request, exc, 404 if exc.facts["code"] == "unknown" else 409)

    @app.exception_handler(PictureUnreadable)
    def unreadable(request: Request, _: PictureUnreadable) -> Response:
        return told(request, ReviewRefused(code="hidden", what="", reason=""), 422)

    @app.exception_handler(RadlakeError)
    def failed(request: Request, exc: RadlakeError) -> Response:
        message = _words(request).get(f"outcome.{type(exc).__name__}") or str(exc)
        return JSONResponse({"message": message}, 503)

    @app.exception_handler(Exception)
    def broken(request: Request, exc: Exception) -> Response:
        get_logger().error("request_failed", error_class=type(exc).__name__)
        return JSONResponse({"message": _words(request)("error.internal.title")}, 500)

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return _Gate(app, token=token)


class _Gate:
    """Lets in who has the link, and only from this machine.

    The link is exchanged once for a path that nobody can guess: unlike a cookie it goes to no other port of this
    machine, and a foreign page that does not know it can ask for nothing.
    """

    def __init__(self, app: ASGIApp, *, token: str) -> None:
        self._app = app
        self._token: str | None = token
        self._root = f"/{secrets.token_urlsafe(32)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = self._answer(Request(scope))
        if answer is None:
            await self._app({**scope, "root_path": self._root}, receive, _without_trace(send))
        else:
            await answer(scope, receive, _without_trace(send))

    def _answer(self, request: Request) -> Response | None:
        """What is said at the door; None lets the request in."""
        host = request.headers.get("host", "")
        if host.rpartition(":")[0] not in _HOSTS:
            return _refusal("this page is for this machine only")
        path = request.url.path
        if path == "/" and request.method == "GET":
            given = parse_qs(request.url.query).get("token", [""])[0]
            if self._token and secrets.compare_digest(given.encode(), self._token.encode()):
                self._token = None
                return RedirectResponse(f"{self._root}/", 303)
        known = path.encode()[: len(self._root) + 1]
        if not secrets.compare_digest(known, f"{self._root}/".encode()):
            return _refusal("the link works once; start `radlake review` again for a new one")
        if request.method not in ("GET", "HEAD") and request.headers.get("origin") != f"http://{host}":
            return _refusal("asked for by another page")
        if int(request.headers.get("content-length") or 0) > _MAX_BODY:
            return Response(status_code=413)
        return None


def _refusal(reason: str) -> Response:
    return Response(f"403: {reason}\n", 403, media_type="text/plain")


def _without_trace(send: Send) -> Callable[[Message], Awaitable[None]]:
    headers = HEADERS | _NO_TRACE

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message["headers"] if name.decode().lower() not in headers]
            message["headers"] = [*kept, *((name.encode(), value.encode()) for name, value in headers.items())]
        await send(message)

    return send_with_headers


def serve_review(
    queue: Queue,
    *,
    by: str,
    host: str,
    port: int,
    replay: Callable[[], Sequence[HarvestSummary]],
    announce: Callable[[str], None],
) -> None:
    """Serve until interrupted; `announce` gets the link once the port is ours.

    Raises
    ------
    PortBusy
        When another program listens there.
    """
    token = secrets.token_urlsafe(32)
    with listen(host, port) as sock:
        announce(f"http://{host}:{sock.getsockname()[1]}/?token={token}")
        app = create_review_app(queue, by=by, token=token, replay=replay)
        config = uvicorn.Config(app, log_level="critical", access_log=False, server_header=False)
        get_logger().info("review_served", port=sock.getsockname()[1])
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[sock])


def _words(request: Request) -> Words:
    return load_words(language_from(request.query_params.get("lang"), request.headers.get("accept-language", "")))
