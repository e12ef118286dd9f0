"""Whatever order entry or a browser sends to the reminder, it gets an answer, never a fault of ours (Schemathesis)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from radlake.machine import utc_now
from radlake.reminder.desk import Desk
from radlake.reminder.opening import Opening
from radlake.web.cds.app import SERVICE, create_cds_app
from radlake.web.cds.issuers import IssuerFile
from support.openapi import TEXT, statuses_of
from support.reminder import NOW, Caller, hook_request, lake_of_exams, service_request
from support.webserver import running

EXAMS = """
    number | hospital | modality | body_part | date             | state    | dose
    P-1    | h1       | CT       | CHEST     | 2026-03-09 09:00 | complete | 6.1
    """
HOOK, FEEDBACK = f"/cds-services/{SERVICE}", f"/cds-services/{SERVICE}/feedback"
ODD = (None, True, -1, 1e300, "", "\0", "x" * 60, "2026-13-45", [], {}, [None], [[]], {"reference": "#x"})


def odd(example: Any) -> Iterator[dict[str, Any]]:
    """Schemas of JSON like an example, but for one part of it, which is odd."""
    yield {"enum": list(ODD)}
    if isinstance(example, dict):
        whole = {name: {"const": value} for name, value in example.items()}
        for name, value in example.items():
            for part in odd(value):
                yield {"type": "object", "properties": {**whole, name: part}, "required": list(whole),
                       "additionalProperties": False}  # fmt: skip
    elif isinstance(example, list):
        for part in odd(example[0]):
            yield {"type": "array", "items": part, "minItems": 1, "maxItems": 2}


def document(app: Any) -> dict[str, Any]:
    """The OpenAPI document with what callers send."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GET and POST of a page are one operation
        found = app.openapi()
    request = hook_request(service_request("胸部CT平扫", id="ct-chest-1"), number="P-1")
    feedback = {"feedback": [{"card": "x", "outcome": "overridden", "outcomeTimestamp": "2026-03-20T10:00:00Z",
                              "overrideReason": {"reason": {"code": "x"}}}]}  # fmt: skip
    for path, example in ((HOOK, request), (FEEDBACK, feedback)):
        content = {"application/json": {"schema": {"anyOf": [{"const": example}, *odd(example)]}}}
        found["paths"][path]["post"]["requestBody"] = {"content": content, "required": True}
    form = {"schema": {"type": "object", "properties": dict.fromkeys(("kind", "answer"), TEXT)}}
    for path in ("/open/{reminder_id}", "/open/{reminder_id}/{consent_id}"):
        body = {"content": {"application/x-www-form-urlencoded": form}}
        found["paths"][path]["post"]["requestBody"] = body
    return found


def test_no_request_finds_a_fault(tmp_path: Path) -> None:
    settings = lake_of_exams(tmp_path / "lake", EXAMS, began={"h1": 202601})
    caller = Caller(tmp_path)
    allowed = IssuerFile(caller.issuers)
    public = "http://cds.example"

    with closing(Desk(settings, clock=lambda: NOW)) as desk:
        app = create_cds_app(desk, issuers=allowed.current, public_url=public, utc_clock=utc_now,
                             opening=Opening(desk, settings, clock=utc_now))  # fmt: skip
        with running(app) as url:

            def send(_: Any, label: str) -> dict[str, Any]:
                path = label.partition(" ")[2]
                signed = {"authorization": f"Bearer {caller.token(public + path)}"} if path in (HOOK, FEEDBACK) else {}
                return {"headers": {**signed, "origin": url}}

            statuses = statuses_of(document(app), url, send=send, n_examples=40)
    assert len(statuses) == 9
    assert statuses[f"POST {HOOK}"] >= {200, 400}
    assert set().union(*statuses.values()) >= {200, 400, 404}
