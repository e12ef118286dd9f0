"""Web, the browser: what a page costs that nobody has opened before, in Chromium that can reach this machine only."""

from __future__ import annotations

import base64
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["OURS", "PEER", "Cold", "cold_page"]

# When the numbers are there: every tile has one, and every chart is drawn.
OURS = """() => document.querySelectorAll('.tile strong').length > 0
  && document.querySelectorAll('[data-chart]').length > 0
  && document.querySelectorAll('[data-chart] canvas').length === document.querySelectorAll('[data-chart]').length"""
PEER = """() => document.querySelectorAll('[data-testid=stMetricValue]').length >= 7
  && document.querySelectorAll('[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg').length >= 5"""
_SETTLE_MS = 1500
_TESTS = Path(__file__).resolve().parents[1] / "tests"


@dataclass(frozen=True)
class Cold:
    """Bytes as they came over the wire with their headers, by HTTP and by websocket; foreign are hosts asked for."""

    n_bytes: float
    n_requests: float
    seconds: float
    foreign: tuple[str, ...]


def cold_page(url: str, *, until: str, repetitions: int) -> Cold | None:
    """Medians of a page in new profiles; None without Chromium."""
    path = shutil.which("chromium")
    if path is None:
        return None
    sys.path.insert(0, str(_TESTS))
    from support.browser import chromium  # pyright: ignore[reportMissingImports]  (of the tests)

    with chromium(path) as browser:
        runs = [_open(browser, url, until=until) for _ in range(repetitions)]
    return Cold(
        *(median(getattr(run, name) for run in runs) for name in ("n_bytes", "n_requests", "seconds")),
        foreign=tuple(sorted({host for run in runs for host in run.foreign})),
    )


def _open(browser: Any, url: str, *, until: str) -> Cold:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="zh-CN")
    page = context.new_page()
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    sizes: list[float] = []
    asked: list[str] = []

    def requested(event: Any) -> None:
        if event["request"]["url"].startswith(("http:", "https:")):
            asked.append(event["request"]["url"])

    network.on("Network.requestWillBeSent", requested)
    network.on("Network.webSocketCreated", lambda event: asked.append(event["url"]))
    network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    network.on("Network.webSocketFrameReceived", lambda event: sizes.append(_frame_bytes(event["response"])))
    begun = time.perf_counter()
    page.goto(url)
    page.wait_for_function(until, timeout=120_000)
    seconds = time.perf_counter() - begun
    page.wait_for_timeout(_SETTLE_MS)
    context.close()
    return Cold(sum(sizes), len(asked), seconds, tuple(_foreign(asked, url)))


def _frame_bytes(frame: Any) -> int:
    is_binary = frame["opcode"] == 2
    return len(base64.b64decode(frame["payloadData"]) if is_binary else frame["payloadData"].encode())


def _foreign(asked: Sequence[str], url: str) -> set[str]:
    own = url.split("/")[2].split(":")[0]
    return {host for one in asked if (host := one.split("/")[2].split(":")[0]) != own}
