"""Web, the load: sessions that read pages, and orders that come at a fixed rate whether answers are ready or not."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from bench.web_lake import SYSTEM, Caller

__all__ = ["Load", "order", "read"]

_HEADERS = {"accept-encoding": "gzip", "accept-language": "zh-CN,zh;q=0.9"}  # what a browser sends over HTTP
_TIMEOUT = 30


@dataclass
class Load:
    """Milliseconds of each answer by what was asked, and what went wrong."""

    times: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    n_cards: int = 0
    seconds: float = 0.0

    @property
    def all_times(self) -> list[float]:
        return [one for times in self.times.values() for one in times]

    def enter(self, name: str, ms: float) -> None:
        self.times.setdefault(name, []).append(ms)


def read(url: str, pages: Mapping[str, Sequence[str]], *, sessions: int, seconds: float, think: float) -> Load:
    """Sessions that each ask for a page, read it for `think` seconds on average, and ask for another."""
    load = Load()
    asked = [(page, one) for page, several in pages.items() for one in several]

    async def session(number: int, client: httpx.AsyncClient, end: float) -> None:
        rng = random.Random(number)
        await asyncio.sleep(rng.uniform(0, think))
        while time.monotonic() < end:
            page, path = rng.choice(asked)
            begun = time.perf_counter()
            try:
                answer = await client.get(url + path)
            except httpx.HTTPError as exc:
                load.errors.append(type(exc).__name__)
                continue
            load.enter(page, 1000 * (time.perf_counter() - begun))
            if answer.status_code != 200:
                load.errors.append(f"{answer.status_code} {path}")
            await asyncio.sleep(rng.uniform(0.5, 1.5) * think)

    async def run() -> None:
        end = time.monotonic() + seconds
        clients = [httpx.AsyncClient(headers=_HEADERS, timeout=_TIMEOUT) for _ in range(sessions)]
        await asyncio.gather(*(session(number, client, end) for number, client in enumerate(clients)))
        await asyncio.gather(*(client.aclose() for client in clients))

    _timed(load, run())
    return load


def order(url: str, callers: Sequence[Caller], *, rate: float, seconds: float) -> Load:
    """Order-sign at a fixed rate; the clock of each starts when it was due, so that no wait is left out.

    One order in four is of a patient whom nobody knows. Tokens are signed before.
    """
    load = Load()
    asked = _requests(f"{url}/cds-services/duplicate-imaging", callers, n=round(rate * seconds))

    async def one(client: httpx.AsyncClient, body: bytes, token: str, due: float) -> None:
        await asyncio.sleep(due - time.perf_counter())
        try:
            answer = await client.post(
                f"{url}/cds-services/duplicate-imaging", content=body, headers={"authorization": f"Bearer {token}"}
            )
        except httpx.HTTPError as exc:
            load.errors.append(type(exc).__name__)
            return
        load.enter("order-sign", 1000 * (time.perf_counter() - due))
        if answer.status_code == 200:
            load.n_cards += bool(answer.json()["cards"])
        else:
            load.errors.append(f"{answer.status_code} {answer.text[:200]}")

    async def run() -> None:
        async with httpx.AsyncClient(timeout=_TIMEOUT, headers=_HEADERS) as client:
            begun = time.perf_counter() + 0.5
            await asyncio.gather(*(one(client, body, token, begun + n / rate) for n, (body, token) in enumerate(asked)))

    _timed(load, run())
    return load


def _requests(url: str, callers: Sequence[Caller], *, n: int) -> list[tuple[bytes, str]]:
    from radlake.machine import utc_now
    from radlake.web.cds.callers import signed_token

    rng = random.Random(1)
    found = []
    for _ in range(n):
        caller = rng.choice(callers)
        number, text = rng.choice(caller.asks)
        if rng.random() < 0.25:
            number = f"N{rng.randrange(10**12)}"
        token = signed_token(caller.key, iss=caller.iss, audience=url, now=utc_now(), jti=uuid.uuid4().hex)
        found.append((json.dumps(_hook_request(number, text)).encode(), token))
    return found


def _hook_request(number: str, text: str) -> dict[str, object]:
    draft = {
        "resourceType": "ServiceRequest", "id": "order-1", "status": "draft", "intent": "order",
        "code": {"text": text}, "subject": {"reference": "Patient/p1"},
    }  # fmt: skip
    return {
        "hook": "order-sign",
        "hookInstance": str(uuid.uuid4()),
        "context": {
            "userId": "Practitioner/1",
            "patientId": "p1",
            "draftOrders": {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": draft}]},
        },
        "prefetch": {
            "patient": {"resourceType": "Patient", "id": "p1", "identifier": [{"system": SYSTEM, "value": number}]}
        },
    }


def _timed(load: Load, run: object) -> None:
    begun = time.perf_counter()
    asyncio.run(run)  # pyright: ignore[reportArgumentType]
    load.seconds = time.perf_counter() - begun
