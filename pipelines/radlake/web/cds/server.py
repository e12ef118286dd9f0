"""Serving the reminder: from settings to a listening socket, and a thread that keeps the index of recent exams new."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import uvicorn

from radlake.config import Settings
from radlake.log import get_logger
from radlake.machine import SHANGHAI, utc_now
from radlake.reminder.desk import Desk, make_index
from radlake.reminder.opening import Opening
from radlake.web.cds.app import create_cds_app
from radlake.web.cds.issuers import IssuerFile
from radlake.web.server import listen

__all__ = ["ISSUERS", "local_clock", "serve_reminder"]

ISSUERS = "reminder-issuers.yaml"  # of the restricted zone
_LOOK_SECONDS = 30.0
_MOST_AT_ONCE = 200


def local_clock(day: datetime | None = None) -> Callable[[], datetime]:
    """Local time in Asia/Shanghai, or the same time of day as if today were another day."""
    if day is None:
        return lambda: datetime.now(SHANGHAI).replace(tzinfo=None)
    shift = datetime.combine(day, datetime.min.time()) - datetime.combine(datetime.now(SHANGHAI), datetime.min.time())
    return lambda: datetime.now(SHANGHAI).replace(tzinfo=None) + timedelta(days=shift.days)


def serve_reminder(
    settings: Settings,
    *,
    issuers: Path,
    host: str,
    port: int,
    public_url: str,
    clock: Callable[[], datetime],
    announce: Callable[[str], None],
    certificate: tuple[Path, Path] | None = None,
    viewer: str = "",
) -> None:
    """Serve until interrupted; `announce` gets the URL once the port is ours and the index is made.

    Parameters
    ----------
    public_url : str
        Where callers reach it; empty: where it listens.
    certificate : tuple of Path, optional
        PEM files of the certificate and its key, for TLS.
    viewer : str
        URL of a viewer that opens studies, with `{study_uids}` in it.

    Raises
    ------
    PortBusy, ConfigInvalid, KeyMissing, KeyMismatch, ContractBroken
    """
    allowed = IssuerFile(issuers)
    with listen(host, port) as sock, closing(Desk(settings, clock=clock)) as desk:
        name = f"[{host}]" if ":" in host else host
        own_url = f"{'https' if certificate else 'http'}://{name}:{sock.getsockname()[1]}"
        app = create_cds_app(
            desk,
            issuers=allowed.current,
            public_url=public_url.rstrip("/") or own_url,
            utc_clock=utc_now,
            opening=Opening(desk, settings, clock=utc_now),
            viewer=viewer,
        )
        ended = threading.Event()
        keeper = threading.Thread(target=_keep_new, args=(desk, settings, ended), daemon=True)
        keeper.start()
        announce(own_url)
        # Tracebacks of the server would show what callers sent: it is silent, and `app` tells failures by their class.
        config = uvicorn.Config(
            app,
            log_level="critical",
            access_log=False,
            server_header=False,
            limit_concurrency=_MOST_AT_ONCE,
            ssl_certfile=certificate[0] if certificate else None,
            ssl_keyfile=certificate[1] if certificate else None,
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[sock])
        ended.set()
        keeper.join(timeout=5)


def _keep_new(desk: Desk, settings: Settings, ended: threading.Event) -> None:
    """Follow the lake: a new index is made in a process of its own, and the old one answers until it is ready."""
    making: BaseProcess | None = None
    while not ended.wait(_LOOK_SECONDS):
        try:
            if not desk.refresh() and (making is None or not making.is_alive()):
                context = multiprocessing.get_context("spawn")
                process = context.Process(target=_make_index, args=(settings, desk.clock()), daemon=True)
                process.start()
                making = process
        except Exception as exc:  # the lake may be away for a while; what is known goes on answering
            get_logger().error("reminder_refresh_failed", error_class=type(exc).__name__)


def _make_index(settings: Settings, now: datetime) -> None:
    make_index(settings, now=now)
