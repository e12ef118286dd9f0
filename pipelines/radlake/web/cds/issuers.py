"""Who may call: an allow-list of issuers with their public keys, and the check of a caller's token.

CDS Hooks 2.0, "Trusting CDS Clients": a JSON Web Token of the caller, signed with ES384 or RS384, for this endpoint and
this moment, used once. Keys come from files; nothing is fetched, whatever a token names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from radlake.errors import ConfigInvalid

__all__ = ["ALGORITHMS", "Issuer", "IssuerFile", "TokenRefused", "read_issuers", "verify"]

ALGORITHMS = ("ES384", "RS384")
_LEEWAY = timedelta(seconds=30)
_LONGEST_LIFE = timedelta(minutes=5)
_LEAST_RSA_BITS = 2048
_LONGEST_TOKEN = 8192
_CLAIMS = ("iss", "aud", "exp", "iat", "jti")
_FIELDS = {"iss", "hospital", "jku", "keys", "identifiers"}


class TokenRefused(Exception):
    """A caller is not let in; `reason` is told to it and holds nothing of the token."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Issuer:
    """A caller that is let in.

    Attributes
    ----------
    iss, jku : str
        As its tokens name them; a token with another `jku` is refused.
    hospital_id : str
        Whose order entry it is.
    keys : mapping
        Key id -> public key.
    systems : mapping
        Systems of patient identifiers -> Issuer of Patient ID (0010,0021) of the hospital's DICOM objects.
    """

    iss: str
    hospital_id: str
    jku: str
    keys: Mapping[str, jwt.PyJWK] = field(repr=False)
    systems: Mapping[str, str]


def read_issuers(path: Path) -> dict[str, Issuer]:
    """Issuers of a YAML file; keys lie beside it as JSON Web Key Sets (RFC 7517).

    Raises
    ------
    ConfigInvalid
        With all problems.
    """
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))["issuers"]
        assert isinstance(rows, list)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AssertionError) as exc:
        raise ConfigInvalid(path=path, problems=["must be YAML with a list `issuers`"]) from exc
    issuers: dict[str, Issuer] = {}
    problems: list[str] = []
    for number, row in enumerate(rows):
        where = f"issuers[{number}]"
        if not isinstance(row, dict) or not {"iss", "hospital", "keys"} <= set(row) <= _FIELDS:
            problems.append(f"{where}: must have iss, hospital, keys, and may have jku, identifiers")
            continue
        if row["iss"] in issuers:
            problems.append(f"{where}: {row['iss']} is given twice")
        try:
            keys = _read_keys(path.parent / str(row["keys"]))
        except ValueError as exc:
            problems.append(f"{where}: {exc}")
            continue
        systems = {one["system"]: one.get("issuer_of_patient_id", "") for one in row.get("identifiers") or ()}
        issuers[row["iss"]] = Issuer(row["iss"], row["hospital"], row.get("jku") or "", keys, systems)
    if problems:
        raise ConfigInvalid(path=path, problems=problems)
    return issuers


