"""Bulk Data export of a release over a real socket: kick-off, status, files, deletion, and all that is refused."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from radlake.cohort.approval import revoke
from radlake.cohort.fhir.export import require_valid
from radlake.config import Settings
from radlake.web import command
from radlake.web.access import Access, Role
from radlake.web.fhir.app import create_fhir
from radlake.web.fhir.exports import KEPT, Exports
from radlake.web.server import access_of, accounts_of, app_of, audit_of
from support.cohorts import NOW, approved, built_everybody, lake_of_cts, released, with_findings, write_cts
from support.dicomweb import PASSWORD, serving
from support.webserver import running

N_PERSONS, N_EXAMS = 6, 2
LONG = "a_name_that_is_too_long_for_an_id_of_fhir_with_the_cohort"
ASYNC = {"prefer": "respond-async", "accept": "application/fhir+json"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("fhir")
    settings = lake_of_cts(folder, write_cts(folder / "in", persons=N_PERSONS, exams=N_EXAMS))
    with_findings(settings, {"A00000": "右肺气胸。"})
    built = built_everybody(settings)
    for project in ("alpha", "gone", LONG):
        approved(settings, released(settings, built, project).release_id)
    return settings


@pytest.fixture(scope="module")
def release_id(settings: Settings) -> str:
    [path] = (Path(settings.lake) / "releases").glob("*.alpha")
    return path.name


@pytest.fixture(scope="module")
def url(settings: Settings) -> Iterator[str]:
    with serving(settings) as url:
        yield url.replace("/dicom-web", "/fhir")


@pytest.fixture
def web(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, auth=("researcher", PASSWORD), timeout=60) as client:
        yield client


def begun(web: httpx.Client, release_id: str, query: str = "") -> str:
    answer = web.get(f"/Group/{release_id}/$export{query}", headers=ASYNC)
    assert answer.status_code == 202, answer.text
    return answer.headers["content-location"]


def done(web: httpx.Client, place: str) -> httpx.Response:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        answer = web.get(place)
        if answer.status_code != 202:
            return answer
        assert re.fullmatch(r"\d of \d files", answer.headers["x-progress"])
        assert int(answer.headers["retry-after"]) > 0
        time.sleep(0.2)
    raise TimeoutError(place)


def told(answer: httpx.Response) -> tuple[int, str]:
    """Status and issue code of what must be an OperationOutcome."""
    assert answer.headers["content-type"] == "application/fhir+json"
    content = answer.json()
    require_valid(content)
    [issue] = content["issue"]
    assert issue["details"]["text"]
    return answer.status_code, issue["code"]


def test_an_export_from_kick_off_to_deletion(web: httpx.Client, url: str, release_id: str) -> None:
    place = begun(web, release_id)
    assert place.startswith(f"{url}/exports/")
    answer = done(web, place)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert parsedate_to_datetime(answer.headers["expires"]) > datetime.now(UTC)
    manifest = answer.json()
    assert set(manifest) == {"transactionTime", "request", "requiresAccessToken", "output", "error"}
    assert manifest["request"] == f"{url}/Group/{release_id}/$export"
    assert manifest["requiresAccessToken"] is True
    counts = {one["type"]: one["count"] for one in manifest["output"]}
    assert counts == {"Patient": N_PERSONS, "Group": 1, "ImagingStudy": N_PERSONS * N_EXAMS, "DiagnosticReport": 1,
                      "Observation": 1}  # fmt: skip
    for one in manifest["output"]:
        file = web.get(one["url"], headers={"accept": "application/fhir+ndjson"})
        assert (file.status_code, file.headers["content-type"]) == (200, "application/fhir+ndjson")
        resources = [json.loads(line) for line in file.text.splitlines()]
        assert len(resources) == one["count"]
        for resource in resources:
            require_valid(resource)
            assert resource["resourceType"] == one["type"]
    assert web.delete(place).status_code == 202
    assert told(web.get(place)) == (404, "not-found")
    assert told(web.get(manifest["output"][0]["url"])) == (404, "not-found")
    assert told(web.delete(place)) == (404, "not-found")


def test_some_types_and_only_what_changed(web: httpx.Client, release_id: str) -> None:
    some = done(web, begun(web, release_id, "?_type=Patient,Group&_outputFormat=ndjson")).json()["output"]
    assert [one["type"] for one in some] == ["Patient", "Group"]
    before = f"{NOW - timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
    assert len(done(web, begun(web, release_id, f"?_type=Patient&_since={before}")).json()["output"]) == 1
    nothing = done(web, begun(web, release_id, f"?_since={NOW:%Y-%m-%dT%H:%M:%SZ}"))
    assert (nothing.status_code, nothing.json()["output"]) == (200, [])
    lenient = web.get(
        f"/Group/{release_id}/$export?_type=Patient,Medication&_elements=id",
        headers={"prefer": "respond-async, handling=lenient"},
    )
    manifest = done(web, lenient.headers["content-location"]).json()
    assert [one["type"] for one in manifest["output"]] == ["Patient"]
    [error] = manifest["error"]
    passed_over = [json.loads(line) for line in web.get(error["url"]).text.splitlines()]
    for one in passed_over:
        require_valid(one)
    texts = [one["issue"][0]["details"]["text"] for one in passed_over]
    assert (error["type"], error["count"], [text.split(" is ")[0] for text in texts]) == (
        "OperationOutcome",
        2,
        ["_elements", "_type Medication"],
    )


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/Group/{id}/$export", {"prefer": ""}, (400, "required")),
        ("/Group/{id}/$export", {"accept": "text/html"}, (406, "not-supported")),
        ("/Group/{id}/$export?_outputFormat=text/csv", {}, (400, "not-supported")),
        ("/Group/{id}/$export?_type=Medication", {}, (400, "not-supported")),
        ("/Group/{id}/$export?_typeFilter=Patient%3Fgender%3Dmale", {}, (400, "not-supported")),
        ("/Group/{id}/$export?_since=yesterday", {}, (400, "value")),
        ("/Group/{id}/$export?_since=2026-11-22T08:00:00", {}, (400, "value")),
        ("/Group/nobody.v1.0123456789ab.alpha/$export", {}, (404, "not-found")),
        ("/Group/..%2F..%2Frestricted/$export", {}, (404, "not-found")),
        ("/Group/x%20y/$export", {}, (404, "not-found")),
        ("/Group", {}, (400, "required")),
        ("/exports/none", {}, (404, "not-found")),
        ("/$export", {}, (404, "not-found")),
        ("/Patient/1", {}, (404, "not-found")),
    ],
)
def test_bad_requests_get_an_outcome(
    web: httpx.Client, release_id: str, path: str, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    assert told(web.get(path.replace("{id}", release_id), headers=ASYNC | headers)) == expected


def test_other_methods_are_not_allowed(web: httpx.Client, release_id: str) -> None:
    assert told(web.post(f"/Group/{release_id}/$export", headers=ASYNC)) == (405, "not-supported")


@pytest.mark.parametrize("project", ["alpha", LONG], ids=["short", "long"])
def test_a_release_is_found_by_its_identifier_and_read(settings: Settings, web: httpx.Client, project: str) -> None:
    [path] = (Path(settings.lake) / "releases").glob(f"*.{project}")
    release_id = path.name
    found = web.get("/Group", params={"identifier": f"urn:radlake:release|{release_id}"}).json()
    assert found["total"] == 1
    require_valid(found)
    [entry] = found["entry"]
    assert entry["resource"]["quantity"] == N_PERSONS
    assert web.get(entry["fullUrl"]).json() == entry["resource"]
    assert web.get("/Group", params={"identifier": "nobody.v1.x.y"}).json()["total"] == 0


def test_what_the_service_can_do_is_told(web: httpx.Client) -> None:
    statement = web.get("/metadata").json()
    require_valid(statement)
    assert (statement["fhirVersion"], statement["rest"][0]["resource"][0]["operation"][0]["name"]) == (
        "4.0.1",
        "export",
    )


@pytest.mark.parametrize("role", Role)
def test_only_researchers_export(settings: Settings, url: str, release_id: str, role: Role) -> None:
    app = create_fhir(settings, access_of(settings, "0.0.0.0"))
    routes = [(method, route.path) for route in app.routes for method in route.methods]  # type: ignore[attr-defined]
    assert len(routes) == 7
    with httpx.Client(auth=(role.value, PASSWORD)) as client:
        for method, path in routes:
            answer = client.request(method, url + re.sub(r"{\w+}", "x", path), headers=ASYNC)
            assert (answer.status_code == 403) == (role is not Role.RESEARCHER), (method, path)
    assert told(httpx.get(f"{url}/Group/{release_id}")) == (401, "login")


def test_every_request_is_in_the_audit(settings: Settings, web: httpx.Client, release_id: str) -> None:
    place = begun(web, release_id, "?_type=Group")
    done(web, place)
    web.delete(place)
    events = list(audit_of(settings).events())
    seen = [(one["action"], one["entity"][0]["what"]["display"], one["outcome"]) for one in events]
    key = place.rpartition("/")[2]
    assert ("R", f"/fhir/Group/{release_id}/$export?_type=Group", "0") in seen
    assert seen[-1] == ("D", f"/fhir/exports/{key}", "0")
    for event in events[-3:]:
        require_valid(event)
    assert not audit_of(settings).problems()


def test_an_export_is_of_who_asked_for_it(settings: Settings, url: str, web: httpx.Client, release_id: str) -> None:
    accounts_of(settings).put("other", Role.RESEARCHER, PASSWORD)
    place = begun(web, release_id, "?_type=Group")
    assert told(httpx.get(place, auth=("other", PASSWORD))) == (404, "not-found")
    assert told(httpx.delete(place, auth=("other", PASSWORD))) == (404, "not-found")
    assert done(web, place).status_code == 200


def test_a_release_that_is_revoked_ends_its_exports(settings: Settings, web: httpx.Client) -> None:
    [path] = (Path(settings.lake) / "releases").glob("*.gone")
    place = begun(web, path.name, "?_type=Patient")
    files = done(web, place).json()["output"]
    assert list((settings.restricted / "releases" / path.name / "exports").glob("*/Patient.ndjson"))
    revoke(settings, path.name, by="committee", why="2026-18", now=NOW)
    assert told(web.get(files[0]["url"])) == (403, "forbidden")
    assert not list((settings.restricted / "releases" / path.name / "exports").iterdir())
    assert told(web.get(place)) == (404, "not-found")
    assert told(web.get(f"/Group/{path.name}/$export", headers=ASYNC)) == (403, "forbidden")


@pytest.fixture
def slow(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[httpx.Client, Exports, list[datetime]]]:
    """A service whose exports never end by themselves, and whose clock a test moves."""
    monkeypatch.setattr(command, "_MAIN", "import time; time.sleep(600)")
    at = [datetime.now(UTC)]
    exports = Exports(settings, clock=lambda: at[0])
    access = access_of(settings, "0.0.0.0")
    app = FastAPI()
    app.mount("/fhir", create_fhir(settings, access, exports=exports))
    with (
        running(app) as url,
        httpx.Client(base_url=f"{url}/fhir", auth=("researcher", PASSWORD), timeout=60) as client,
    ):
        yield client, exports, at


def test_one_export_at_a_time_and_its_deletion_ends_the_process(
    slow: tuple[httpx.Client, Exports, list[datetime]], release_id: str
) -> None:
    web, exports, _ = slow
    place = begun(web, release_id)
    answer = web.get(f"/Group/{release_id}/$export", headers=ASYNC)
    assert told(answer) == (429, "throttled")
    assert int(answer.headers["retry-after"]) > 0
    [export] = exports._exports.values()
    process = export.process
    assert process is not None
    assert web.get(place).headers["x-progress"] == "0 of 5 files"
    assert web.delete(place).status_code == 202
    assert process.poll() is not None
    assert not export.folder.exists()


def test_an_export_that_fails_says_so(slow: tuple[httpx.Client, Exports, list[datetime]], release_id: str) -> None:
    web, exports, _ = slow
    place = begun(web, release_id)
    [export] = exports._exports.values()
    assert export.process is not None
    export.process.kill()
    answer = done(web, place)
    assert told(answer) == (500, "exception")


def test_files_are_kept_for_an_hour(slow: tuple[httpx.Client, Exports, list[datetime]], release_id: str) -> None:
    web, exports, at = slow
    place = begun(web, release_id, "?_since=2030-01-01T00:00:00Z")
    assert web.get(place).status_code == 200
    [export] = exports._exports.values()
    at[0] += KEPT - timedelta(seconds=1)
    assert web.get(place).status_code == 200
    at[0] += timedelta(seconds=1)
    assert told(web.get(place)) == (404, "not-found")
    assert not export.folder.exists()


def test_without_accounts_nobody_exports(settings: Settings, release_id: str) -> None:
    with running(app_of(settings, Access())) as url:
        assert told(httpx.get(f"{url}/fhir/Group/{release_id}/$export", headers=ASYNC)) == (403, "forbidden")
