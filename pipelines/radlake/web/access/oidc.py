"""Signing in at an OpenID provider: authorization code with PKCE (OpenID Connect Core 1.0, 3.1; RFC 7636; RFC 9700).

The provider says who somebody is and in which groups; `roles` of the configuration says what that is here. Tokens are
checked by PyJWT and used once: nothing of the provider is kept after the sign-in but a name and a role.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import yaml

from radlake.config import resolve_secret
from radlake.errors import ConfigInvalid
from radlake.web.access.roles import Role

__all__ = ["OpenId", "Provider", "ProviderUnavailable", "SignInRefused", "Started", "provider_from"]

ALGORITHMS = ("ES256", "ES384", "PS256", "RS256")
_LEEWAY_SECONDS = 60
_PENDING_SECONDS = 600.0
_MOST_PENDING = 1000
_KEPT_SECONDS = 3600.0
_TIMEOUT_SECONDS = 10.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_NEEDED = {"issuer", "client_id", "role_claim", "roles"}
_FIELDS = _NEEDED | {"client_secret", "scope", "name_claim", "redirect_uri", "ca_file"}


class ProviderUnavailable(Exception):
    """The provider does not answer, or not as a provider does."""


class SignInRefused(Exception):
    """Somebody is not let in; `reason` holds nothing of a token."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Provider:
    """A provider and what its groups may do here.

    Attributes
    ----------
    role_claim, name_claim : str
        Claims of the ID token; a dot leads into an object (`realm_access.roles`).
    roles : mapping of str to Role
        Value of the role claim -> role, the first that fits; whoever has none is refused.
    client_secret : str
        Reference to the secret (`env:NAME`, `file:PATH`); empty for a public client.
    redirect_uri : str
        Where the provider sends people back; empty: to /sign-in/callback of the address that they used.
    ca_file : str
        Certificates that the provider's are checked by; empty: those of the machine.
    """

    issuer: str
    client_id: str
    role_claim: str
    roles: Mapping[str, Role]
    client_secret: str = ""
    scope: str = "openid profile"
    name_claim: str = "preferred_username"
    redirect_uri: str = ""
    ca_file: str = ""


def provider_from(path: Path) -> Provider:
    """Read a provider from YAML.

    Raises
    ------
    ConfigInvalid
        With all problems.
    """
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert isinstance(given, dict)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AssertionError) as exc:
        raise ConfigInvalid(path=path, problems=["must be YAML: docs/how-to/accounts.md has an example"]) from exc
    problems = [f"{name}: is missing" for name in sorted(_NEEDED - set(given))]
    problems += [f"{name}: there is no such field" for name in sorted(map(str, set(given) - _FIELDS))]
    problems += [f"{name}: must be a text" for name, v in given.items() if name != "roles" and not isinstance(v, str)]
    roles = given.get("roles", {})
    if not isinstance(roles, dict) or not roles or any(role not in [*Role] for role in roles.values()):
        problems.append(f"roles: must lead from values of the claim to {', '.join(Role)}")
    issuer = given.get("issuer", "https://")
    if isinstance(issuer, str) and not _is_safe(issuer):
        problems.append("issuer: must begin with https://")
    secret = given.get("client_secret", "")
    if isinstance(secret, str) and secret and not secret.startswith(("env:", "file:")):
        problems.append("client_secret: write where the secret is, not the secret: env:NAME or file:PATH")
    if problems:
        raise ConfigInvalid(path=path, problems=problems)
    return Provider(**{**given, "roles": {str(value): Role(role) for value, role in roles.items()}})


@dataclass(frozen=True)
class Started:
    """A sign-in that was begun: where to send the browser, and what it must bring back in a cookie."""

    url: str
    cookie: str


@dataclass(frozen=True)
class _Pending:
    cookie_sha256: bytes
    nonce: str
    verifier: str
    redirect_uri: str
    wanted: str
    begun_at: float


@dataclass
class _Known:
    """What the provider publishes about itself, for an hour."""

    document: Mapping[str, Any]
    keys: Mapping[str, Any]
    read_at: float = field(default=0.0)


