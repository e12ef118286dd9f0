"""What a client accepts: media types with their parameters, best first (PS3.18 8.7, RFC 9110 12.5.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import Request

from radlake.web.dicomweb.refusals import NotAcceptable

__all__ = ["JSON", "Wish", "require_json", "wishes"]

JSON = "application/dicom+json"


@dataclass(frozen=True)
class Wish:
    """One media type that is accepted.

    Attributes
    ----------
    type : str
        Of each part, when it is multipart/related; `*/*` when anything is.
    syntax : str
        Transfer syntax UID; `*` for whatever is stored; empty when it was not said.
    """

    type: str
    is_multipart: bool
    syntax: str
    quality: float

    @property
    def is_any(self) -> bool:
        return self.type == "*/*"


def wishes(request: Request) -> list[Wish]:
    """What the request accepts, best first; anything when it does not say. The query parameter beats the header."""
    told = request.query_params.get("accept") or ",".join(request.headers.getlist("accept")) or "*/*"
    found = [_wish(one) for one in _split(told, ",") if one.strip()]
    return sorted((one for one in found if one.quality > 0), key=lambda one: -one.quality)


def require_json(request: Request) -> None:
    """
    Raises
    ------
    NotAcceptable
    """
    accepted = {JSON, "application/json", "application/*", "*/*"}
    if not any(wish.type in accepted and (wish.is_any or not wish.is_multipart) for wish in wishes(request)):
        raise NotAcceptable(f"This is answered as {JSON} only.")


def _wish(text: str) -> Wish:
    kind, *rest = (part.strip() for part in _split(text, ";"))
    given = {}
    for part in rest:
        name, _, value = part.partition("=")
        given[name.strip().lower()] = value.strip().strip('"')
    kind = kind.lower()
    is_multipart = kind in ("multipart/related", "multipart/*")
    try:
        quality = float(given.get("q", "1"))
    except ValueError:
        quality = 0.0
    part = given.get("type", "*/*").lower() if is_multipart else kind
    return Wish(part, is_multipart, given.get("transfer-syntax", ""), quality)


def _split(text: str, at: str) -> Iterator[str]:
    """Split outside of quoted text."""
    begin, is_quoted = 0, False
    for place, letter in enumerate(text):
        if letter == '"':
            is_quoted = not is_quoted
        elif letter == at and not is_quoted:
            yield text[begin:place]
            begin = place + 1
    yield text[begin:]
