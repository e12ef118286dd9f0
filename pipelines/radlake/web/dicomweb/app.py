"""The routes of DICOMweb (PS3.18 10.4, 10.6), an application below the pages with its own errors: texts, no pages."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from functools import partial

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from radlake.config import Settings
from radlake.dicom.uids import EXPLICIT_VR_LITTLE_ENDIAN
from radlake.errors import RadlakeError
from radlake.lake import Lake
from radlake.log import get_logger
from radlake.web.access import Access, Right
from radlake.web.access.gate import Forbidden, NotSignedIn, TooMany
from radlake.web.dicomweb import ROOT
from radlake.web.dicomweb.attributes import Level
from radlake.web.dicomweb.bulkdata import bulk_value, tags_of
from radlake.web.dicomweb.catalogue import Catalogue, Instance, Resource
from radlake.web.dicomweb.frames import OCTETS, frame_type, frames_of, numbers_of, sent_frames
from radlake.web.dicomweb.media import JSON, require_json, wishes
from radlake.web.dicomweb.metadata import PIXEL_DATA, json_of_instance
from radlake.web.dicomweb.multipart import Multipart
from radlake.web.dicomweb.pixels import Pixels
from radlake.web.dicomweb.query import search_from_url
from radlake.web.dicomweb.refusals import NotAcceptable, NotFound, Refused
from radlake.web.dicomweb.rendered import PICTURES, can_be_shown, look_from_query, picture, pictures
from radlake.web.dicomweb.retrieve import (
    DICOM,
    ZIP,
    can_be_sent,
    multipart_length,
    multipart_of,
    part10,
    sent_syntax,
    zip_of,
)

__all__ = ["create_dicomweb"]

_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_FRAMES = _INSTANCE + "/frames/{frames}"
_NAMES = ("study", "series", "instance")
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
    if settings.viewers:  # their pages send name and password themselves: no cookie of ours goes to another site
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.viewers.split(","),
            allow_methods=["GET"],
            allow_headers=["accept", "authorization"],
            expose_headers=["warning", "retry-after", "content-disposition"],
        )
    catalogue = Catalogue(Lake.from_settings(settings))
    pixels = Pixels(settings)

    def add_search(path: str, level: Level) -> None:
        @app.get(path)
        def search(request: Request) -> Response:
            access.require_program(request, Right.IMAGES)
            return _found(request, catalogue, level)

    for path, level in _SEARCHES.items():
        add_search(path, level)

    def wanted(request: Request) -> list[Instance]:
        """Instances of the path, for who may. Nothing is asked of a hospital before the request is understood."""
        access.require_program(request, Right.IMAGES)
        return catalogue.instances(_resource(request))

    @app.get(_STUDY + "/metadata")
    @app.get(_SERIES + "/metadata")
    @app.get(_INSTANCE + "/metadata")
    def metadata(request: Request) -> Response:
        instances = wanted(request)
        require_json(request)
        pixels.require(instances)
        return StreamingResponse(_metadata(request, pixels, instances), media_type=JSON)

    @app.get(_STUDY)
    @app.get(_SERIES)
    @app.get(_INSTANCE)
    def retrieve(request: Request) -> Response:
        return _retrieved(request, pixels, wanted(request))

    @app.get(_FRAMES)
    def frames(request: Request) -> Response:
        [instance] = wanted(request)
        return _frames(request, pixels, instance, numbers_of(request.path_params["frames"], instance))

    @app.get(_INSTANCE + "/bulkdata/{path}")
    def bulkdata(request: Request) -> Response:
        [instance] = wanted(request)
        return _bulkdata(request, pixels, instance, request.path_params["path"])

    @app.get(_STUDY + "/rendered")
    @app.get(_SERIES + "/rendered")
    @app.get(_INSTANCE + "/rendered")
    @app.get(_FRAMES + "/rendered")
    def rendered(request: Request) -> Response:
        return _rendered(request, pixels, wanted(request))

    _add_errors(app)
    return app


def _resource(request: Request) -> Resource:
    return Resource(**{name: uid for name, uid in request.path_params.items() if name in _NAMES})


def _base(request: Request) -> str:
    """URL of the service, as the client asked for it."""
    return str(request.base_url).rstrip("/") + ROOT


def _url(base: str, study: str, series: str = "", instance: str = "") -> str:
    named = zip(("studies", "series", "instances"), (study, series, instance), strict=True)
    return base + "".join(f"/{name}/{uid}" for name, uid in named if uid)


def _found(request: Request, catalogue: Catalogue, level: Level) -> Response:
    require_json(request)
    within = _resource(request) if request.path_params else None
    search = search_from_url(level, request.query_params.multi_items(), in_path=len(request.path_params))
    found = catalogue.search(search, within)
    base, warnings = _base(request), [*search.warnings]
    for one in found.results:
        uids = [one[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")[: level + 1]]
        one["00081190"] = {"vr": "UR", "Value": [_url(base, *uids)]}
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
        yield before + json.dumps(json_of_instance(pixels, one, url=url), ensure_ascii=False, allow_nan=False)
    yield "]"


def _retrieved(request: Request, pixels: Pixels, instances: list[Instance]) -> Response:
    """Part-10 files, or all of them in a ZIP; the first wish that can be met."""
    is_one = "instance" in request.path_params
    for wish in wishes(request):
        if wish.type == ZIP and not is_one:
            name = request.path_params.get("series") or request.path_params["study"]
            headers = {"content-disposition": f'attachment; filename="{name}.zip"'}
            pixels.require(instances)
            return StreamingResponse(zip_of(pixels, instances), media_type=ZIP, headers=headers)
        if not (wish.is_any or wish.type == DICOM) or not can_be_sent(instances, wish):
            continue
        if wish.is_multipart or wish.type == "*/*":
            pixels.require(instances)
            form = Multipart(DICOM)
            length = multipart_length(instances, wish, form)
            headers = {} if length is None else {"content-length": str(length)}
            body = multipart_of(pixels, instances, wish, form)
            return StreamingResponse(body, media_type=form.content_type, headers=headers)
        if is_one:
            pixels.require(instances)
            sent_as = f"{DICOM};transfer-syntax={sent_syntax(instances[0], wish)}"
            return StreamingResponse(part10(pixels, instances[0], wish), media_type=sent_as)
    raise NotAcceptable(
        f'Ask for multipart/related; type="{DICOM}"; transfer-syntax=* (as stored) or {EXPLICIT_VR_LITTLE_ENDIAN}, '
        f"or for {ZIP} of a study or series."
    )


def _frames(request: Request, pixels: Pixels, instance: Instance, numbers: Sequence[int]) -> Response:
    for wish in wishes(request):
        sent_as = frame_type(instance, wish)
        if sent_as is None or not (wish.is_multipart or wish.is_any or len(numbers) == 1):
            continue
        pixels.require([instance])
        frames = sent_frames(pixels, instance, numbers, sent_as)
        if not wish.is_multipart and not wish.is_any:
            return Response(next(frames), media_type=sent_as)
        return _parts(sent_as, frames)
    raise NotAcceptable(
        f"Ask for multipart/related with the type of the stored frames ({instance.syntax}), or with type="
        '"application/octet-stream" for values without compression.'
    )


def _bulkdata(request: Request, pixels: Pixels, instance: Instance, path: str) -> Response:
    """A value; Pixel Data as its frames."""
    if path == PIXEL_DATA and instance.pixel_offset is not None:
        return _frames(request, pixels, instance, frames_of(instance))
    wish = next((one for one in wishes(request) if one.type in (OCTETS, "application/*", "*/*")), None)
    if wish is None:
        raise NotAcceptable(f'Ask for multipart/related; type="{OCTETS}".')
    tags = tags_of(path)
    pixels.require([instance])
    value = bulk_value(pixels, instance, tags)
    if wish.is_multipart or wish.is_any:
        return _parts(OCTETS, iter([value]))
    return Response(value, media_type=OCTETS)


def _rendered(request: Request, pixels: Pixels, instances: list[Instance]) -> Response:
    """One picture of a frame or an instance (of several frames the first); of a series or study one of each frame."""
    look, path = look_from_query(request.query_params), request.path_params
    for wish in wishes(request):
        media_type = "image/jpeg" if wish.type in ("image/*", "*/*") else wish.type
        if media_type not in PICTURES:
            continue
        show = partial(picture, pixels, look=look, media_type=media_type)
        if "instance" in path:
            numbers = numbers_of(path.get("frames", "1"), instances[0])
            pixels.require(instances)
            if len(numbers) == 1 and not (wish.is_multipart and not wish.is_any):
                return Response(show(instances[0], numbers[0]), media_type=media_type)
            return _parts(media_type, (show(instances[0], number) for number in numbers))
        images = [one for one in instances if frames_of(one)]
        if not images:
            raise NotFound("There is no image in it.")
        shown = [one for one in images if can_be_shown(one)]
        pixels.require(shown)
        headers = {}
        if len(shown) < len(images):
            told = f"{len(images) - len(shown)} of {len(images)} instances cannot be shown, and are left out"
            headers = {"warning": f'299 {_base(request)} "{told}"'}
        return _parts(media_type, pictures(shown, show), headers=headers)
    raise NotAcceptable(f"Pictures are {' or '.join(PICTURES)}.")


def _parts(sent_as: str, contents: Iterator[bytes], *, headers: dict[str, str] | None = None) -> Response:
    """A message of contents of one type. The first is made before it begins, so that it can still be refused."""
    form = Multipart(sent_as.partition(";")[0])
    first = list(itertools.islice(contents, 1))

    def body() -> Iterator[bytes]:
        for content in itertools.chain(first, contents):
            yield form.head(sent_as) + content + form.tail
        yield form.end

    return StreamingResponse(body(), media_type=form.content_type, headers=headers)


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
