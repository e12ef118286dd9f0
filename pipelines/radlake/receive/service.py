"""The receiver as a whole: storage SCP, HTTP and closer, started together and ended in order."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from radlake.config import Settings
from radlake.errors import ConfigInvalid, PortBusy, StoreFull, TransientError
from radlake.ingest import HarvestSummary
from radlake.ingest.workers import workers
from radlake.lake import Lake
from radlake.lake.pushed import PushRecords
from radlake.log import get_logger
from radlake.net import Hospital
from radlake.net.node import Tls
from radlake.net.reach import server_context
from radlake.net.storage_scp import StorageServer
from radlake.receive.closer import Closer
from radlake.receive.commitments import Commitments
from radlake.receive.http import create_app
from radlake.receive.scp import Reception
from radlake.receive.senders import Senders
from radlake.receive.spool import PushSpool
from radlake.vault.lake_key import open_ledger

__all__ = ["Listening", "receive"]

_LOOK_SECONDS = 1.0
_PARTING_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class Listening:
    """Where the receiver listens, and its limits.

    Attributes
    ----------
    dicom_port, http_port : int, optional
        0 takes any free one; None listens not at all.
    tls : Tls, optional
        Our certificate and key, for both ports; with `ca`, senders over DIMSE must show one that it signed.
    keep_free : int
        Bytes of the disk that are left free; what comes then is refused (0xA700, 503).
    largest : int
        Bytes of an HTTP request at most.
    silence : float
        Seconds without a byte that end an association or a request.
    """

    host: str = ""
    dicom_port: int | None = 11112
    http_port: int | None = None
    tls: Tls | None = None
    keep_free: int = 1 << 30
    largest: int = 64 << 30
    silence: float = 60.0


def receive(
    settings: Settings,
    hospitals: Iterable[Hospital],
    listening: Listening,
    *,
    stop: threading.Event,
    announce: Callable[[str], None] = lambda _: None,
    ingested: Callable[[HarvestSummary], None] = lambda _: None,
) -> None:
    """Receive until `stop` is set: then ports close, what is under way ends, and what lies in the spool stays there.

    Raises
    ------
    ConfigInvalid, PortBusy, KeyMissing, KeyMismatch
        If it cannot begin.
    """
    senders = Senders(hospitals, path=str(settings.hospitals))
    with closing(open_ledger(settings)) as ledger, workers(settings) as executor:
        spool = PushSpool(Lake.from_settings(settings).spool, keep_free=listening.keep_free)
        records = PushRecords(ledger)
        with (
            closing(Closer(settings, senders, spool, ledger, executor=executor)) as closer,
            closing(Commitments(settings, senders, spool, ledger)) as commitments,
        ):

            def troubles() -> list[str]:
                try:
                    spool.check_room()
                except StoreFull as exc:
                    return [str(exc.facts["reason"]), *closer.troubles()]
                return closer.troubles()

            reception = Reception(senders, spool, records, commitments, told=closer.told)
            with (
                _dimse(settings, listening, reception, announce),
                _http(listening, senders, spool, records, closer.told, troubles, announce),
            ):
                while not stop.is_set():
                    begin = time.monotonic()
                    try:
                        for summary in closer.sweep():
                            ingested(summary)
                    except TransientError as exc:  # the ledger is away; what comes is taken all the same
                        get_logger().warning("pushed_studies_wait", error_class=type(exc).__name__)
                    stop.wait(max(_LOOK_SECONDS, time.monotonic() - begin))


@contextmanager
def _dimse(
    settings: Settings, listening: Listening, reception: Reception, announce: Callable[[str], None]
) -> Iterator[None]:
    if listening.dicom_port is None:
        yield
        return
    server = StorageServer(
        settings.ae_title,
        listening.host,
        listening.dicom_port,
        timeout=listening.silence,
        tls=_dimse_tls(listening.tls),
        host=reception,
    )
    announce(f"DICOM at {settings.ae_title}@{listening.host or '*'}:{server.port}")
    try:
        yield
    finally:
        server.stop()
        server.wait()


def _dimse_tls(tls: Tls | None) -> ssl.SSLContext | None:
    if tls is None:
        return None
    context = server_context(tls, node="receive")
    if tls.ca is None:
        context.verify_mode = ssl.CERT_NONE
    return context


@contextmanager
def _http(
    listening: Listening,
    senders: Senders,
    spool: PushSpool,
    records: PushRecords,
    told: Callable[[str, str], None],
    troubles: Callable[[], list[str]],
    announce: Callable[[str], None],
) -> Iterator[None]:
    if listening.http_port is None:
        yield
        return
    app = create_app(
        senders,
        spool,
        records,
        told=told,
        troubles=troubles,
        largest=listening.largest,
        silence=listening.silence,
    )
    tls = listening.tls
    config = uvicorn.Config(
        app,
        host=listening.host or "0.0.0.0",
        port=listening.http_port,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=256,
        timeout_graceful_shutdown=_PARTING_SECONDS,
        ssl_certfile=_path(tls.certificate) if tls else None,
        ssl_keyfile=_path(tls.key) if tls else None,
    )
    try:
        sock = config.bind_socket()
    except SystemExit as exc:  # uvicorn's way to say that the port is taken
        raise PortBusy(port=listening.http_port, reason="it is taken, or not ours to take") from exc
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="receive-http", daemon=True)
    thread.start()
    scheme = "https" if tls else "http"
    announce(f"STOW-RS and notices at {scheme}://{listening.host or '*'}:{sock.getsockname()[1]}/")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(2 * _PARTING_SECONDS)
        sock.close()


def _path(path: Path | None) -> str:
    if path is None:
        raise ConfigInvalid(path="receive", problems=["TLS needs a certificate and its key"])
    return str(path)
