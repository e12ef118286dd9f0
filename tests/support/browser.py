"""A real Chromium that can reach nothing but this machine, and when a page of ours is drawn.

Also `bench` and docs/screenshots/take.py open it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

__all__ = ["ALL_DRAWN", "chromium"]

ALL_DRAWN = "document.querySelectorAll('[data-chart]').length === document.querySelectorAll('canvas').length"

_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip


@contextmanager
def chromium(program: str) -> Iterator[Browser]:
    """The browser, as long as the block lasts; `program` is its path."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_ARGUMENTS))
        yield browser
        browser.close()
