"""Whatever a client sends, the pages answer with a reason, never with a fault of ours (Schemathesis over OpenAPI)."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from radlake.cli.trace import _plain, _told
from radlake.config import Settings
from radlake.errors import RadlakeError
from radlake.lake import Lake, duck
from radlake.lineage.listed import listed_exams
from radlake.lineage.trace import trace
from radlake.web.access import Access, Role
from radlake.web.access.oidc import OpenId, Provider
from radlake.web.app import create_app
from radlake.web.releases import Releases
from radlake.web.server import accounts_of, audit_of
from radlake.web.snapshot import TABLES, copying
from radlake.web.tracing import TraceFailed, Tracer, tracer_of
from radlake.web.view import PARAMETERS
from support import weblake
from support.openapi import TEXT, statuses_of
from support.openid import CLIENT_ID, running_provider
from support.webserver import running

# Parameters that the routes read by themselves, which FastAPI does not know.
READ = {
    "/audit": ("who", "route", "on", "before"),
    "/releases": ("release", "modality", "series"),
    "/releases/manifest": ("release", "modality", "series"),
    "/sign-in/callback": ("state", "code", "error", "iss"),
    "/sign-in/openid": ("to",),
    "/sign-in": ("to",),
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = Settings(lake=str(tmp_path_factory.mktemp("lake")))
    weblake.fill(Lake.from_settings(settings), scale=1)
    settings.prepare_restricted()
    accounts_of(settings).put("lin", Role.VIEWER, "a password for tests")
    return settings


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenId]:
    with running_provider() as idp:
        yield OpenId(Provider(idp.issuer, CLIENT_ID, role_claim="groups", roles={"x": Role.VIEWER}))


def in_this_process(settings: Settings) -> Tracer:
    """`radlake trace` without a process for each of some hundred questions."""

    def run(number: str, options: Sequence[str]) -> dict[str, Any]:
        try:
            if "--list" in options:
                found = listed_exams(settings, number, limit=5)
                told = {"number": str(found.number), "value": found.value, "n_exams": found.n_exams, "exams": []}
            else:
                told = _told(trace(settings, number, limit=0))
        except RadlakeError as exc:
            raise TraceFailed(str(exc)) from exc
        return json.loads(json.dumps(told, default=_plain))

    return Tracer(run)


def document(app: Any) -> dict[str, Any]:
    """The OpenAPI document with what the routes read of their queries and forms."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GET and HEAD of a page are one operation
        found = app.openapi()
    for path, operations in found["paths"].items():
        operations.pop("head", None)
        for name in (*READ.get(path, PARAMETERS.values()), "lang"):
            for method in operations.values():
                method.setdefault("parameters", []).append({"name": name, "in": "query", "schema": TEXT})
        if "post" in operations:
            fields = dict.fromkeys(("name", "password", "token", "to"), TEXT)
            form = {"schema": {"type": "object", "properties": fields}}
            operations["post"]["requestBody"] = {"content": {"application/x-www-form-urlencoded": form}}
    return found


@pytest.mark.parametrize("everyone", [Role.ADMIN, Role.RESEARCHER, None], ids=["admin", "researcher", "signing in"])
def test_no_request_finds_a_fault(settings: Settings, provider: OpenId, everyone: Role | None) -> None:
    lake, later = Lake.from_settings(settings), itertools.count(0, 1000)  # so that no limit is reached
    access = Access(
        accounts=accounts_of(settings), audit=audit_of(settings), everyone=everyone, provider=provider,
        clock=lambda: float(next(later)),
    )  # fmt: skip
    app = create_app(
        copying(lambda: duck.connect(lake, tables=TABLES)), access=access, tracer=in_this_process(settings),
        releases=Releases(settings), check_seconds=3600,
    )  # fmt: skip

    def is_asked(label: str) -> bool:
        if everyone is Role.RESEARCHER:
            return "/exams/" in label or "/releases" in label
        return everyone is not None or "/sign-" in label

    with running(app) as url:
        statuses = statuses_of(document(app), url, is_asked=is_asked)
    if everyone is Role.ADMIN:
        assert len(statuses) > 15
        assert statuses["GET /"] >= {200, 400}
        assert statuses["GET /audit"] >= {200}


@pytest.mark.parametrize(
    "number", ["stats.exam_volume/\0", "--help", "\udcff", "x" * 200_000], ids=["NUL", "option", "lone", "long"]
)
def test_name_that_no_process_can_be_given_is_refused(settings: Settings, number: str) -> None:
    with pytest.raises(TraceFailed):
        tracer_of(settings).trace(number, n_exams=0, snapshot="x")
