"""Routes of the CDS Hooks service. Every answer to a caller is JSON; an error is a FHIR OperationOutcome.

No answer, log line or error holds anything that a caller sent but ids of its draft orders, which go back to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from radlake.errors import RadlakeError
from radlake.log import get_logger
from radlake.reminder.desk import Desk, Question
from radlake.reminder.opening import Opening
from radlake.web.cds.cards import card
from radlake.web.cds.feedback import read_feedback
from radlake.web.cds.hook_request import HOOKS, HookInvalid, PrefetchMissing, json_from_body, read_request
from radlake.web.cds.issuers import Issuer, TokenRefused, verify
from radlake.web.cds.pages import add_pages
from radlake.web.cds.words import words_of

__all__ = ["SERVICE", "create_cds_app"]

SERVICE = "duplicate-imaging"
_PREFETCH = {
    "patient": "Patient/{{context.patientId}}",
    "encounter": "Encounter/{{context.encounterId}}",
}
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_MOST_BYTES = 1 << 20


def create_cds_app(
    desk: Desk,
    *,
    issuers: Callable[[], Mapping[str, Issuer]],
    public_url: str,
    utc_clock: Callable[[], datetime],
    opening: Opening | None = None,
    viewer: str = "",
) -> FastAPI:
    """The application over a desk.

    Parameters
    ----------
    issuers : callable
        Gives the allow-list of this moment.
    public_url : str
        Where callers reach this service, without a slash at the end: tokens are for it.
    utc_clock : callable
        UTC without a time zone; tokens are checked by it.
    opening : Opening, optional
        Where images are opened; without it cards have no link.
    viewer : str
        URL of a viewer, with `{study_uids}` in it.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    endpoint = f"{public_url}/cds-services/{SERVICE}"

    def caller(request: Request, *audiences: str) -> Issuer:
        now = utc_clock()
        return verify(
            request.headers.get("authorization", ""),
            issuers=issuers(),
            audiences=audiences,
            now=now,
            spend=lambda digest, expires_at: desk.journal.spend(digest, expires_at=expires_at, now=now),
        )

    def cards(issuer: Issuer, body: bytes, language: str) -> dict[str, Any]:
        asked = read_request(
            json_from_body(body),
            hospital_id=issuer.hospital_id,
            systems=issuer.systems,
            keys=desk.keys,
            policy=desk.policy,
        )
        shown = desk.ask(
            Question(
                hospital_id=issuer.hospital_id,
                hook=asked.hook,
                identifiers=asked.identifiers,
                orders=asked.orders,
                now=desk.clock(),
                born=asked.born,
                asked_by=asked.asked_by,
            )
        )
        words = words_of(language)
        # Two drafts of one exam are one matter.
        one_each = {one.reminder_id: one for one in reversed(shown)}
        links = {name: f"{public_url}/open/{name}" if opening else "" for name in one_each}
        return {
            "cards": [
                card(one, words, policy=desk.policy, link=links[one.reminder_id]) for one in reversed(one_each.values())
            ]
        }

    @app.get("/cds-services")
    def discovery(request: Request) -> Response:
        words = words_of(request.headers.get("accept-language", ""))
        services = [
            {
                "hook": hook,
                "id": SERVICE,
                "title": words("service.title"),
                "description": words("service.description"),
                "prefetch": _PREFETCH,
                "usageRequirements": words("service.usage"),
                "version": f"v{desk.policy.version}",
            }
            for hook in HOOKS
        ]
        return _json({"services": services})

    @app.post(f"/cds-services/{SERVICE}")
    async def ask(request: Request) -> Response:
        body = await _body(request)

        def answer() -> dict[str, Any]:
            return cards(caller(request, endpoint), body, request.headers.get("accept-language", ""))

        return await _answered(answer)

    @app.post(f"/cds-services/{SERVICE}/feedback")
    async def feedback(request: Request) -> Response:
        body = await _body(request)

        def answer() -> dict[str, Any]:
            issuer = caller(request, f"{endpoint}/feedback", endpoint)
            told = read_feedback(json_from_body(body), policy=desk.policy)
            unknown = [
                f"feedback[{number}].card is no card that this caller was shown"
                for number, one in enumerate(told)
                if not desk.journal.answer(
                    one.reminder_id,
                    issuer.hospital_id,
                    answer_code=one.answer_code,
                    ground_code=one.ground_code,
                    at=desk.utc(),
                )
            ]
            if unknown:
                raise HookInvalid(*unknown)
            return {}

        return await _answered(answer)

    if opening is not None:
        add_pages(app, desk, opening, viewer=viewer)

    @app.get("/healthz")
    def healthz() -> Response:
        return _json({"status": "ok"})

    @app.exception_handler(HTTPException)
    def http_error(_: Request, exc: HTTPException) -> Response:
        return _outcome(exc.status_code, "not-found" if exc.status_code == 404 else "processing", [str(exc.detail)])

    @app.exception_handler(Exception)
    def broken(_: Request, exc: Exception) -> Response:
        return _failed(exc)

    return app


def _failed(exc: Exception) -> Response:
    """Told by its class only: its text and traceback could show what was sent."""
    get_logger().error("reminder_failed", error_class=type(exc).__name__)
    if isinstance(exc, RadlakeError):
        return _outcome(503, "transient", ["the lake cannot be asked now; order as if nothing were known"])
    return _outcome(500, "exception", ["something is broken here; order as if nothing were known"])


async def _answered(answer: Callable[[], dict[str, Any]]) -> Response:
    """Run in a thread, and tell every failure by what kind it is."""
    try:
        return _json(await run_in_threadpool(answer))
    except TokenRefused as exc:
        return _outcome(401, "login", [exc.reason], {"www-authenticate": 'Bearer error="invalid_token"'})
    except HookInvalid as exc:
        return _outcome(400, "invalid", exc.problems)
    except PrefetchMissing as exc:
        return _outcome(412, "required", exc.problems)
    except Exception as exc:
        return _failed(exc)


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _MOST_BYTES:
            raise HTTPException(413, "a request has 1 MiB at most")
        parts.append(part)
    return b"".join(parts)


def _json(content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Response(text, status, {**_HEADERS, **(headers or {})}, media_type="application/json")


def _outcome(status: int, code: str, problems: Sequence[str], headers: Mapping[str, str] | None = None) -> Response:
    issues = [{"severity": "error", "code": code, "diagnostics": problem} for problem in problems]
    return _json({"resourceType": "OperationOutcome", "issue": issues}, status, headers)
