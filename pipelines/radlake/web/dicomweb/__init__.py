"""DICOMweb over the lake, for reading: QIDO-RS and WADO-RS (PS3.18) of de-identified objects.

`attributes` and `query` read what is searched for, `catalogue` finds it in the tables, `pixels` reads ranges of series
objects, `app` answers requests. Nothing is held of a study but what one piece of an answer needs (docs/adr/0042).
"""

from __future__ import annotations

import threading

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from radlake.config import Settings
from radlake.web.access import Access

__all__ = ["ROOT", "DicomWeb"]

ROOT = "/dicom-web"


class DicomWeb:
    """The application, which is built when it is first asked for: the pages alone need nothing of what it imports."""

    def __init__(self, settings: Settings, access: Access) -> None:
        self._settings, self._access = settings, access
        self._lock = threading.Lock()
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app or await run_in_threadpool(self._build)
        await app(scope, receive, send)

    def _build(self) -> ASGIApp:
        from radlake.web.dicomweb.app import create_dicomweb

        with self._lock:
            self._app = self._app or create_dicomweb(self._settings, self._access)
            return self._app
