"""Why a request is not answered: a status code and an OperationOutcome (hl7.org/fhir/R4/operationoutcome)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse, Response

__all__ = ["FHIR", "Refused", "outcome", "refusal"]

FHIR = "application/fhir+json"


class Refused(Exception):
    """The text says what to do next; `code` is of the value set issue-type."""

    def __init__(self, status: int, code: str, text: str, *, retry_after: int = 0) -> None:
        super().__init__(text)
        self.status, self.code, self.retry_after = status, code, retry_after


def outcome(code: str, text: str, *, severity: str = "error") -> dict[str, Any]:
    """An OperationOutcome of one issue."""
    issue = {"severity": severity, "code": code, "details": {"text": text}}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def refusal(status: int, code: str, text: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request that is refused."""
    return JSONResponse(outcome(code, text), status, dict(headers or {}), media_type=FHIR)
