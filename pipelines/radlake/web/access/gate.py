"""The gate before every page: who asks, may he, and it is entered before it is answered."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from radlake.web.access.accounts import Account, Accounts
from radlake.web.access.audit import AuditLog
from radlake.web.access.limits import Limit
from radlake.web.access.oidc import OpenId, SignInRefused
from radlake.web.access.roles import MAY, Right, Role

__all__ = ["SIGN_IN", "Access", "Forbidden", "NotSignedIn", "Person", "TooMany"]

SIGN_IN, SIGN_OUT = "/sign-in", "/sign-out"
ELSEWHERE, CALLBACK = "/sign-in/openid", "/sign-in/callback"
SESSION, BEFORE, UNDER_WAY = "radlake_session", "radlake_before", "radlake_under_way"
IDLE_SECONDS, LONGEST_SECONDS = 2 * 3600.0, 12 * 3600.0


@dataclass(frozen=True)
class Person:
    """Who asks; `name` is empty where nobody signs in, `issuer` where the account is ours."""

    name: str
    role: Role
    issuer: str = ""

    def may(self, right: Right) -> bool:
        return right in MAY[self.role]


@dataclass
class _Session:
    """`account` as it was when it signed in; None of who signed in elsewhere."""

    person: Person
    account: Account | None
    begun_at: float
    used_at: float


class NotSignedIn(Exception):
    """Somebody asks who has not signed in, or whose session is over."""


class Forbidden(Exception):
    """The role may not do it, or the form did not come from our page."""


class TooMany(Exception):
    """Too many requests; `seconds` until the next may come."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Access:
    """Sessions in memory: they end with the process, and nothing of them is written.

    Parameters
    ----------
    everyone : Role or None
        What everybody who reaches the pages is, without signing in; None where people sign in.
    provider : OpenId or None
        Where people may sign in beside the local accounts.
    """

    def __init__(
        self,
        *,
        accounts: Accounts | None = None,
        audit: AuditLog | None = None,
        everyone: Role | None = Role.ANALYST,
        provider: OpenId | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.accounts, self.audit, self.everyone, self.provider = accounts, audit, everyone, provider
        self._clock = clock
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()
        self._secret = secrets.token_bytes(32)
        self._by_password = threading.Lock()
        self._requests = Limit(600, 60, clock=clock)
        self._images = Limit(60_000, 60, clock=clock)  # a viewer asks for each frame by itself
        self._of_address = Limit(20, 900, clock=clock)
        self._of_name = Limit(5, 900, clock=clock)

    def require(self, request: Request, right: Right) -> Person:
        """Who asks, if he may; the request is entered in the audit.

        Raises
        ------
        NotSignedIn, Forbidden, TooMany
        """
        person = self.person(request)
        limit = self._images if right is Right.IMAGES else self._requests
        if wait := limit.wait_seconds(person.name if person and person.name else _address(request)):
            raise TooMany(wait)
        if person is None:
            raise NotSignedIn
        if not person.may(right):
            self._enter(request, person, outcome="4", told=f"the role may not: {right.value}")
            raise Forbidden
        if person.name:
            self._enter(request, person, outcome="0")
        return person

    def require_program(self, request: Request, right: Right) -> Person:
        """As `require`, of a program too: it sends name and password with every request (RFC 7617).

        The first begins a session like any other, so that a password is checked once.

        Raises
        ------
        NotSignedIn, Forbidden, TooMany
        """
        if self.person(request) is None and (given := _name_and_password(request)):
            with self._by_password:
                if self.person(request) is None:
                    account = self._verified(request, *given)
                    if account is None:
                        raise NotSignedIn
                    self._begin(request.headers["authorization"], Person(account.name, account.role), account)
                    self._enter_sign_in(request, account.name, role=account.role, outcome="0")
        return self.require(request, right)

    def person(self, request: Request) -> Person | None:
        """Who asks; a session lives for two hours after its last use and twelve in all, and ends when its account is
        removed or gets another role or password.
        """
        if self.everyone is not None:
            return Person("", self.everyone)
        given = (request.cookies.get(SESSION), request.headers.get("authorization"))
        with self._lock:  # the cookie of a session that is over does not stand before a password
            living = ((key, self._living(key)) for key in map(_digest, filter(None, given)))
            key, session = next((one for one in living if one[1]), ("", None))
        if session is None:
            return None
        is_as_before = session.account is None or (
            self.accounts is not None and self.accounts.all().get(session.account.name) == session.account
        )
        if not is_as_before:
            with self._lock:
                self._sessions.pop(key, None)
            return None
        return session.person

    def _living(self, key: str) -> _Session | None:
        """A session that is not over yet, used now; the lock is held."""
        session, now = self._sessions.get(key), self._clock()
        if session and (now - session.used_at > IDLE_SECONDS or now - session.begun_at > LONGEST_SECONDS):
            del self._sessions[key]
            return None
        if session:
            session.used_at = now
        return session

    def sign_in(self, request: Request, *, name: str, password: str, form_token: str, wanted: str) -> Response | None:
        """Sign in by a form of ours; None when name or password is wrong.

        Raises
        ------
        Forbidden, TooMany
        """
        if not hmac.compare_digest(form_token.encode(), self.form_token(request.cookies.get(BEFORE, "")).encode()):
            raise Forbidden
        account = self._verified(request, name, password)
        if account is None:
            return None
        return self.let_in(request, Person(account.name, account.role), account, wanted=wanted)

    def send_elsewhere(self, request: Request, provider: OpenId, *, wanted: str) -> Response:
        """To the provider, with a cookie that must come back with its answer.

        Raises
        ------
        TooMany, ProviderUnavailable
        """
        if wait := self._requests.wait_seconds(_address(request)):
            raise TooMany(wait)
        started = provider.begin(redirect_uri=str(request.base_url).rstrip("/") + CALLBACK, wanted=local_path(wanted))
        response = RedirectResponse(started.url, 303)
        response.set_cookie(
            UNDER_WAY, started.cookie, httponly=True, samesite="lax", secure=_is_secure(request), max_age=600,
            path=_root(request) + SIGN_IN,
        )  # fmt: skip
        return response

    def come_back(self, request: Request, provider: OpenId) -> Response:
        """From the provider.

        Raises
        ------
        TooMany, SignInRefused, ProviderUnavailable
        """
        if wait := self._of_address.wait_seconds(_address(request), take=False):
            self._enter_sign_in(request, "", outcome="4", told="too many attempts")
            raise TooMany(wait)
        try:
            answer = dict(request.query_params)
            name, role, wanted = provider.finish(answer, cookie=request.cookies.get(UNDER_WAY, ""))
        except SignInRefused as exc:
            self._of_address.wait_seconds(_address(request))
            self._enter_sign_in(request, "", outcome="4", told=exc.reason)
            raise
        person = Person(name, role, issuer=provider.provider.issuer)
        response = self.let_in(request, person, None, wanted=wanted)
        response.delete_cookie(UNDER_WAY, path=_root(request) + SIGN_IN)
        return response

    def let_in(self, request: Request, person: Person, account: Account | None, *, wanted: str) -> Response:
        """Begin a session and go where the person wanted to."""
        token = secrets.token_urlsafe(32)
        self._begin(token, person, account)
        self._enter_sign_in(request, person.name, role=person.role, outcome="0", issuer=person.issuer)
        root = _root(request)
        response = RedirectResponse(root + local_path(wanted), 303)
        response.set_cookie(SESSION, token, httponly=True, samesite="lax", secure=_is_secure(request), path=root or "/")
        response.delete_cookie(BEFORE, path=root or "/")
        return response

    def sign_out(self, request: Request, *, form_token: str) -> Response:
        """End the session of the cookie.

        Raises
        ------
        Forbidden
        """
        token = request.cookies.get(SESSION, "")
        if not hmac.compare_digest(form_token.encode(), self.form_token(token).encode()):
            raise Forbidden
        with self._lock:
            self._sessions.pop(_digest(token), None)
        root = _root(request)
        response = RedirectResponse(root + SIGN_IN, 303)
        response.delete_cookie(SESSION, path=root or "/")
        return response

    def form_token(self, of: str) -> str:
        """What a form must carry that belongs to this cookie: a foreign page cannot know it (CSRF)."""
        return hmac.new(self._secret, of.encode(), hashlib.sha256).hexdigest() if of else secrets.token_hex(32)

    def _verified(self, request: Request, name: str, password: str) -> Account | None:
        if wait := max(self._of_address.wait_seconds(_address(request)), self._of_name.wait_seconds(name)):
            self._enter_sign_in(request, name, outcome="4", told="too many attempts")
            raise TooMany(wait)
        account = self.accounts.verified(name, password) if self.accounts else None
        if account is None:
            self._enter_sign_in(request, name, outcome="4", told="name or password is wrong")
        return account

    def _begin(self, token: str, person: Person, account: Account | None) -> None:
        """Begin the session of whoever sends this token, and forget those that are over."""
        now = self._clock()
        with self._lock:
            stale = [k for k, one in self._sessions.items() if now - one.begun_at > LONGEST_SECONDS]
            for key in stale:
                del self._sessions[key]
            self._sessions[_digest(token)] = _Session(person, account, now, now)

    def _enter(self, request: Request, person: Person, *, outcome: str, told: str = "") -> None:
        if self.audit is not None:
            query = request.url.query
            action = "D" if request.method == "DELETE" else "R"
            self.audit.enter(
                kind="rest", action=action, agent=person.name, role=person.role.value, address=_address(request),
                outcome=outcome, what=request.url.path + (f"?{query}" if query else ""), told=told,
                issuer=person.issuer,
            )  # fmt: skip

    def _enter_sign_in(
        self, request: Request, name: str, *, outcome: str, role: str = "", told: str = "", issuer: str = ""
    ) -> None:
        if self.audit is not None:
            self.audit.enter(
                kind="110114", action="E", agent=name[:64], role=role, address=_address(request), outcome=outcome,
                what=request.url.path, told=told, issuer=issuer,
            )  # fmt: skip


def local_path(wanted: str) -> str:
    """A path of our own: a link to the sign-in never leads to another site.

    >>> local_path("/film?from=2026-01"), local_path("//evil.example/"), local_path("https://evil.example/")
    ('/film?from=2026-01', '/', '/')
    """
    is_ours = wanted.startswith("/") and not wanted.startswith("//") and "\\" not in wanted and wanted.isprintable()
    if not is_ours:
        return "/"
    parts = urlsplit(wanted)
    return wanted if not parts.netloc and parts.path != SIGN_IN else "/"


def _name_and_password(request: Request) -> tuple[str, str] | None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(given, validate=True).decode("utf-8").partition(":")
    except ValueError:
        return None
    return (name, password) if colon else None


def _root(request: Request) -> str:
    return request.scope.get("root_path", "").rstrip("/")


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _is_secure(request: Request) -> bool:
    return request.url.scheme == "https"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
