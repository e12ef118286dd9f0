"""The routes of FHIR Bulk Data, an application below the pages with its own errors: OperationOutcomes, no pages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from radlake.cohort.candidate import candidates
from radlake.cohort.fhir import TYPES
from radlake.cohort.fhir.resources import RELEASE, group, group_id
from radlake.cohort.pull import Release, ReleaseClosed, open_release
from radlake.config import Settings
from radlake.errors import ConfigInvalid, RadlakeError, SourceMissing
from radlake.lake import Lake
from radlake.log import get_logger
from radlake.machine import utc_now
from radlake.web.access import Access, Right
from radlake.web.access.gate import Forbidden, NotSignedIn, TooMany
from radlake.web.fhir import ROOT
from radlake.web.fhir.exports import Export, Exports
from radlake.web.fhir.kickoff import require_async, wanted_from_query
from radlake.web.fhir.outcomes import FHIR, Refused, outcome, refusal

__all__ = ["create_fhir"]

_NDJSON = "application/fhir+ndjson"
_DIGEST = re.compile(r"[0-9a-f]{64}")  # of a release whose name is too long for an id
_OUTCOMES = "OperationOutcome"
_BULK = "http://hl7.org/fhir/uv/bulkdata"


def create_fhir(settings: Settings, access: Access, *, exports: Exports | None = None) -> FastAPI:
    """Build the application; it is mounted at `ROOT`."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    kept, lake = exports or Exports(settings), Lake.from_settings(settings)

    def opened(release_id: str) -> Release:
        try:
            return open_release(settings, release_id, today=utc_now().date())
        except (SourceMissing, ConfigInvalid) as exc:
            raise Refused(404, "not-found", "There is no such release, or it was withdrawn.") from exc

    def own_export(request: Request, key: str) -> Export:
        """An export of who asks; of a release that may be pulled no more it is gone."""
        export = kept.of(access.require_program(request, Right.RELEASES), key)
        try:
            opened(export.release_id)
        except (Refused, ReleaseClosed):
            kept.drop(export)
            raise
        return export

    @app.get("/metadata")
    def metadata(request: Request) -> Response:
        access.require_program(request, Right.RELEASES)
        return _answer(request, _capabilities(_base(request)))

    @app.get("/Group")
    def search(request: Request, identifier: str = "") -> Response:
        """The release of an identifier: there is no list of all of them."""
        access.require_program(request, Right.RELEASES)
        system, _, release_id = identifier.rpartition("|")
        if system not in ("", RELEASE) or not release_id:
            raise Refused(400, "required", f"Search by identifier={RELEASE}|RELEASE.")
        try:
            found = [group(opened(release_id).document)]
        except (Refused, ReleaseClosed):
            found = []
        entries = [{"fullUrl": f"{_base(request)}/Group/{one['id']}", "resource": one} for one in found]
        return _answer(request, {"resourceType": "Bundle", "type": "searchset", "total": len(found), "entry": entries})

    @app.get("/Group/{name}")
    def read(request: Request, name: str) -> Response:
        access.require_program(request, Right.RELEASES)
        return _answer(request, group(opened(_release_id(lake, name)).document))

    @app.get("/Group/{name}/$export")
    def kick_off(request: Request, name: str) -> Response:
        person = access.require_program(request, Right.RELEASES)
        _require_accepted(request)
        prefer = ",".join(request.headers.getlist("prefer"))
        require_async(prefer)
        wanted = wanted_from_query(request.query_params.multi_items(), prefer=prefer)
        release = opened(_release_id(lake, name))
        approved_at = datetime.fromisoformat(release.document["approval"]["approved_at"]).replace(tzinfo=UTC)
        types = wanted.types_of(approved_at)
        export = kept.begin(person, release.release_id, types, request=str(request.url), ignored=wanted.ignored)
        return Response(status_code=202, headers={"content-location": f"{_base(request)}/exports/{export.key}"})

    @app.get("/exports/{key}")
    def status(request: Request, key: str) -> Response:
        export = own_export(request, key)
        if export.is_running:
            return Response(status_code=202, headers={"x-progress": export.progress, "retry-after": "1"})
        if export.counts is None or export.expires_at is None:
            raise Refused(500, "exception", f"The export failed: {export.failure}")
        headers = {"expires": format_datetime(export.expires_at, usegmt=True)}
        return JSONResponse(_manifest(export, f"{_base(request)}/exports/{key}"), headers=headers)

    @app.delete("/exports/{key}")
    def delete(request: Request, key: str) -> Response:
        kept.drop(own_export(request, key))
        return Response(status_code=202)

    @app.get("/exports/{key}/{name}.ndjson")
    def file(request: Request, key: str, name: str) -> Response:
        export = own_export(request, key)
        if name == _OUTCOMES and export.ignored:
            lines = (json.dumps(outcome("not-supported", told, severity="warning")) for told in export.ignored)
            return Response("".join(f"{line}\n" for line in lines), media_type=_NDJSON)
        if name not in (export.counts or {}):
            raise Refused(404, "not-found", "The export has no such file, or is not done.")
        return FileResponse(export.folder / f"{name}.ndjson", media_type=_NDJSON)

    _add_errors(app)
    return app


