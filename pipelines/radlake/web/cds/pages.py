"""Pages that a doctor's browser opens from a card: how the patient consents, and what the one link then shows.

They say what the card said and no more until the patient consented, and nothing of who the patient is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, quote

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from radlake.lake.reminders import ShownReminder
from radlake.reminder.desk import Desk
from radlake.reminder.opening import Opening, OpeningRefused
from radlake.web.app import HEADERS, STATIC
from radlake.web.cds.words import exam_name, words_of
from radlake.web.i18n import Words
from radlake.web.render import templates

__all__ = ["add_pages"]

_MOST_BYTES = 4096
_STATUS = {
    "unknown": 404,
    "expired": 410,
    "used": 410,
    "gone": 410,
    "many": 429,
    "wrong": 403,
    "denied": 403,
    "burnt": 403,
}
_HEADERS = HEADERS | {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",  # the path is the key
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
}


def add_pages(app: FastAPI, desk: Desk, opening: Opening, *, viewer: str = "") -> None:
    """Add the pages.

    Parameters
    ----------
    viewer : str
        URL of a viewer with `{study_uids}` in it, joined by commas; empty when there is none.
    """

    def words(request: Request) -> Words:
        return words_of(request.headers.get("accept-language", ""), request.query_params.get("lang"))

    def html(request: Request, template: str, *, status: int = 200, **given: Any) -> Response:
        text = templates().get_template(template).render(t=words(request), **given)
        return Response(text, status, _HEADERS, media_type="text/html")

    def what(request: Request, reminder: ShownReminder) -> str:
        t = words(request)
        names = desk.references.hospitals.get(reminder.earlier_hospital_id)
        name = names[t.language == "en"] if names else reminder.earlier_hospital_id
        exam = exam_name(t, modality_group=reminder.modality_group, body_part_code=reminder.body_part_code)
        return t("open.what", exam=exam, days=reminder.earlier_days, hospital=name)

    def refused(request: Request, code: str) -> Response:
        message = words(request)(f"refused.{code}")
        return html(request, "reminder_refused.html", status=_STATUS[code], message=message)

    async def shown(request: Request, page: Callable[[], Response]) -> Response:
        try:
            return await run_in_threadpool(page)
        except OpeningRefused as exc:
            return refused(request, exc.facts["code"])

    @app.get("/open/{reminder_id}")
    async def choose(request: Request, reminder_id: str) -> Response:
        def page() -> Response:
            reminder = opening.reminder(reminder_id)
            given = {"reminder_id": reminder_id, "what": what(request, reminder), "kinds": list(opening.methods)}
            return html(request, "reminder_open.html", **given)

        return await shown(request, page)

    @app.post("/open/{reminder_id}")
    async def ask(request: Request, reminder_id: str) -> Response:
        form = await _form(request)

        def page() -> Response:
            consent_id = opening.ask(reminder_id, form.get("kind", ""))
            return _go(request, f"/open/{reminder_id}/{consent_id}")

        return await shown(request, page)

    @app.api_route("/open/{reminder_id}/{consent_id}", methods=["GET", "POST"])
    async def consent(request: Request, reminder_id: str, consent_id: str) -> Response:
        form = await _form(request) if request.method == "POST" else {}

        def page() -> Response:
            kind, message, status = opening.kind_of(reminder_id, consent_id), "", 200
            try:
                if token := opening.grant(reminder_id, consent_id, form.get("answer", "")):
                    return _go(request, f"/images/{token}")
            except OpeningRefused as exc:
                if exc.facts["code"] != "wrong":
                    raise
                message, status = words(request)("refused.wrong"), 403
            given = {"reminder_id": reminder_id, "consent_id": consent_id, "kind": kind, "message": message}
            reminder = opening.reminder(reminder_id)
            return html(request, "reminder_consent.html", status=status, what=what(request, reminder), **given)

        return await shown(request, page)

    @app.get("/images/{token}")
    async def images(request: Request, token: str) -> Response:
        def page() -> Response:
            opened = opening.open(token)
            if viewer:
                uids = quote(",".join(opened.study_uids), safe=",")
                return RedirectResponse(viewer.replace("{study_uids}", uids), 303, _HEADERS)
            return html(request, "reminder_images.html", opened=opened, what=what(request, opened.reminder))

        return await shown(request, page)

    app.mount("/static", StaticFiles(directory=STATIC), name="static")


async def _form(request: Request) -> dict[str, str]:
    """Fields of a small form of our own pages."""
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host", ""):
        raise HTTPException(403, "sent by another page")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, "a form has 4 KiB at most")
    return {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _go(request: Request, path: str) -> Response:
    lang = request.query_params.get("lang")
    return RedirectResponse(f"{path}?lang={quote(lang)}" if lang else path, 303, _HEADERS)
