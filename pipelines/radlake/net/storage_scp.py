"""Our storage SCP: one server for what C-MOVE sends (`receiving`) and for hospitals that push (`radlake.receive`).

The server takes associations and reads messages; its host decides who may send and where an instance goes. An instance
is acknowledged when its file is durable under its final name. Asking for a study is done in `dimse`.
"""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

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
from radlake.net.pdu import Context, Negotiation, Refusal, Rejection
from radlake.net.upper_layer import Association, AssociationReleased

__all__ = ["Host", "Sender", "StorageServer", "receiving", "study_uid_of"]

_MOST_ASSOCIATIONS = 64  # at one port; the next is asked to come again
_MOST_CONNECTIONS = 4 * _MOST_ASSOCIATIONS  # also those that have not said who they are
_OPENING_SECONDS = 30.0  # to say so (ARTIM timer, PS3.8 9.1.5)
_PARTING_SECONDS = 5.0
_STUDY_INSTANCE_UID = 0x0020000D
_HEAD_BYTES = 256 * 1024  # where the Study Instance UID is looked for

log = get_logger()


class Sender(Protocol):
    """Whoever is at the other end of one association; used by one thread."""

    def choose(self, abstract_syntax: str, offered: Sequence[str]) -> str | Refusal:
        """Transfer syntax of a proposed context, or why there is none."""
        ...

    def delivery(self, study_uid: str) -> Delivery | int:
        """Where an instance of this study goes, with `begin` called; or the status that refuses it."""
        ...

    def perform(self, assoc: Association, context: Context, command: Command) -> bool:
        """Do another service than C-STORE and C-ECHO and answer it; False when it is none of ours."""
        ...

    def leave(self) -> None:
        """The association ended."""
        ...


class Host(Protocol):
    """Who decides about the associations at one port; used by many threads."""

    def admit(self, calling: str, address: str) -> Sender | Rejection: ...


class StorageServer:
    """One listening port; a thread for each association.

    Raises
    ------
    PortBusy
        Most often another harvest has our port.
    """

    def __init__(
        self, ae_title: str, address: str, port: int, *, timeout: float, tls: ssl.SSLContext | None, host: Host
    ) -> None:
        self._ae_title = ae_title
        self._timeout = timeout
        self._tls = tls
        self._host = host
        self._sockets: set[socket.socket] = set()
        try:
            if address or not socket.has_dualstack_ipv6():
                self._socket = socket.create_server((address, port))
            else:
                self._socket = socket.create_server((address, port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as exc:
            raise PortBusy(port=port, reason=exc.strerror or str(exc)) from exc
        self.port = int(self._socket.getsockname()[1])
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

    def wait(self) -> None:
        """After `stop`: until the last association is gone."""
        until = time.monotonic() + 2 * _PARTING_SECONDS
        while self._sockets and time.monotonic() < until:
            time.sleep(0.02)

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
        sender: Sender | None = None

        def admit(negotiation: Negotiation) -> Rejection | None:
            nonlocal sender
            if len(self._sockets) > _MOST_ASSOCIATIONS:
                return Rejection.LOCAL_LIMIT
            address = str(sock.getpeername()[0]).removeprefix("::ffff:")
            admitted = self._host.admit(negotiation.calling, address)
            if isinstance(admitted, Rejection):
                return admitted
            sender = admitted
            return None

        def choose(abstract_syntax: str, offered: Sequence[str]) -> str | Refusal:
            return sender.choose(abstract_syntax, offered) if sender else Refusal.ABSTRACT_SYNTAX

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
                choose=choose,
                timeout=min(self._timeout, _OPENING_SECONDS),
                admit=admit,
            )
            assoc.timeout = self._timeout
            if sender is not None:
                self._converse(assoc, sender)
        except AssociationReleased:
            pass
        except (AssociationLost, MessageBroken, OSError) as exc:
            if not self._is_stopped:
                log.warning("storage_association_lost", reason=str(exc))
        finally:
            if sender is not None:
                sender.leave()
            self._forget(sock)

    def _forget(self, sock: socket.socket) -> None:
        sock.close()
        self._sockets.discard(sock)

    def _converse(self, assoc: Association, sender: Sender) -> None:
        """Until the sender releases."""
        try:
            while True:
                context_id, raw = assoc.receive()
                command, context = decode_command(raw), assoc.contexts.get(context_id)
                if command["CommandField"] == Field.C_ECHO_RQ:
                    assoc.send(context_id, encode_response(command, field=Field.C_ECHO_RSP, status=SUCCESS))
                elif command["CommandField"] == Field.C_STORE_RQ and context is not None and has_data_set(command):
                    status = _store(assoc, context, command, sender)
                    assoc.send(context_id, encode_response(command, field=Field.C_STORE_RSP, status=status))
                elif context is None or not sender.perform(assoc, context, command):
                    assoc.abort()
                    raise AssociationLost("it sent something that is no instance")
        except MessageBroken:
            assoc.abort()
            raise


def _store(assoc: Association, context: Context, command: Command, sender: Sender) -> int:
    data = assoc.data_set()
    head = next(data)
    found = sender.delivery(study_uid_of(head, syntax_uid=context.transfer_syntax))
    if isinstance(found, Delivery):
        return found.store(command, itertools.chain([head], data), transfer_syntax=context.transfer_syntax)
    for _ in data:
        pass
    return found


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
        found = _awaiting.get(key)
        if found is None:
            awaited = _Awaited()
            server = StorageServer(ae_title, host, port, timeout=timeout, tls=tls, host=awaited)
            _awaiting[key] = awaited, server
        else:
            awaited, server = found
        if study_uid in awaited.studies:
            raise PortBusy(port=port, reason="the study is awaited already")
        awaited.studies[study_uid] = delivery
    try:
        yield
    finally:
        with _lock:
            del awaited.studies[study_uid]
        delivery.drain()
        with _lock:
            if not awaited.studies and _awaiting.get(key) == (awaited, server):
                del _awaiting[key]
                server.stop()


_NOT_AUTHORIZED = 0x0124

_lock = threading.Lock()


class _Awaited:
    """Studies that C-MOVE asked for: whoever sends them is welcome, and nothing else is."""

    def __init__(self) -> None:
        self.studies: dict[str, Delivery] = {}

    def admit(self, calling: str, address: str) -> Sender | Rejection:  # noqa: ARG002
        return self

    def choose(self, abstract_syntax: str, offered: Sequence[str]) -> str | Refusal:
        return choose_transfer_syntax(abstract_syntax, offered)

    def delivery(self, study_uid: str) -> Delivery | int:
        with _lock:
            if found := self.studies.get(study_uid):
                found.begin()
                return found
        log.warning("instance_refused", reason="its study is not awaited")
        return _NOT_AUTHORIZED

    def perform(self, assoc: Association, context: Context, command: Command) -> bool:  # noqa: ARG002
        return False

    def leave(self) -> None:
        pass


_awaiting: dict[tuple[str, str, int], tuple[_Awaited, StorageServer]] = {}


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def study_uid_of(pieces: Sequence[memoryview | bytes], *, syntax_uid: str) -> str:
    """Study Instance UID of the beginning of a data set; empty when it is not there."""
    encoding = transfer_syntax(syntax_uid)
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
