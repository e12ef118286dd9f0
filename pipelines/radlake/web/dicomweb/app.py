"""The routes of DICOMweb (PS3.18 10.4, 10.6), an application below the pages with its own errors: texts, no pages."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from radlake.config import Settings
from radlake.errors import RadlakeError
from radlake.lake import Lake
from radlake.log import get_logger
from radlake.web.access import Access, Right
from radlake.web.access.gate import Forbidden, NotSignedIn, TooMany
from radlake.web.dicomweb import ROOT
from radlake.web.dicomweb.attributes import Level
from radlake.web.dicomweb.catalogue import Catalogue, Instance, Resource
from radlake.web.dicomweb.media import JSON, require_json
from radlake.web.dicomweb.metadata import json_of_instance
from radlake.web.dicomweb.pixels import Pixels
from radlake.web.dicomweb.query import search_from_url
from radlake.web.dicomweb.refusals import Refused

__all__ = ["create_dicomweb"]

_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_SEARCHES = {
    "/studies": Level.STUDY,
    "/series": Level.SERIES,
    "/instances": Level.INSTANCE,
    f"{_STUDY}/series": Level.SERIES,
    f"{_STUDY}/instances": Level.INSTANCE,
    f"{_SERIES}/instances": Level.INSTANCE,
}


def create_dicomweb(settings: Settings, access: Access) -> FastAPI:
    """Build the application; it is mounted at `ROOT`."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    catalogue = Catalogue(Lake.from_settings(settings))
    pixels = Pixels(settings)

    def add_search(path: str, level: Level) -> None:
        @app.get(path)
        def search(request: Request) -> Response:
            access.require_program(request, Right.IMAGES)
            return _found(request, catalogue, level)

    for path, level in _SEARCHES.items():
        add_search(path, level)

    @app.get(_STUDY + "/metadata")
    @app.get(_SERIES + "/metadata")
    @app.get(_INSTANCE + "/metadata")
    def metadata(request: Request) -> Response:
        access.require_program(request, Right.IMAGES)
        require_json(request)
        instances = catalogue.instances(_resource(request))
        pixels.require(instances)
        return StreamingResponse(_metadata(request, pixels, instances), media_type=JSON)

    _add_errors(app)
    return app


def _resource(request: Request) -> Resource:
    return Resource(**request.path_params)


def _base(request: Request) -> str:
    """URL of the service, as the client asked for it."""
    return str(request.base_url).rstrip("/") + ROOT


def _url(base: str, study: str, series: str = "", instance: str = "") -> str:
    named = zip(("studies", "series", "instances"), (study, series, instance), strict=True)
    return base + "".join(f"/{name}/{uid}" for name, uid in named if uid)


def _found(request: Request, catalogue: Catalogue, level: Level) -> Response:
    require_json(request)
    within = _resource(request) if request.path_params else None
    search = search_from_url(level, request.query_params.multi_items(), study_in_path=within is not None)
    found = catalogue.search(search, within)
    base, warnings = _base(request), []
    for one in found.results:
        uids = [one[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")[: level + 1]]
        one["00081190"] = {"vr": "UR", "Value": [_url(base, *uids)]}
    if search.is_fuzzy:
        warnings.append("The fuzzymatching parameter is not supported. Only literal matching has been performed.")
    if found.n_remaining:
        warnings.append(f"There are {found.n_remaining} additional results that can be requested")
    headers = {"warning": ", ".join(f'299 {base} "{text}"' for text in warnings)} if warnings else {}
    if not found.results:
        return Response(status_code=204, headers=headers)
    return JSONResponse(found.results, media_type=JSON, headers=headers)


def _metadata(request: Request, pixels: Pixels, instances: list[Instance]) -> Iterator[str]:
    """A JSON array, one instance at a time."""
    base = _base(request)
    for before, one in zip(itertools.chain("[", itertools.repeat(",")), instances, strict=False):
        url = _url(base, one.study_uid, one.series_uid, one.uid)
        yield before + json.dumps(json_of_instance(pixels, one, url=url), ensure_ascii=False)
    yield "]"


def _add_errors(app: FastAPI) -> None:
    def text(status: int, told: str, **headers: str) -> Response:
        return PlainTextResponse(told + "\n", status, {name.replace("_", "-"): to for name, to in headers.items()})

    @app.exception_handler(Refused)
    def refused(_: Request, exc: Refused) -> Response:
        return text(exc.status, str(exc), **({"retry_after": "10"} if exc.status == 503 else {}))

    @app.exception_handler(NotSignedIn)
    def not_signed_in(_: Request, __: NotSignedIn) -> Response:
        told = "Sign in with the name and password of your account (HTTP Basic)."
        return text(401, told, www_authenticate='Basic realm="radlake", charset="UTF-8"')

    @app.exception_handler(Forbidden)
    def forbidden(_: Request, __: Forbidden) -> Response:
        return text(403, "Only researchers and engineers read images. Ask who runs the platform for the role.")

    @app.exception_handler(TooMany)
    def too_many(_: Request, exc: TooMany) -> Response:
        return text(429, "Too many requests.", retry_after=str(round(exc.seconds) + 1))

    @app.exception_handler(HTTPException)
    def http_error(_: Request, exc: HTTPException) -> Response:
        told = "There is no such resource; see docs/how-to/dicomweb.md for those that there are."
        return text(exc.status_code, told, **(dict(exc.headers or {})))

    @app.exception_handler(RadlakeError)
    def unreadable(_: Request, exc: RadlakeError) -> Response:
        get_logger().error("lake_read_failed", error_class=type(exc).__name__)
        return text(503, "The lake cannot be read now. Ask again.", retry_after="10")
