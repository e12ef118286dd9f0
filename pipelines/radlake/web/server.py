"""Serving a lake: from settings to a listening socket."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import socket
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from radlake.config import Settings
from radlake.errors import ConfigInvalid, PortBusy
from radlake.lake import Lake, duck
from radlake.web.access import Access, Accounts, AuditLog, Role
from radlake.web.access.oidc import OpenId, provider_from
from radlake.web.app import create_app
from radlake.web.dicomweb import ROOT as DICOMWEB
from radlake.web.fhir import ROOT as FHIR
from radlake.web.later import Later
from radlake.web.releases import Releases
from radlake.web.snapshot import TABLES, copying
from radlake.web.tracing import tracer_of

__all__ = ["access_of", "accounts_of", "app_of", "audit_of", "listen", "serve"]

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def accounts_of(settings: Settings) -> Accounts:
    """The local accounts of a deployment."""
    return Accounts(settings.restricted / "web" / "accounts.json")


def audit_of(settings: Settings) -> AuditLog:
    """Who saw what in the pages of a deployment."""
    return AuditLog(settings.restricted / "web")


def access_of(settings: Settings, host: str, *, everyone: Role | None = None) -> Access:
    """Who may see what: accounts or a provider if there are any; without them everybody on this machine is an analyst.

    Parameters
    ----------
    everyone : Role or None
        Everybody has this role, and nobody signs in: said on purpose.

    Raises
    ------
    ConfigInvalid
        If others can reach the pages, and nobody said who they are.
    """
    accounts = accounts_of(settings)
    if everyone is not None:
        return Access(everyone=everyone)
    provider = None if settings.oidc is None else OpenId(provider_from(settings.oidc))
    if provider or accounts.all():
        return Access(accounts=accounts, audit=audit_of(settings), everyone=None, provider=provider)
    if host in LOOPBACK:
        return Access(everyone=Role.ANALYST)
    problem = (
        f"{host} can be reached by others, and nobody has an account: make one with `radlake account add NAME --role "
        "viewer`, or say what everybody is with --open viewer"
    )
    raise ConfigInvalid(path="--host", problems=[problem])


def app_of(settings: Settings, access: Access | None = None) -> FastAPI:
    """The application over the lake of these settings."""
    tables, seen = Lake.from_settings(settings).tables, dict[str, int | None]()

    def version() -> tuple[int | None, ...]:
        seen.update({name: tables.log_version(name, known=seen.get(name)) for name in TABLES})
        return tuple(seen.values())

    return create_app(
        partial(_copy_elsewhere, settings),
        access=access,
        tracer=tracer_of(settings),
        releases=Releases(settings),
        services=_services(settings, access) if access else {},
        version=version,
    )


def _copy_elsewhere(settings: Settings, path: Path) -> None:
    """Copy in a process of its own: what it takes to read a lake would stay in the memory of this one."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        try:
            process.submit(_copy_lake, settings, path).result()
        except BrokenExecutor as exc:
            raise ChildProcessError("the process that copies the lake was killed") from exc


def _copy_lake(settings: Settings, path: Path) -> None:
    copying(partial(duck.connect, Lake.from_settings(settings), tables=TABLES))(path)


def _services(settings: Settings, access: Access) -> dict[str, ASGIApp]:
    """Applications for programs, by the path that they are mounted at."""

    def dicomweb() -> ASGIApp:
        from radlake.web.dicomweb.app import create_dicomweb

        return create_dicomweb(settings, access)

    def fhir() -> ASGIApp:
        from radlake.web.fhir.app import create_fhir

        return create_fhir(settings, access)

    return {DICOMWEB: Later(dicomweb), FHIR: Later(fhir)}


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
    everyone: Role | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve the lake until interrupted; `announce` gets the URL once the port is ours.

    Raises
    ------
    PortBusy
        When another program listens there.
    """
    access = access_of(settings, host, everyone=everyone)
    with listen(host, port) as sock:
        app = app_of(settings, access)
        name = f"[{host}]" if ":" in host else host
        announce(f"http://{name}:{sock.getsockname()[1]}/")
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
        gc.collect()
        gc.freeze()  # what is imported stays: a collection that looks at all of it would stop every request
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[sock])
        gc.unfreeze()
        if access.audit is not None:
            access.audit.close()


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
