"""AWS Signature Version 4 of one request to S3: a pure function of the request, the keys and the time.

Source: Amazon S3 API Reference, "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote

__all__ = ["UNSIGNED", "Credentials", "encoded_path", "encoded_query", "signed_headers"]

UNSIGNED = "UNSIGNED-PAYLOAD"
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True)
class Credentials:
    """Keys of an S3 account, in the clear: for the moment of use only."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def encoded_path(path: str) -> str:
    """A path as S3 signs it: every byte but RFC 3986's unreserved ones and `/` is escaped, once."""
    return quote(path, safe="/~")


def encoded_query(query: Mapping[str, str]) -> str:
    """A query as S3 signs it: escaped first, then sorted."""
    pairs = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def signed_headers(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    *,
    payload_hash: str,
    credentials: Credentials,
    region: str,
    now: datetime,
) -> dict[str, str]:
    """The headers to send: those given, all of them signed, and those of the signature.

    Parameters
    ----------
    path, query : str
        As `encoded_path` and `encoded_query` give them.
    headers : mapping of str to str
        Names in lower case; `host` is among them.
    payload_hash : str
        SHA-256 of the body in hexadecimal, or `UNSIGNED`, which is for TLS only: without TLS the signature is all
        that keeps a body from being changed on its way.
    now : datetime
        UTC. A store refuses what is off by more than 15 minutes.
    """
    at = now.strftime("%Y%m%dT%H%M%SZ")
    sent = {**headers, "x-amz-content-sha256": payload_hash, "x-amz-date": at}
    if credentials.session_token:
        sent["x-amz-security-token"] = credentials.session_token
    names = sorted(sent)
    lines = "".join(f"{name}:{sent[name].strip()}\n" for name in names)
    signed = ";".join(names)
    request = f"{method}\n{path}\n{query}\n{lines}\n{signed}\n{payload_hash}"
    scope = f"{at[:8]}/{region}/s3/aws4_request"
    text = f"{_ALGORITHM}\n{at}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.new(_key(credentials, at[:8], region), text.encode(), "sha256").hexdigest()
    sent["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"
    )
    return sent


@lru_cache(maxsize=8)
def _key(credentials: Credentials, day: str, region: str) -> bytes:
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
