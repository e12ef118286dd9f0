"""Who saw what: FHIR R4 AuditEvent resources, one a line, in a chain that nobody can change unseen.

Each event carries a keyed digest of itself and of the one before; the end is also kept in a file (radlake.lake.chain).
The key is of this log alone: the process of the pages never holds the root key.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from radlake.errors import StoreFull
from radlake.lake.chain import HeadFile, Link, broken_links, canonical
from radlake.lake.store import write_whole

__all__ = ["AuditLog"]

CHAIN = "urn:radlake:audit-chain"
_HEAD_SECONDS = 1.0
_TAIL_BYTES = 64 * 1024
_TYPES = {
    "rest": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
    "110114": {
        "system": "http://dicom.nema.org/resources/ontology/DCM",
        "code": "110114",
        "display": "User Authentication",
    },
}


class AuditLog:
    """Events are appended before what they tell of is shown; the end of the chain is kept each second at most.

    Several servers may share a folder: each goes on where the last event stands.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = folder / "audit.ndjson"
        self._head_file = HeadFile(folder / "audit.head")
        self._key_path = folder / "audit.key"
        if not self._key_path.exists():
            write_whole(self._key_path, secrets.token_hex(32))
        self._key = bytes.fromhex(self._key_path.read_text(encoding="ascii"))
        self._clock = clock
        self._lock = threading.Lock()
        self._kept_at = float("-inf")
        self._last, self._size = (0, ""), 0
        with self._open() as file:
            self._catch_up(file)

    def enter(
        self,
        *,
        kind: str,
        action: str,
        agent: str,
        role: str,
        address: str,
        outcome: str,
        what: str,
        told: str = "",
        issuer: str = "",
    ) -> None:
        """Append an event.

        Parameters
        ----------
        kind : {"rest", "110114"}
            A request for what is shown, or a sign-in.
        action : {"R", "D", "E"}
            FHIR AuditEvent.action: read, delete, or execute.
        outcome : {"0", "4", "8"}
            FHIR AuditEvent.outcome: success, refused, failed.
        what : str
            Path and filters of the request: no page has an identifier of a patient in its address.
        told : str
            Why it was refused.
        issuer : str
            Who says that this is the agent, if we do not.
        """
        event: dict[str, Any] = {
            "resourceType": "AuditEvent",
            "type": _TYPES[kind],
            "action": action,
            "recorded": f"{self._clock():%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
            "outcome": outcome,
            "agent": [
                {
                    "who": {"identifier": {**({"system": issuer} if issuer else {}), "value": agent}},
                    "role": [{"text": role}],
                    "requestor": True,
                    "network": {"address": address, "type": "2"},
                }
            ],
            "source": {"observer": {"display": "radlake serve"}},
            "entity": [{"what": {"display": what}}],
        }
        if told:
            event["outcomeDesc"] = told
        with self._lock, self._open() as file:
            self._catch_up(file)
            seq, previous = self._last[0] + 1, self._last[1]
            mac = self._mac(event, seq, previous)
            event["extension"] = [{"url": CHAIN, "extension": _chain(seq, previous, mac)}]
            line = (canonical(event) + "\n").encode()
            if os.write(file, line) != len(line):
                os.ftruncate(file, self._size)
                raise StoreFull(path=self.path, reason="the disk took a part of an audit event only")
            self._last, self._size = (seq, mac), self._size + len(line)
            if time.monotonic() - self._kept_at >= _HEAD_SECONDS:
                self._keep()

    def close(self) -> None:
        """Keep the end of the chain."""
        with self._lock:
            self._keep()

    def problems(self, *, tell: Callable[[dict[str, Any]], None] = lambda _: None) -> list[str]:
        """What does not hold: events that were changed, removed or put in.

        Parameters
        ----------
        tell : callable
            Told every event on the way, oldest first.
        """

        def links() -> Iterator[Link]:
            for event in self.events():
                seq, previous, mac = _links_of(event)
                bare = {name: value for name, value in event.items() if name != "extension"}
                yield Link(seq, previous, mac, self._mac(bare, seq, previous))
                tell(event)

        return [told for _, told in broken_links(links(), kept=self._head_file.read(), name=self._head_file.path.name)]

    def events(self) -> Iterator[dict[str, Any]]:
        """Every event, oldest first."""
        if self.path.exists():
            with self.path.open(encoding="utf-8") as file:
                for line in file:
                    yield json.loads(line)

    def _keep(self) -> None:
        if self._last[0]:
            self._head_file.write(self._last)
        self._kept_at = time.monotonic()

    def _mac(self, event: dict[str, Any], seq: int, previous: str) -> str:
        return hmac.digest(
            self._key, canonical({"event": event, "seq": seq, "previous": previous}).encode(), "sha256"
        ).hex()

    @contextmanager
    def _open(self) -> Iterator[int]:
        """The file, for this server alone."""
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)

    def _catch_up(self, file: int) -> None:
        """Read the last event, if others came since the one that we left; events that are gone leave a gap.

        Half an event at the end was never answered: a power cut came between. It goes.
        """
        size = os.fstat(file).st_size
        if size <= self._size:
            self._size = size
            return
        n_read, tail = 0, b""
        while n_read < size and tail.count(b"\n") < 2:
            n_read = min(size, n_read + _TAIL_BYTES)
            tail = os.pread(file, n_read, size - n_read)
        whole = tail[: tail.rfind(b"\n") + 1]
        if len(whole) < len(tail):
            size -= len(tail) - len(whole)
            os.ftruncate(file, size)
        lines = whole.splitlines()
        if lines:
            seq, _, mac = _links_of(json.loads(lines[-1]))
            self._last = (seq, mac)
        self._size = size


def _chain(seq: int, previous: str, mac: str) -> list[dict[str, Any]]:
    links = {"previous": previous, "mac": mac}  # the first event has none before it
    return [
        {"url": "seq", "valuePositiveInt": seq},
        *({"url": name, "valueString": value} for name, value in links.items() if value),
    ]


def _links_of(event: dict[str, Any]) -> tuple[int, str, str]:
    [chain] = [one["extension"] for one in event["extension"] if one["url"] == CHAIN]
    told = {one["url"]: one.get("valueString") or one.get("valuePositiveInt") for one in chain}
    return told["seq"], told.get("previous", ""), told["mac"]
