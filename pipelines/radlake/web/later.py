"""An application that is built when it is first asked for: the pages alone need nothing of what it imports."""

from __future__ import annotations

import threading
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Later"]


class Later:
    """Thread-safe; `build` is called once."""

    def __init__(self, build: Callable[[], ASGIApp]) -> None:
        self._build = build
        self._lock = threading.Lock()
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app or await run_in_threadpool(self._built)
        await app(scope, receive, send)

    def _built(self) -> ASGIApp:
        with self._lock:
            self._app = self._app or self._build()
            return self._app
