"""Serving a lake: from settings to a listening socket."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from radlake.config import Settings
from radlake.errors import PortBusy
from radlake.lake import Lake, duck
from radlake.web.app import create_app
from radlake.web.snapshot import TABLES

__all__ = ["app_of", "listen", "serve"]


def app_of(settings: Settings) -> FastAPI:
    """The application over the lake of these settings."""
    lake = Lake.from_settings(settings)
    tables = lake.tables
    return create_app(
        lambda: duck.connect(lake, tables=TABLES),
        version=lambda: tuple(tables.version(name) for name in TABLES),
    )


def listen(host: str, port: int) -> socket.socket:
    """Take the port before anything else is done; 0 takes any free one.

    Raises
    ------
    PortBusy
        When another program listens there; its fact `next_free` is the first free one of the next 50 ports, or None.
    """
    try:
        return _bound(host, port)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            raise
        raise PortBusy(port=port, reason=exc.strerror, next_free=_next_free(host, port)) from exc


def serve(
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 8765,
    *,
    announce: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve the lake until interrupted; `announce` gets the URL once the port is ours.

    Raises
    ------
    PortBusy
        When another program listens there.
    """
    with listen(host, port) as sock:
        app = app_of(settings)
        name = f"[{host}]" if ":" in host else host
        announce(f"http://{name}:{sock.getsockname()[1]}/")
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[sock])


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(128)
    except OSError:
        sock.close()
        raise
    return sock


def _next_free(host: str, port: int) -> int | None:
    for candidate in range(port + 1, min(port + 51, 65536)):
        try:
            _bound(host, candidate).close()
        except OSError:
            continue
        return candidate
    return None
