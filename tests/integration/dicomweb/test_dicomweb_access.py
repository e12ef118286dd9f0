"""Who may ask DICOMweb, what is written down of it, and which pages of other origins may."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest
from pydantic import ValidationError
from pydicom import Dataset

from radlake.config import Settings
from radlake.web.access import Role
from radlake.web.access.gate import SESSION
from radlake.web.dicomweb.app import create_dicomweb
from radlake.web.server import access_of, audit_of
from support.dicomweb import PASSWORD, ct, path_of, serving

MAY = {Role.RESEARCHER, Role.ENGINEER}


@pytest.mark.parametrize("role", Role)
def test_who_may_read_images(settings: Settings, url: str, role: Role) -> None:
    """Every route, with names that are none."""
    routes = [getattr(route, "path", "") for route in create_dicomweb(settings, access_of(settings, "0.0.0.0")).routes]
    assert len(routes) == 18
    with httpx.Client(auth=(role.value, PASSWORD), timeout=60) as client:
        for route in routes:
            answer = client.get(url + re.sub(r"{\w+}", "x", route))
            assert (answer.status_code == 403) == (role not in MAY), route


def test_nobody_without_a_password(url: str) -> None:
    for auth in (None, ("researcher", "a wrong password")):
        answer = httpx.get(f"{url}/studies", auth=auth)
        assert (answer.status_code, answer.headers["www-authenticate"].split()[0]) == (401, "Basic")


def test_a_session_that_is_over_does_not_stand_before_a_password(web: httpx.Client) -> None:
    for _ in range(7):  # a name is locked after five wrong passwords
        assert web.get("/studies", headers={"cookie": f"{SESSION}=over"}).status_code == 200


def test_a_program_that_asks_at_once_signs_in_once(settings: Settings) -> None:
    with serving(settings) as url, ThreadPoolExecutor(8) as pool:
        before = len(list(audit_of(settings).events()))
        ask = partial(httpx.get, auth=("engineer", PASSWORD), timeout=60)
        assert {answer.status_code for answer in pool.map(ask, [f"{url}/studies"] * 8)} == {200}
    kinds = [event["type"]["code"] for event in list(audit_of(settings).events())[before:]]
    assert (kinds.count("110114"), kinds.count("rest")) == (1, 8)


def test_every_request_is_audited(settings: Settings, web: httpx.Client, stored: dict[str, Dataset]) -> None:
    asked = f"{path_of(ct(stored))}/metadata"
    web.get(asked)
    last = list(audit_of(settings).events())[-1]
    assert last["agent"][0]["who"]["identifier"]["value"] == "researcher"
    assert last["entity"][0]["what"]["display"] == f"/dicom-web{asked}"


def test_viewers_of_other_origins_are_named_by_configuration(settings: Settings, web: httpx.Client) -> None:
    ours, other = "https://viewer.example:8443", "https://evil.example"
    asks = {"access-control-request-method": "GET", "access-control-request-headers": "authorization"}
    allowed = "access-control-allow-origin"
    assert allowed not in web.get("/studies", headers={"origin": ours}).headers
    assert web.options("/studies", headers={"origin": ours, **asks}).status_code == 405
    with serving(settings.model_copy(update={"viewers": f"https://a.example,{ours}"})) as url:
        asked = httpx.options(f"{url}/studies", headers={"origin": ours, **asks})
        assert (asked.status_code, asked.headers[allowed]) == (200, ours)
        assert allowed not in httpx.options(f"{url}/studies", headers={"origin": other, **asks}).headers
        for auth, status in ((("researcher", PASSWORD), 200), (None, 401)):
            answer = httpx.get(f"{url}/studies", auth=auth, headers={"origin": ours})
            assert (answer.status_code, answer.headers[allowed]) == (status, ours)
            assert "access-control-allow-credentials" not in answer.headers
    for wrong in ("*", "viewer.example", "https://viewer.example/path", "https://a.example, https://b.example"):
        with pytest.raises(ValidationError):
            Settings(lake=settings.lake, viewers=wrong)
