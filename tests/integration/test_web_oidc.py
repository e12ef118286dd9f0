"""Signing in at an OpenID provider that really runs: who is let in as what, and every token that must be refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa

from radlake.config import Settings
from radlake.errors import ConfigInvalid
from radlake.lake import Lake
from radlake.web.access import Role
from radlake.web.access.oidc import provider_from
from radlake.web.server import access_of, accounts_of, app_of, audit_of
from support import weblake
from support.openid import CLIENT_ID, CLIENT_SECRET, OpenIdProvider, running_provider
from support.webserver import running


@pytest.fixture(scope="module")
def idp() -> Iterator[OpenIdProvider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture(autouse=True)
def well_behaved(request: pytest.FixtureRequest) -> None:
    if "idp" in request.fixturenames:
        provider: OpenIdProvider = request.getfixturevalue("idp")
        provider.changed, provider.algorithm, provider.signer, provider.is_down = {}, "RS256", None, False
        provider.person = {"sub": "u1", "preferred_username": "lin", "realm_access": {"roles": ["staff", "imaging"]}}


def configuration(issuer: str) -> dict[str, object]:
    return {
        "issuer": issuer, "client_id": CLIENT_ID, "client_secret": "env:RADLAKE_TEST_OIDC_SECRET",
        "role_claim": "realm_access.roles", "roles": {"imaging-admins": "admin", "imaging": "analyst"},
    }  # fmt: skip


@pytest.fixture(scope="module")
def settings(idp: OpenIdProvider, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("oidc")
    path = folder / "oidc.yaml"
    path.write_text(yaml.safe_dump(configuration(idp.issuer), sort_keys=False), encoding="utf-8")
    settings = Settings(lake=str(folder / "lake"), oidc=path)
    weblake.fill_operations(Lake.from_settings(settings), scale=1, batch_id="test")
    settings.prepare_restricted()
    return settings


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RADLAKE_TEST_OIDC_SECRET", CLIENT_SECRET)
        with running(app_of(settings, access_of(settings, "127.0.0.1"))) as url:
            yield url


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


def back(client: httpx.Client, *, to: str = "/about") -> str:
    """Go to the provider as a browser does; gives where it sends the browser back to."""
    begun = client.get("/sign-in/openid", params={"to": to})
    assert begun.status_code == 303
    return httpx.get(begun.headers["location"]).headers["location"]


def events(settings: Settings) -> list[tuple[str, str, str]]:
    found = [event for event in audit_of(settings).events() if event["type"]["code"] == "110114"]
    return [
        (one["agent"][0]["who"]["identifier"]["value"], one["outcome"], one.get("outcomeDesc", "")) for one in found
    ]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_person_of_a_group_is_let_in_with_its_role(
    settings: Settings, client: httpx.Client, idp: OpenIdProvider, algorithm: str
) -> None:
    idp.algorithm = algorithm
    page = client.get("/film?from=2026-01")
    assert page.headers["location"] == "/sign-in?to=%2Ffilm%3Ffrom%3D2026-01"
    assert "/sign-in/openid?to=%2Ffilm%3Ffrom%3D2026-01" in client.get(page.headers["location"]).text
    answer = client.get(back(client, to="/film?from=2026-01"))
    assert (answer.status_code, answer.headers["location"]) == (303, "/film?from=2026-01")
    shown = client.get("/about?lang=en")
    assert "lin (analyst)" in shown.text
    assert client.get("/audit").status_code == 403
    assert events(settings)[-1] == ("lin", "0", "")


def test_first_role_of_the_configuration_that_fits_is_given(client: httpx.Client, idp: OpenIdProvider) -> None:
    idp.person["realm_access"] = {"roles": ["imaging", "imaging-admins"]}
    client.get(back(client))
    assert "lin (administrator)" in client.get("/about?lang=en").text


WRONG = {
    "expired": ({"exp": int(time.time()) - 3600, "iat": int(time.time()) - 7200}, "has expired"),
    "from the future": ({"iat": int(time.time()) + 3600, "exp": int(time.time()) + 7200}, "not valid yet"),
    "for another client": ({"aud": "another"}, "InvalidAudienceError"),
    "for several clients": ({"aud": [CLIENT_ID, "another"]}, "another application"),
    "of another party": ({"azp": "another"}, "another application"),
    "of another issuer": ({"iss": "https://evil.example"}, "InvalidIssuerError"),
    "of another sign-in": ({"nonce": "replayed"}, "another sign-in"),
    "without a nonce": ({"nonce": None}, "MissingRequiredClaimError"),
    "without an end": ({"exp": None}, "MissingRequiredClaimError"),
    "without a person": ({"sub": None}, "MissingRequiredClaimError"),
    "of nobody here": ({"realm_access": {"roles": ["staff"]}}, "no group"),
    "without groups": ({"realm_access": None}, "no group"),
    "with a name that cannot be shown": ({"preferred_username": "x" * 65}, "no name"),
}


@pytest.mark.parametrize("name", WRONG)
def test_token_is_refused(settings: Settings, client: httpx.Client, idp: OpenIdProvider, name: str) -> None:
    idp.changed, told = WRONG[name]
    answer = client.get(back(client))
    assert answer.status_code == 403
    assert client.get("/about").status_code == 303
    who, outcome, why = events(settings)[-1]
    assert (who, outcome) == ("", "4")
    assert told in why


def test_token_of_a_foreign_key_is_refused(client: httpx.Client, idp: OpenIdProvider) -> None:
    idp.signer = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert client.get(back(client)).status_code == 403


def test_token_without_a_signature_or_signed_by_the_secret_is_refused(
    client: httpx.Client, idp: OpenIdProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jwt

    def token(asked: dict[str, str], algorithm: str, key: str | None) -> str:
        now = int(time.time())
        claims = {"iss": idp.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 60, "nonce": asked["nonce"]}
        headers = {"kid": f"RS256-{idp.generation}"}
        return jwt.encode({**claims, **idp.person}, key, algorithm=algorithm, headers=headers)  # pyright: ignore

    for algorithm, key in (("none", None), ("HS256", "a" * 64)):
        monkeypatch.setattr(idp, "token", lambda asked, a=algorithm, k=key: token(asked, a, k))
        assert client.get(back(client)).status_code == 403, algorithm


def test_new_key_of_the_provider_is_taken_without_a_restart(client: httpx.Client, idp: OpenIdProvider) -> None:
    assert client.get(back(client)).status_code == 303
    idp.turn_keys()
    assert client.get(back(client)).status_code == 303


def test_code_comes_once_from_the_same_browser_and_with_its_state(url: str, client: httpx.Client) -> None:
    link = back(client)
    with httpx.Client(base_url=url, timeout=30) as other:
        assert other.get(link).status_code == 403  # begun in another browser, and spent by that
    assert client.get(link).status_code == 403
    link = back(client)
    assert client.get(link).status_code == 303
    assert client.get(link).status_code == 403
    link = back(client)
    wrong = link.replace(parse_qs(urlsplit(link).query)["state"][0], "guessed")
    assert client.get(wrong).status_code == 403
    refused = back(client).replace("code=", "error=access_denied&was=")
    assert client.get(refused).status_code == 403
    assert client.get("/sign-in/callback").status_code == 403
    foreign = back(client) + "&iss=https%3A%2F%2Fevil.example"
    assert client.get(foreign).status_code == 403


def test_many_refused_sign_ins_of_an_address_are_told_to_wait(client: httpx.Client, idp: OpenIdProvider) -> None:
    for _ in range(20):
        assert client.get("/sign-in/callback?state=guessed&code=guessed").status_code == 403
    assert client.get(back(client)).status_code == 429


def test_sign_in_leads_only_to_pages_of_ours(client: httpx.Client) -> None:
    assert client.get(back(client, to="https://evil.example/")).headers["location"] == "/"
    assert client.get(back(client, to="//evil.example/")).headers["location"] == "/"


def test_local_account_signs_in_beside_the_provider(settings: Settings, client: httpx.Client) -> None:
    import re

    accounts_of(settings).put("local", Role.VIEWER, "a password for tests")
    page = client.get("/sign-in")
    token = re.search(r'name="token" value="(\w+)"', page.text)
    assert token
    form = {"name": "local", "password": "a password for tests", "token": token[1], "to": "/about"}
    assert client.post("/sign-in", data=form).headers["location"] == "/about"


def test_provider_that_does_not_answer_is_told(settings: Settings, idp: OpenIdProvider) -> None:
    idp.is_down = True
    with running(app_of(settings, access_of(settings, "127.0.0.1"))) as url, httpx.Client(base_url=url) as client:
        answer = client.get("/sign-in/openid?lang=en")
        assert answer.status_code == 503
        assert "does not answer" in answer.text
        idp.is_down, idp.told_issuer = False, "https://evil.example"
        assert client.get("/sign-in/openid").status_code == 503  # its discovery document is of another issuer
        idp.told_issuer = None
        assert client.get("/sign-in/openid").status_code == 303


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"issuer": "http://idp.example"}, "https://"),
        ({"client_secret": "plain text"}, "env:NAME"),
        ({"roles": {"x": "king"}}, "roles: must lead"),
        ({"scopes": "openid"}, "scopes: there is no such field"),
        ({"client_id": 7}, "client_id: must be a text"),
    ],
)
def test_wrong_configuration_is_told(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    path = tmp_path / "oidc.yaml"
    path.write_text(yaml.safe_dump(configuration("https://idp.example") | changes), encoding="utf-8")
    with pytest.raises(ConfigInvalid, match=told):
        provider_from(path)
