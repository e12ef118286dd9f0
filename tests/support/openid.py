"""A small OpenID provider on a real socket: discovery, keys, authorization code with PKCE, RS256 and ES256 tokens.

It signs anybody in who is told to it, and can be told to misbehave: what a relying party must refuse, it gives.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from support.webserver import running

__all__ = ["OpenIdProvider", "running_provider"]

CLIENT_ID, CLIENT_SECRET = "radlake", "a secret: 100 % of + the client"


@dataclass
class OpenIdProvider:
    """What the provider says; a test changes it.

    Attributes
    ----------
    person : dict
        Claims of whoever signs in next.
    changed : dict
        Claims that are put over the right ones in the next tokens; None leaves a claim out.
    algorithm : {"RS256", "ES256"}
        How tokens are signed.
    signer : private key, optional
        Signs in place of the published key.
    generation : int
        Part of the names of keys: `turn_keys` counts it up.
    is_down : bool
        Every request gets a 503.
    """

    issuer: str = ""
    person: dict[str, Any] = field(default_factory=lambda: {"sub": "u1", "preferred_username": "lin", "groups": []})
    changed: dict[str, Any] = field(default_factory=dict)
    algorithm: str = "RS256"
    signer: Any = None
    is_down: bool = False
    generation: int = 0
    told_issuer: str | None = None
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.turn_keys()

    def turn_keys(self) -> None:
        """New keys of new names."""
        self.generation += 1
        self.keys: dict[str, Any] = {
            "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
        }

    def token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": asked["nonce"], **self.person,
        }  # fmt: skip
        claims = {name: value for name, value in {**claims, **self.changed}.items() if value is not None}
        key = self.signer or self.keys[self.algorithm]
        return jwt.encode(claims, key, algorithm=self.algorithm, headers={"kid": f"{self.algorithm}-{self.generation}"})

    def app(self) -> FastAPI:
        app = FastAPI(openapi_url=None)

        @app.middleware("http")
        async def down(request: Request, call_next: Any) -> Response:
            return Response(status_code=503) if self.is_down else await call_next(request)

        @app.get("/.well-known/openid-configuration")
        def discovery() -> dict[str, Any]:
            return {
                "issuer": self.told_issuer or self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/jwks",
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
            }

        @app.get("/jwks")
        def jwks() -> dict[str, Any]:
            made = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm}
            return {
                "keys": [
                    made[name].to_jwk(key.public_key(), as_dict=True)
                    | {"kid": f"{name}-{self.generation}", "use": "sig", "alg": name}
                    for name, key in self.keys.items()
                ]
            }

        @app.get("/authorize")
        def authorize(request: Request) -> Response:
            asked = dict(request.query_params)
            assert asked["client_id"] == CLIENT_ID
            assert asked["response_type"] == "code"
            assert asked["code_challenge_method"] == "S256"
            assert "openid" in asked["scope"].split()
            code = secrets.token_urlsafe(16)
            self._codes[code] = asked
            back = urlencode({"code": code, "state": asked["state"], "iss": self.issuer})
            return RedirectResponse(f"{asked['redirect_uri']}?{back}", 303)

        @app.post("/token")
        async def token(request: Request) -> Response:
            given = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
            scheme, _, basic = request.headers.get("authorization", "").partition(" ")
            sent = base64.b64decode(basic).decode().partition(":")[::2]  # form-encoded, RFC 6749 2.3.1
            if scheme != "Basic" or tuple(map(unquote_plus, sent)) != (CLIENT_ID, CLIENT_SECRET):
                return JSONResponse({"error": "invalid_client"}, status_code=401)
            asked = self._codes.pop(given["code"], None)
            challenge = base64.urlsafe_b64encode(hashlib.sha256(given["code_verifier"].encode()).digest()).rstrip(b"=")
            is_right = (
                asked is not None
                and given["grant_type"] == "authorization_code"
                and given["redirect_uri"] == asked["redirect_uri"]
                and challenge.decode() == asked["code_challenge"]
            )
            if not is_right or asked is None:
                return JSONResponse({"error": "invalid_grant"}, status_code=400)
            return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": self.token(asked)})

        return app


@contextmanager
def running_provider() -> Iterator[OpenIdProvider]:
    """A provider on a free port of 127.0.0.1."""
    provider = OpenIdProvider()
    with running(provider.app()) as url:
        provider.issuer = url
        yield provider
