"""Why a request is not answered, with the status code of the standard (PS3.18 8.5)."""

from __future__ import annotations

__all__ = ["BadRequest", "Gone", "NotAcceptable", "NotFound", "Refused", "TryLater"]


class Refused(Exception):
    """The text says what to do next, and is all of the answer."""

    status = 500


class BadRequest(Refused):
    status = 400


class NotFound(Refused):
    status = 404


class NotAcceptable(Refused):
    status = 406


class Gone(Refused):
    status = 410


class TryLater(Refused):
    status = 503