class IssuerFile:
    """The allow-list of a file, read again when the file changes; a broken one leaves the old list in force."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._stamp_now()
        self._issuers = read_issuers(path)

    def _stamp_now(self) -> tuple[int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size

    def current(self) -> Mapping[str, Issuer]:
        try:
            if (stamp := self._stamp_now()) != self._stamp:
                self._stamp, self._issuers = stamp, read_issuers(self._path)
        except (OSError, ConfigInvalid):
            return self._issuers
        return self._issuers


def verify(
    authorization: str,
    *,
    issuers: Mapping[str, Issuer],
    audiences: Collection[str],
    now: datetime,
    spend: Callable[[str, datetime], bool],
) -> Issuer:
    """The issuer of the token in an Authorization header.

    Parameters
    ----------
    audiences : collection of str
        URLs of this endpoint; a token is for one of them.
    now : datetime
        UTC.
    spend : callable
        Takes a digest and when it may be forgotten (UTC); False when it was used before.

    Raises
    ------
    TokenRefused
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > _LONGEST_TOKEN:
        raise TokenRefused("send a JSON Web Token as Authorization: Bearer")
    try:
        header = jwt.get_unverified_header(token)
        claimed = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError):
        raise TokenRefused("the token is not a signed JSON Web Token") from None
    if header.get("alg") not in ALGORITHMS:
        raise TokenRefused(f"the token must be signed with {' or '.join(ALGORITHMS)}")
    iss = claimed.get("iss")
    issuer = issuers.get(iss) if isinstance(iss, str) else None
    if issuer is None:
        raise TokenRefused("its issuer is not on the allow-list")
    if "jku" in header and header["jku"] != issuer.jku:
        raise TokenRefused("its jku is not the one that is registered for its issuer")
    kid = header.get("kid")
    key = issuer.keys.get(kid) if isinstance(kid, str) else None
    if key is None or key.algorithm_name != header["alg"]:
        raise TokenRefused("its key (kid) is not registered for its issuer and algorithm")
    claims = _checked(token, key, issuer=issuer, audiences=audiences, now=now)
    expires = datetime.fromtimestamp(claims["exp"], UTC).replace(tzinfo=None) + _LEEWAY
    digest = hashlib.sha256(json.dumps([issuer.iss, claims["jti"]]).encode()).hexdigest()
    if not spend(digest, expires):
        raise TokenRefused("its jti was used before")
    return issuer


def _checked(
    token: str, key: jwt.PyJWK, *, issuer: Issuer, audiences: Collection[str], now: datetime
) -> dict[str, Any]:
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            issuer=issuer.iss,
            audience=list(audiences),
            # Times are checked below, against the clock that was given.
            options={"require": list(_CLAIMS), "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
    except jwt.MissingRequiredClaimError:
        raise TokenRefused(f"it must have the claims {', '.join(_CLAIMS)}") from None
    except jwt.InvalidAudienceError:
        raise TokenRefused("its aud is not the URL of this endpoint") from None
    except (jwt.PyJWTError, ValueError, TypeError):
        raise TokenRefused("its signature is not valid") from None
    at = now.replace(tzinfo=UTC).timestamp()
    times = [claims["exp"], claims["iat"], claims.get("nbf", claims["iat"])]
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and 0 <= one < 1e11 for one in times):
        raise TokenRefused("exp, iat and nbf must be seconds since 1970")
    if not isinstance(claims["jti"], str) or not 1 <= len(claims["jti"]) <= 256:
        raise TokenRefused("jti must be a text of 1 to 256 characters")
    expires, issued, begins = times
    leeway = _LEEWAY.total_seconds()
    if expires <= at - leeway:
        raise TokenRefused("it has expired")
    if max(issued, begins) > at + leeway:
        raise TokenRefused("it is of the future")
    if expires - issued > _LONGEST_LIFE.total_seconds():
        raise TokenRefused("it may live five minutes at most")
    return claims


def _read_keys(path: Path) -> dict[str, jwt.PyJWK]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["keys"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{path.name} is no JSON Web Key Set") from None
    keys = {}
    for row in rows:
        if "d" in row:
            raise ValueError(f"{path.name} holds a private key: it stays with the caller")
        try:
            key = jwt.PyJWK(row, algorithm="RS384" if row.get("kty") == "RSA" else "ES384")
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
            raise ValueError(f"{path.name} holds something that is no key") from None
        if not row.get("kid") or row["kid"] in keys:
            raise ValueError(f"{path.name}: every key needs a kid of its own")
        if not _is_strong(key.key):
            raise ValueError(f"{path.name}: keys are P-384, or RSA of {_LEAST_RSA_BITS} bits or more")
        keys[row["kid"]] = key
    if not keys:
        raise ValueError(f"{path.name} has no key")
    return keys


def _is_strong(key: Any) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size >= _LEAST_RSA_BITS
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1)
