"""Who may see what, over a real socket: every route for every role, sessions, forms, limits, and the audit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from radlake.config import Settings
from radlake.errors import ConfigInvalid
from radlake.lake import Lake, duck
from radlake.web.access import MAY, Access, Right, Role
from radlake.web.app import create_app
from radlake.web.figures import FIGURES
from radlake.web.pages import PAGES
from radlake.web.server import access_of, accounts_of, app_of, audit_of
from radlake.web.snapshot import TABLES, copying
from radlake.web.tracing import Tracer
from support import weblake
from support.webserver import running

PASSWORD = "a password for tests"
SERVICE = {"service", "reminders", "about"}
OPERATIONS = {"quality", "storage"}
# What each role may see, said here a second time and by page: the table of rights may not be its own proof.
PAGES_OF = {
    Role.VIEWER: {page.name for page in PAGES} - OPERATIONS,
    Role.ANALYST: {page.name for page in PAGES},
    Role.RESEARCHER: {page.name for page in PAGES},
    Role.ENGINEER: {page.name for page in PAGES},
    Role.DOCTOR: SERVICE,
    Role.ADMIN: {page.name for page in PAGES},
}
EXPORTS = {Role.ANALYST, Role.RESEARCHER, Role.ENGINEER, Role.ADMIN}
OPEN = {
    "/healthz",
    "/readyz",
    "/sign-in",
    "/sign-in/openid",
    "/sign-in/callback",
    "/sign-out",
}  # and files of the pages themselves


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = Settings(lake=str(tmp_path_factory.mktemp("lake")))
    weblake.fill(Lake.from_settings(settings), scale=40)
    settings.prepare_restricted()
    for role in Role:
        accounts_of(settings).put(role.value, role, PASSWORD)
    return settings


@pytest.fixture(scope="module")
def url(settings: Settings) -> Iterator[str]:
    with running(app_of(settings, access_of(settings, "0.0.0.0"))) as url:
        yield url


def sign_in(client: httpx.Client, name: str, password: str = PASSWORD, *, to: str = "/about") -> httpx.Response:
    page = client.get("/sign-in", params={"to": to, "lang": "en"})
    token = re.search(r'name="token" value="(\w+)"', page.text)
    wanted = re.search(r'name="to" value="([^"]*)"', page.text)
    assert token
    assert wanted
    form = {"name": name, "password": password, "token": token[1], "to": wanted[1]}
    return client.post("/sign-in", data=form, params={"lang": "en"})


@pytest.fixture(scope="module")
def clients(url: str) -> Iterator[dict[Role, httpx.Client]]:
    found = {role: httpx.Client(base_url=url, timeout=60) for role in Role}
    for role, client in found.items():
        assert sign_in(client, role.value).headers["location"] == "/about"
    yield found
    for client in found.values():
        client.close()


def test_every_route_is_in_the_matrix(settings: Settings) -> None:
    """A route that is added later must say who may use it."""
    app = app_of(settings, access_of(settings, "0.0.0.0"))
    paths = {getattr(route, "path", "") for route in app.routes}
    known = (
        OPEN
        | {page.path for page in PAGES}
        | {
            "/export/{name}.{suffix}",
            "/trace/{number:path}",
            "/dicom-web",
            "/fhir",
            "/exams/{number:path}",
            "/releases",
            "/releases/manifest",
            "/audit",
        }
    )
    assert {path for path in paths if not path.startswith("/static/")} == known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.parametrize("role", Role)
def test_page_of_role(clients: dict[Role, httpx.Client], role: Role, page) -> None:
    answer = clients[role].get(page.path)
    assert answer.status_code == (200 if page.name in PAGES_OF[role] else 403)
    if answer.status_code == 200:
        offered = {other.name for other in PAGES if f'href="{other.path}"' in answer.text and other.path != "/"}
        assert offered <= PAGES_OF[role]
        assert ("/export/" in answer.text) == (role in EXPORTS and bool(page.figures))


@pytest.mark.parametrize("role", Role)
def test_certificates_are_shown_to_roles_that_see_operations(clients: dict[Role, httpx.Client], role: Role) -> None:
    answer = clients[role].get("/harvest")
    assert ('id="certificates"' in answer.text) == (role in EXPORTS)
    assert ('id="silent_hospitals"' in answer.text) == (role is not Role.DOCTOR)
    assert clients[role].get("/export/certificates.csv").status_code == (200 if role in EXPORTS else 403)


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
@pytest.mark.parametrize("role", Role)
def test_file_of_role(clients: dict[Role, httpx.Client], role: Role, suffix: str) -> None:
    for name in ("film_by_month", "compliance_by_month", "builds"):
        answer = clients[role].get(f"/export/{name}.{suffix}")
        assert answer.status_code == (200 if role in EXPORTS else 403), name


@pytest.mark.parametrize("role", Role)
def test_lineage_of_role(clients: dict[Role, httpx.Client], role: Role) -> None:
    """The lake of this test was written without a build, so there is nothing to trace; who may ask is told so."""
    answer = clients[role].get("/trace/stats.exam_volume/no_such_column")
    assert answer.status_code == (404 if role in EXPORTS else 403)


@pytest.mark.parametrize("role", Role)
def test_exams_are_for_researchers_and_engineers_and_every_look_is_entered(
    settings: Settings, clients: dict[Role, httpx.Client], role: Role
) -> None:
    """The lake of this test was written without a build, so there are none to list; who may ask is told so."""
    may = role in (Role.RESEARCHER, Role.ENGINEER)
    path = "/exams/stats.duplicate_exam/hospital_id=h01/window_days=30/n_duplicates"
    answer = clients[role].get(path)
    assert answer.status_code == (404 if may else 403)
    entered = list(audit_of(settings).events())[-1]
    assert entered["agent"][0]["who"]["identifier"]["value"] == role.value
    assert (entered["entity"][0]["what"]["display"], entered["outcome"]) == (path, "0" if may else "4")
    page = clients[role].get("/duplicates")
    assert ("/exams/" in page.text) == may


@pytest.mark.parametrize("role", Role)
def test_releases_are_for_researchers(clients: dict[Role, httpx.Client], role: Role) -> None:
    may = role is Role.RESEARCHER
    assert clients[role].get("/releases").status_code == (200 if may else 403)
    answer = clients[role].get("/releases/manifest", params={"release": "no.such.release"})
    assert answer.status_code == (404 if may else 403)
    assert ('href="/releases"' in clients[role].get("/about").text) == may


@pytest.mark.parametrize("role", Role)
def test_audit_is_for_administrators(clients: dict[Role, httpx.Client], role: Role) -> None:
    answer = clients[role].get("/audit", params={"lang": "en"})
    assert answer.status_code == (200 if role is Role.ADMIN else 403)
    about = clients[role].get("/about").text
    assert ('href="/audit"' in about) == (role is Role.ADMIN)


def test_audit_shows_who_saw_what_and_whether_the_chain_is_whole(settings: Settings, tmp_path: Path) -> None:
    other = Settings(lake=settings.lake, restricted=tmp_path / "restricted")
    for role in (Role.ADMIN, Role.VIEWER):
        accounts_of(other).put(role.value, role, PASSWORD)
    access = access_of(other, "0.0.0.0")
    with running(app_of(other, access)) as url, httpx.Client(base_url=url, timeout=60) as client:
        with httpx.Client(base_url=url, timeout=60) as viewer:
            sign_in(viewer, "viewer")
            viewer.get("/film?from=2026-02")
            viewer.get("/quality")
        sign_in(client, "admin")
        page = client.get("/audit?lang=en")
        assert "the chain is whole" in page.text
        assert "/film?from=2026-02" in page.text
        assert "the role may not: operations" in page.text
        of_viewer = client.get("/audit?who=viewer&route=/quality&lang=en").text
        assert "/film?from=2026-02" not in of_viewer
        assert "1 events, newest first." in of_viewer
        assert client.get("/audit?on=never").status_code == 400
        path = audit_of(other).path
        path.write_text(path.read_text(encoding="utf-8").replace("/quality", "/storage"), encoding="utf-8")
        assert "the chain does not hold" in client.get("/audit?lang=en").text


def test_nobody_sees_anything_without_signing_in(url: str) -> None:
    with httpx.Client(base_url=url, timeout=60) as client:
        for path in (
            [page.path for page in PAGES]
            + [f"/export/{name}.csv" for name in FIGURES]
            + ["/trace/x", "/exams/x", "/releases", "/releases/manifest", "/audit"]
        ):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/sign-in"), path
        assert client.get("/film?from=2026-01&lang=en").headers["location"] == (
            "/sign-in?to=%2Ffilm%3Ffrom%3D2026-01%26lang%3Den&lang=en"
        )
        assert client.get("/healthz").status_code == 200
        client.cookies.set("radlake_session", "guessed")
        assert client.get("/").status_code == 303


def test_session_leads_where_it_was_wanted_and_ends(url: str) -> None:
    with httpx.Client(base_url=url, timeout=60) as client:
        answer = sign_in(client, "viewer", to="/film?from=2026-01")
        assert answer.headers["location"] == "/film?from=2026-01"
        cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("radlake_session="))
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        page = client.get("/film", params={"lang": "en"})
        assert "viewer (viewer)" in page.text
        assert page.headers["cache-control"] == "private, no-cache"
        token = re.search(r'name="token" value="(\w+)"', page.text)
        assert token
        kept = client.cookies["radlake_session"]
        assert client.post("/sign-out", data={"token": "0" * 64}).status_code == 403
        assert client.post("/sign-out", data={"token": token[1]}).status_code == 303
        client.cookies.set("radlake_session", kept)
        assert client.get("/film").status_code == 303


def test_form_of_another_site_is_refused(url: str) -> None:
    with httpx.Client(base_url=url, timeout=60) as client:
        form = {"name": "viewer", "password": PASSWORD, "to": "/"}
        assert client.post("/sign-in", data=form).status_code == 403
        client.get("/sign-in")
        assert client.post("/sign-in", data=form | {"token": "0" * 64}).status_code == 403
        assert client.post("/sign-in", content=b"x" * 5000).status_code == 413
        assert client.post("/sign-in", content=b"name=%ff").status_code == 403
        assert client.post("/sign-in", content=b"\xff\xfe").status_code == 400


def test_account_that_is_removed_or_changed_is_out_at_once(settings: Settings, url: str) -> None:
    accounts = accounts_of(settings)
    accounts.put("guest", Role.ANALYST, PASSWORD)
    with httpx.Client(base_url=url, timeout=60) as client:
        sign_in(client, "guest")
        assert client.get("/film").status_code == 200
        accounts.put("guest", Role.DOCTOR, PASSWORD)
        assert client.get("/film").status_code == 303
        sign_in(client, "guest")
        assert client.get("/film").status_code == 403
        assert client.get("/service").status_code == 200
        accounts.put("guest", Role.DOCTOR, f"{PASSWORD} and another")
        assert client.get("/service").status_code == 303
        sign_in(client, "guest", f"{PASSWORD} and another")
        assert client.get("/service").status_code == 200
        accounts.remove("guest")
        assert client.get("/service").status_code == 303


def test_guessing_is_stopped_and_entered(settings: Settings, tmp_path: Path) -> None:
    other = Settings(lake=settings.lake, restricted=tmp_path / "restricted")
    accounts_of(other).put("lin", Role.VIEWER, PASSWORD)
    access = access_of(other, "0.0.0.0")
    with running(app_of(other, access)) as url, httpx.Client(base_url=url, timeout=120) as client:
        answers = [sign_in(client, "lin", "a wrong password") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [401] * 5 + [429]
        assert int(answers[-1].headers["retry-after"]) > 60
        assert sign_in(client, "lin").status_code == 429  # the right one does not help either
        assert "The name or the password is wrong" in answers[0].text
    assert access.audit
    access.audit.close()
    log = audit_of(other)
    assert log.problems() == []
    told = [(event["outcome"], event["outcomeDesc"]) for event in log.events()]
    assert told == [("4", "name or password is wrong")] * 5 + [("4", "too many attempts")] * 2
    assert "wrong password" not in log.path.read_text(encoding="utf-8").replace("name or password is wrong", "")


def test_who_saw_what_is_entered_before_it_is_shown(
    settings: Settings, url: str, clients: dict[Role, httpx.Client]
) -> None:
    clients[Role.ANALYST].get("/film?from=2026-02&to=2026-03")
    clients[Role.ANALYST].get("/export/film_by_month.csv?from=2026-02")
    clients[Role.DOCTOR].get("/film")
    last = [
        (event["agent"][0]["who"]["identifier"]["value"], event["entity"][0]["what"]["display"], event["outcome"])
        for event in audit_of(settings).events()
    ][-3:]
    assert last == [
        ("analyst", "/film?from=2026-02&to=2026-03", "0"),
        ("analyst", "/export/film_by_month.csv?from=2026-02", "0"),
        ("doctor", "/film", "4"),
    ]


def test_without_accounts_the_pages_are_for_this_machine_alone(tmp_path: Path) -> None:
    settings = Settings(lake=str(tmp_path))
    assert access_of(settings, "127.0.0.1").everyone == Role.ANALYST
    assert access_of(settings, "0.0.0.0", everyone=Role.VIEWER).everyone == Role.VIEWER
    with pytest.raises(ConfigInvalid, match="radlake account add"):
        access_of(settings, "0.0.0.0")
    settings.prepare_restricted()
    accounts_of(settings).put("lin", Role.VIEWER, PASSWORD)
    assert access_of(settings, "127.0.0.1").everyone is None


def test_many_requests_of_one_person_are_told_to_wait(settings: Settings) -> None:
    now = [0.0]
    access = Access(accounts=accounts_of(settings), everyone=None, clock=lambda: now[0])

    class Asked:
        cookies: dict[str, str] = {}  # noqa: RUF012
        headers: dict[str, str] = {}  # noqa: RUF012
        client = None

    from radlake.web.access.gate import NotSignedIn, TooMany

    for _ in range(600):
        with pytest.raises(NotSignedIn):
            access.require(Asked(), Right.STATISTICS)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TooMany):
        access.require(Asked(), Right.STATISTICS)  # pyright: ignore[reportArgumentType]
    now[0] = 1.0
    with pytest.raises(NotSignedIn):
        access.require(Asked(), Right.STATISTICS)  # pyright: ignore[reportArgumentType]


def test_everybody_of_an_open_site_has_the_rights_of_its_role(settings: Settings) -> None:
    from radlake.lake import duck

    lake = Lake.from_settings(settings)
    for role in (Role.VIEWER, Role.ANALYST):
        app = create_app(copying(lambda: duck.connect(lake)), access=Access(everyone=role))
        with running(app) as url, httpx.Client(base_url=url, timeout=60) as client:
            assert client.get("/film").status_code == 200
            assert client.get("/sign-in").status_code == 404
            expected = 200 if Right.EXPORT in MAY[role] else 403
            assert client.get("/export/film_by_month.csv").status_code == expected


@pytest.mark.parametrize(
    ("number", "n_exams"),
    [
        ("stats.exam_volume/hospital_id=h06/n_exams", "3"),
        ("stats.exam_volume/exam_month=all/n_exams", "3"),
        ("stats.exam_volume/exam_month=2026-03/n_exams", "0"),
        ("stats.exam_rate/exam_year=2026/n_exams", "0"),
    ],
)
def test_no_exams_are_traced_of_a_month(tmp_path: Path, number: str, n_exams: str) -> None:
    """The true month beside the shifted date of an exam would tell by how much it is shifted."""
    asked: list[tuple[str, ...]] = []

    def traced(_: str, options: Sequence[str]) -> dict[str, Any]:
        asked.append(tuple(options))
        return {
            "number": number,
            "column": "n_exams",
            "value": 9,
            "problems": [],
            "steps": [],
            "exams": [],
            "counted": {"n_exams": 9},
        }

    lake = Lake.from_settings(Settings(lake=str(tmp_path)))
    weblake.fill(lake, scale=40)
    app = create_app(
        copying(lambda: duck.connect(lake, tables=TABLES)), access=Access(everyone=Role.ENGINEER), tracer=Tracer(traced)
    )
    with running(app) as url:
        assert httpx.get(f"{url}/trace/{number}?lang=en", timeout=60).status_code == 200
    assert asked == [("--exams", n_exams)]