def _base(request: Request) -> str:
    """URL of the service, as the client asked for it."""
    return str(request.base_url).rstrip("/") + ROOT


def _release_id(lake: Lake, name: str) -> str:
    """The release of a Group: by its id of FHIR, or by the release's own."""
    if _DIGEST.fullmatch(name):
        return next((one for one in candidates(lake) if group_id(one) == name), name)
    return name.replace("..", "_")


def _answer(request: Request, resource: Mapping[str, Any]) -> Response:
    _require_accepted(request)
    return JSONResponse(resource, media_type=FHIR)


def _require_accepted(request: Request) -> None:
    accepted = {one.partition(";")[0].strip() for one in request.headers.get("accept", "*/*").split(",")}
    if not accepted & {FHIR, "application/json", "application/*", "*/*"}:
        raise Refused(406, "not-supported", f"This is answered as {FHIR} only.")


def _manifest(export: Export, url: str) -> dict[str, Any]:
    return {
        "transactionTime": export.started_at.isoformat(timespec="milliseconds"),
        "request": export.request,
        "requiresAccessToken": True,
        "output": [
            {"type": name, "url": f"{url}/{name}.ndjson", "count": count}
            for name, count in (export.counts or {}).items()
        ],
        "error": [{"type": _OUTCOMES, "url": f"{url}/{_OUTCOMES}.ndjson", "count": len(export.ignored)}]
        if export.ignored
        else [],
    }


def _capabilities(base: str) -> dict[str, Any]:
    export = {"name": "export", "definition": f"{_BULK}/OperationDefinition/group-export"}
    resource = {
        "type": "Group",
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "searchParam": [{"name": "identifier", "type": "token"}],
        "operation": [export],
    }
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-11-22",
        "kind": "instance",
        "instantiates": [f"{_BULK}/CapabilityStatement/bulk-data"],
        "software": {"name": "radlake"},
        "implementation": {"description": "Releases of cohorts by Bulk Data Access", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [
            {
                "mode": "server",
                "documentation": f"Group/$export writes {', '.join(TYPES)}.",
                "security": {"description": "HTTP Basic with the password of a researcher's account."},
                "resource": [resource],
            }
        ],
    }


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    def refused(_: Request, exc: Refused) -> Response:
        headers = {"retry-after": str(exc.retry_after)} if exc.retry_after else {}
        return refusal(exc.status, exc.code, str(exc), headers=headers)

    @app.exception_handler(ReleaseClosed)
    def closed(_: Request, exc: ReleaseClosed) -> Response:
        return refusal(403, "forbidden", str(exc))

    @app.exception_handler(NotSignedIn)
    def not_signed_in(_: Request, __: NotSignedIn) -> Response:
        told = "Sign in with the name and password of your account (HTTP Basic)."
        return refusal(401, "login", told, headers={"www-authenticate": 'Basic realm="radlake", charset="UTF-8"'})

    @app.exception_handler(Forbidden)
    def forbidden(_: Request, __: Forbidden) -> Response:
        return refusal(403, "forbidden", "Only researchers export releases. Ask who runs the platform for the role.")

    @app.exception_handler(TooMany)
    def too_many(_: Request, exc: TooMany) -> Response:
        return refusal(429, "throttled", "Too many requests.", headers={"retry-after": str(round(exc.seconds) + 1)})

    @app.exception_handler(HTTPException)
    def http_error(_: Request, exc: HTTPException) -> Response:
        code = "not-found" if exc.status_code == 404 else "not-supported"
        told = "There is no such resource; see docs/how-to/export-by-fhir.md for those that there are."
        return refusal(exc.status_code, code, told, headers=exc.headers)

    @app.exception_handler(RadlakeError)
    def unreadable(_: Request, exc: RadlakeError) -> Response:
        get_logger().error("lake_read_failed", error_class=type(exc).__name__)
        return refusal(503, "transient", "The lake cannot be read now. Ask again.", headers={"retry-after": "10"})