class OpenId:
    """Sign-ins at one provider; what is under way is in memory, for ten minutes.

    Parameters
    ----------
    clock, now : callable
        Monotonic seconds, and seconds of the epoch that tokens are judged by.
    """

    def __init__(
        self, provider: Provider, *, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time
    ) -> None:
        self.provider = provider
        self._clock, self._now = clock, now
        self._lock = threading.Lock()
        self._pending: dict[str, _Pending] = {}
        self._known: _Known | None = None

    def begin(self, *, redirect_uri: str, wanted: str) -> Started:
        """Begin a sign-in.

        Raises
        ------
        ProviderUnavailable
        """
        endpoint = self._document()["authorization_endpoint"]
        state, nonce, verifier, cookie = (secrets.token_urlsafe(32) for _ in range(4))
        redirect_uri = self.provider.redirect_uri or redirect_uri
        pending = _Pending(_sha256(cookie), nonce, verifier, redirect_uri, wanted, self._clock())
        with self._lock:
            old = [k for k, one in self._pending.items() if self._clock() - one.begun_at > _PENDING_SECONDS]
            for key in [*old, *list(self._pending)[: len(self._pending) - _MOST_PENDING + 1]]:
                self._pending.pop(key, None)
            self._pending[state] = pending
        asked = {
            "response_type": "code", "client_id": self.provider.client_id, "redirect_uri": redirect_uri,
            "scope": self.provider.scope, "state": state, "nonce": nonce, "code_challenge_method": "S256",
            "code_challenge": base64.urlsafe_b64encode(_sha256(verifier)).rstrip(b"=").decode(),
        }  # fmt: skip
        return Started(f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}", cookie)

    def finish(self, answer: Mapping[str, str], *, cookie: str) -> tuple[str, Role, str]:
        """Who comes back from the provider, his role, and where he wanted to.

        Parameters
        ----------
        answer : mapping
            Parameters that the provider sent the browser back with.

        Raises
        ------
        SignInRefused, ProviderUnavailable
        """
        with self._lock:
            pending = self._pending.pop(answer.get("state", ""), None)  # whatever comes of it, once
        if pending is None or self._clock() - pending.begun_at > _PENDING_SECONDS:
            raise SignInRefused("the sign-in was not begun here, or too long ago")
        if not hmac.compare_digest(pending.cookie_sha256, _sha256(cookie)):
            raise SignInRefused("the sign-in was begun in another browser")
        if "error" in answer or not answer.get("code"):
            raise SignInRefused("the provider refused it")
        if answer.get("iss", self.provider.issuer) != self.provider.issuer:
            raise SignInRefused("another provider answered")  # RFC 9207
        claims = self._claims(self._id_token(answer["code"], pending), nonce=pending.nonce)
        name = _claim(claims, self.provider.name_claim) or claims["sub"]
        if not isinstance(name, str) or not 0 < len(name) <= 64 or not name.isprintable():
            raise SignInRefused("the provider gave no name that can be shown")
        return name, self._role(claims), pending.wanted

    def _role(self, claims: Mapping[str, Any]) -> Role:
        found = _claim(claims, self.provider.role_claim)
        given = {found} if isinstance(found, str) else set(map(str, found)) if isinstance(found, list) else set()
        role = next((role for value, role in self.provider.roles.items() if value in given), None)
        if role is None:
            raise SignInRefused("no group of this person has a role here")
        return role

    def _id_token(self, code: str, pending: _Pending) -> str:
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": pending.redirect_uri,
            "code_verifier": pending.verifier, "client_id": self.provider.client_id,
        }  # fmt: skip
        secret = resolve_secret(self.provider.client_secret) if self.provider.client_secret else ""
        found = self._ask("POST", self._document()["token_endpoint"], form, secret)
        if not isinstance(token := found.get("id_token"), str):
            raise SignInRefused("the provider gave no ID token")
        return token

    def _claims(self, token: str, *, nonce: str) -> dict[str, Any]:
        """The claims of a token, if it is of this provider, for us, now, and of this sign-in (Core 1.0, 3.1.3.7)."""
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            key = self._key(str(header.get("kid", "")))
            if header.get("alg") not in ALGORITHMS or key.algorithm_name != header["alg"]:
                raise SignInRefused("the token is signed in a way that is not allowed")
            claims = jwt.decode(
                token, key, algorithms=[header["alg"]], audience=self.provider.client_id, issuer=self.provider.issuer,
                leeway=_LEEWAY_SECONDS, options={"require": ["aud", "exp", "iat", "iss", "nonce", "sub"],
                                                 "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )  # fmt: skip
        except jwt.InvalidTokenError as exc:
            raise SignInRefused(f"the token does not hold ({type(exc).__name__})") from exc
        expires, issued = claims["exp"], claims["iat"]
        if not all(isinstance(at, int | float) for at in (expires, issued)):
            raise SignInRefused("the token tells no time")
        if not issued - _LEEWAY_SECONDS <= self._now() < expires + _LEEWAY_SECONDS:
            raise SignInRefused("the token has expired, or is not valid yet")
        if not hmac.compare_digest(str(claims["nonce"]).encode(), nonce.encode()):
            raise SignInRefused("the token is of another sign-in")
        audience = claims["aud"]
        parties = audience if isinstance(audience, list) else [audience]
        if claims.get("azp", self.provider.client_id if len(parties) == 1 else "") != self.provider.client_id:
            raise SignInRefused("the token is for another application")
        return claims

    def _key(self, kid: str) -> Any:
        known = self._now_known()
        if kid not in known.keys:
            with self._lock:
                self._known = None  # the provider may have new keys
            known = self._now_known()
        if kid not in known.keys:
            raise SignInRefused("the token is signed by a key that the provider does not publish")
        return known.keys[kid]

    def _document(self) -> Mapping[str, Any]:
        return self._now_known().document

    def _now_known(self) -> _Known:
        known = self._known
        if known is None or self._clock() - known.read_at > _KEPT_SECONDS:
            known = self._known = self._discovered()
        return known

    def _discovered(self) -> _Known:
        """What the provider publishes (OpenID Connect Discovery 1.0, 4)."""
        import jwt

        document = self._ask("GET", f"{self.provider.issuer.rstrip('/')}/.well-known/openid-configuration")
        if document.get("issuer") != self.provider.issuer:
            raise ProviderUnavailable("its discovery document is of another issuer")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not isinstance(document.get(name), str) or not _is_safe(document[name]):
                raise ProviderUnavailable(f"its discovery document has no {name} that begins with https://")
        keys = {}
        for given in self._ask("GET", document["jwks_uri"]).get("keys", ()):
            if isinstance(given, dict) and given.get("use", "sig") == "sig" and given.get("kty") in ("RSA", "EC"):
                try:
                    key = jwt.PyJWK(given)
                except jwt.PyJWTError:
                    continue  # of a kind that we do not know; others may do
                keys[str(given.get("kid", ""))] = key
        return _Known(document, keys, self._clock())

    def _ask(self, method: str, url: str, form: Mapping[str, str] | None = None, secret: str = "") -> dict[str, Any]:
        import httpx

        # Name and secret are form-encoded before they are joined (RFC 6749 2.3.1).
        auth = httpx.BasicAuth(quote_plus(self.provider.client_id), quote_plus(secret)) if secret else None
        try:
            with httpx.Client(timeout=_TIMEOUT_SECONDS, verify=self._trusted(), trust_env=False) as client:
                answer = client.request(method, url, data=form, auth=auth, headers={"accept": "application/json"})
            if form is not None and answer.status_code in (400, 401, 403):
                raise SignInRefused("the provider did not take the code")
            answer.raise_for_status()
            found = answer.json()
        except (httpx.HTTPError, ValueError, OSError) as exc:
            raise ProviderUnavailable(f"it does not answer as a provider does ({type(exc).__name__})") from exc
        if not isinstance(found, dict):
            raise ProviderUnavailable("its answer is no JSON object")
        return found

    def _trusted(self) -> Any:
        import ssl

        return ssl.create_default_context(cafile=self.provider.ca_file or None)


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _is_safe(url: str) -> bool:
    """Whether nobody between us and it can read along: https, or this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
