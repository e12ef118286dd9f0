"""Our storage SCP: where a node sends what C-MOVE asked for (PS3.4 B.2).

It listens only while a study is awaited, takes only instances of awaited studies, and acknowledges an instance when
its file is durable under its final name. Asking for a study is done in `dimse`.
"""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from radlake.dicom.uids import transfer_syntax
from radlake.errors import PortBusy
from radlake.log import get_logger
from radlake.net.connection import AssociationLost
from radlake.net.contexts import choose_transfer_syntax
from radlake.net.delivery import Delivery
from radlake.net.message import (
    SUCCESS,
    Command,
    Field,
    MessageBroken,
    decode_command,
    encode_response,
    has_data_set,
    value_of,
)
from radlake.net.pdu import Context
from radlake.net.upper_layer import Association, AssociationReleased

__all__ = ["receiving"]

_MOST_ASSOCIATIONS = 64  # at one port; the next is asked to come again
_MOST_CONNECTIONS = 4 * _MOST_ASSOCIATIONS  # also those that have not said who they are
_OPENING_SECONDS = 30.0  # to say so (ARTIM timer, PS3.8 9.1.5)
_PARTING_SECONDS = 5.0
_NOT_AUTHORIZED = 0x0124
_STUDY_INSTANCE_UID = 0x0020000D
_HEAD_BYTES = 256 * 1024  # where the Study Instance UID is looked for

log = get_logger()


@contextmanager
def receiving(
    study_uid: str,
    *,
    delivery: Delivery,
    ae_title: str,
    host: str,
    port: int,
    timeout: float,
    tls: ssl.SSLContext | None,
) -> Iterator[None]:
    """Listen, and hand instances of this study to its delivery, until the block ends.

    Several studies may be awaited at one port at once; the first opens it, the last closes it.

    Raises
    ------
    PortBusy
        Most often another harvest has our port.
    """
    key = (ae_title, host, port)
    with _lock:
        server = _servers.get(key)
        if server is None:
            server = _servers[key] = _Server(ae_title, host, port, timeout=timeout, tls=tls)
        if study_uid in server.awaited:
            raise PortBusy(port=port, reason="the study is awaited already")
        server.awaited[study_uid] = delivery
    try:
        yield
    finally:
        with _lock:
            del server.awaited[study_uid]
        delivery.drain()
        with _lock:
            if not server.awaited and _servers.get(key) is server:
                del _servers[key]
                server.stop()


_lock = threading.Lock()
_servers: dict[tuple[str, str, int], _Server] = {}


class _Server:
    """One listening port; a thread for each association."""

    def __init__(self, ae_title: str, host: str, port: int, *, timeout: float, tls: ssl.SSLContext | None) -> None:
        self.awaited: dict[str, Delivery] = {}
        self._ae_title = ae_title
        self._timeout = timeout
        self._tls = tls
        self._sockets: set[socket.socket] = set()
        try:
            if host or not socket.has_dualstack_ipv6():
                self._socket = socket.create_server((host, port))
            else:
                self._socket = socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as exc:
            raise PortBusy(port=port, reason=exc.strerror or str(exc)) from exc
        self._is_stopped = False
        threading.Thread(target=self._listen, name="storage-scp", daemon=True).start()

    def stop(self) -> None:
        """Close the port; senders have a few seconds to release what is open."""
        self._is_stopped = True
        _shut(self._socket)  # wakes the thread that waits on it
        self._socket.close()
        if self._sockets:
            last_call = threading.Timer(_PARTING_SECONDS, lambda: [_shut(sock) for sock in tuple(self._sockets)])
            last_call.daemon = True
            last_call.start()

    def _listen(self) -> None:
        while not self._is_stopped:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                time.sleep(0.05)  # stopped, or no file handle left for a while
                continue
            if len(self._sockets) >= _MOST_CONNECTIONS:
                sock.close()
                continue
            self._sockets.add(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), name="storage-scp-association", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread left for a while
                self._forget(sock)

    def _serve(self, sock: socket.socket) -> None:
        try:
            sock.settimeout(min(self._timeout, _OPENING_SECONDS))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                self._sockets.discard(sock)
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._sockets.add(sock)
            assoc = Association.accept(
                sock,
                ae_title=self._ae_title,
                choose=choose_transfer_syntax,
                timeout=min(self._timeout, _OPENING_SECONDS),
                has_room=len(self._sockets) <= _MOST_ASSOCIATIONS,
            )
            assoc.timeout = self._timeout
            try:
                while True:
                    context_id, command = assoc.receive()
                    self._answer(assoc, context_id, decode_command(command))
            except MessageBroken:
                assoc.abort()
                raise
        except AssociationReleased:
            pass
        except (AssociationLost, MessageBroken, OSError) as exc:
            if not self._is_stopped:
                log.warning("storage_association_lost", reason=str(exc))
        finally:
            self._forget(sock)

    def _forget(self, sock: socket.socket) -> None:
        sock.close()
        self._sockets.discard(sock)

    def _answer(self, assoc: Association, context_id: int, command: Command) -> None:
        context = assoc.contexts.get(context_id)
        if command["CommandField"] == Field.C_ECHO_RQ:
            assoc.send(context_id, encode_response(command, field=Field.C_ECHO_RSP, status=SUCCESS))
        elif command["CommandField"] == Field.C_STORE_RQ and context is not None and has_data_set(command):
            status = self._store(assoc, context, command)
            assoc.send(context_id, encode_response(command, field=Field.C_STORE_RSP, status=status))
        else:
            assoc.abort()
            raise AssociationLost("it sent something that is no instance")

    def _store(self, assoc: Association, context: Context, command: Command) -> int:
        data = assoc.data_set()
        head = next(data)
        study_uid = _study_uid(head, context=context)
        with _lock:
            delivery = self.awaited.get(study_uid)
            if delivery:
                delivery.begin()
        if delivery:
            return delivery.store(command, itertools.chain([head], data), transfer_syntax=context.transfer_syntax)
        for _ in data:
            pass
        log.warning("instance_refused", reason="its study is not awaited")
        return _NOT_AUTHORIZED


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _study_uid(pieces: list[memoryview], *, context: Context) -> str:
    """Study Instance UID of the beginning of a data set; empty when it is not there."""
    encoding = transfer_syntax(context.transfer_syntax)
    if encoding is None or not pieces:
        return ""
    for n_pieces in (1, len(pieces)):  # nearly always it is in the first
        head = pieces[0] if n_pieces == 1 else b"".join(pieces)
        with suppress(MessageBroken, zlib.error):
            if encoding.is_deflated:
                head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, _HEAD_BYTES)
            value = value_of(
                head, _STUDY_INSTANCE_UID, is_implicit=encoding.is_implicit, is_big_endian=encoding.is_big_endian
            )
            return value.decode("latin-1").strip(" \0")
    return ""
