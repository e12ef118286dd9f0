"""DICOM Upper Layer over TCP (PS3.8): one association on a blocking socket.

Negotiation, fragments, release, abort and silence belong here. What a message says is in `message`; what to do with
it is in `dimse`, `c_store` and `storage_scp`. There are no threads: the caller sends and receives in turn, and a data
set passes through as fragments, so that memory does not grow with the size of an instance.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

__all__ = [
    "Association",
    "AssociationLost",
    "AssociationRefused",
    "AssociationReleased",
    "Context",
    "Proposal",
    "open_socket",
]

IMPLEMENTATION_CLASS_UID = "2.25.138850976236616442973440399222674701542"
IMPLEMENTATION_VERSION_NAME = "RADLAKE"
MAX_PDU = 131_072  # what we are ready to receive; DCMTK sends no more
MAX_CONTEXTS = 128  # odd numbers of one byte (PS3.8 9.3.2.2)

_ASSOCIATE_RQ, _ASSOCIATE_AC, _ASSOCIATE_RJ, _P_DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = range(1, 8)
_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_LARGEST_COMMAND = 64 * 1024
_LARGEST_PDU = 64 * 1024 * 1024  # a length beyond this is not a PDU of a DICOM peer
_CLOSING_SECONDS = 5.0
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)

_REASONS = {  # (source, reason) of A-ASSOCIATE-RJ, PS3.8 9.3.4
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized: it does not know ours",
    (1, 7): "called AE title not recognized: it is not named so",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded: it has no association left for us",
}


class AssociationLost(Exception):
    """The association ended before the exchange did: aborted, closed, silent or not DICOM."""


class AssociationReleased(Exception):
    """The peer released the association in good order."""

    def __init__(self) -> None:
        super().__init__("it released the association before it was done")


class AssociationRefused(Exception):
    """The peer answered A-ASSOCIATE-RJ.

    Attributes
    ----------
    is_transient : bool
        The peer says that it may accept later.
    """

    def __init__(self, *, result: int, source: int, reason: int) -> None:
        self.is_transient = result == 2
        super().__init__(_REASONS.get((source, reason), f"source {source}, reason {reason}"))


@dataclass(frozen=True)
class Proposal:
    """A presentation context that we propose; `is_scp` offers to receive, as C-GET needs (PS3.7 D.3.3.4)."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    is_scp: bool = False


@dataclass(frozen=True)
class Context:
    """An accepted presentation context."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str


def open_socket(host: str, port: int, *, seconds: float, tls: ssl.SSLContext | None) -> socket.socket:
    """Connect; every step ends within `seconds`.

    Raises
    ------
    OSError
        Also of its kinds `TimeoutError`, `ssl.SSLError`, `socket.gaierror`.
    """
    sock = socket.create_connection((host, port), timeout=seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return sock
    try:
        return tls.wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise


class Association:
    """An established association; `request` or `accept` makes one.

    Attributes
    ----------
    contexts : dict
        Accepted contexts by their id.
    peer_ae_title : str
        The calling AE title, when the peer opened the association.
    """

    def __init__(self, sock: socket.socket, *, timeout: float) -> None:
        self.contexts: dict[int, Context] = {}
        self.peer_ae_title = ""
        self._sock = sock
        self.timeout = timeout
        self._peer_max_pdu = 0
        self._buffer = bytearray(2 * MAX_PDU)
        self._begin = self._end = 0  # what is received and not read yet
        self._pdvs: deque[tuple[int, int, memoryview]] = deque()

    @classmethod
    def request(
        cls, sock: socket.socket, *, calling: str, called: str, proposals: Sequence[Proposal], timeout: float
    ) -> Association:
        """Propose an association and wait for the answer.

        Raises
        ------
        AssociationRefused
            With the reason that the peer gives.
        AssociationLost
            If there is no answer, or not one of DICOM.
        """
        self = cls(sock, timeout=timeout)
        proposed = {2 * n + 1: proposal for n, proposal in enumerate(proposals[:MAX_CONTEXTS])}
        roles = {proposal.abstract_syntax: b"\0\1" for proposal in proposals if proposal.is_scp}
        items = [_item(0x10, _APPLICATION_CONTEXT)]
        for context_id, proposal in proposed.items():
            syntaxes = b"".join(_item(0x40, uid.encode("ascii")) for uid in proposal.transfer_syntaxes)
            abstract = _item(0x30, proposal.abstract_syntax.encode("ascii"))
            items.append(_item(0x20, bytes([context_id, 0, 0, 0]) + abstract + syntaxes))
        items.append(_item(0x50, _user_information(roles)))
        self._write(_pdu(_ASSOCIATE_RQ, _associate(called, calling) + b"".join(items)))
        kind, body = self._read_pdu()
        if kind == _ASSOCIATE_RJ and len(body) == 4:
            refused = AssociationRefused(result=body[1], source=body[2], reason=body[3])
            self._sock.close()
            raise refused
        if kind != _ASSOCIATE_AC:
            self._fail(kind, body)
        for item, value in self._items(body[68:]):
            if item == 0x21 and len(value) > 4 and value[2] == 0 and value[0] in proposed:
                chosen = dict(self._items(value[4:])).get(0x40, b"")
                context = Context(value[0], proposed[value[0]].abstract_syntax, _text(chosen))
                self.contexts[context.context_id] = context
            elif item == 0x50:
                self._peer_max_pdu = _max_length(dict(self._items(value)))
        return self

    @classmethod
    def accept(
        cls,
        sock: socket.socket,
        *,
        ae_title: str,
        choose: Callable[[str, Sequence[str]], str | None],
        timeout: float,
    ) -> Association:
        """Answer a proposal: accept each context for which `choose` names one of its transfer syntaxes.

        Raises
        ------
        AssociationLost
            If the peer calls another AE title (it is told so) or does not speak DICOM.
        """
        self = cls(sock, timeout=timeout)
        kind, body = self._read_pdu()
        if kind != _ASSOCIATE_RQ or len(body) < 68:
            self._fail(kind, body)
        body = bytes(body)
        self.peer_ae_title = _text(body[20:36])
        if _text(body[4:20]) != ae_title:
            self._write(_pdu(_ASSOCIATE_RJ, b"\0\1\1\7"))
            self._close_in_order()
            raise AssociationLost("it called another AE title than ours")
        answers = [_item(0x10, _APPLICATION_CONTEXT)]
        for item, value in self._items(memoryview(body)[68:]):
            if item == 0x20 and len(value) > 4:
                parts = list(self._items(value[4:]))
                abstract = next((_text(uid) for part, uid in parts if part == 0x30), "")
                offered = [_text(uid) for part, uid in parts if part == 0x40]
                chosen = choose(abstract, offered)
                result = 3 if chosen is None else 0  # 3: abstract syntax not supported
                syntax = _item(0x40, (chosen or _IMPLICIT_VR_LITTLE_ENDIAN).encode("ascii"))
                answers.append(_item(0x21, bytes([value[0], 0, result, 0]) + syntax))
                if chosen is not None:
                    self.contexts[value[0]] = Context(value[0], abstract, chosen)
            elif item == 0x50:
                self._peer_max_pdu = _max_length(dict(self._items(value)))
        answers.append(_item(0x50, _user_information({})))
        self._write(_pdu(_ASSOCIATE_AC, body[:68] + b"".join(answers)))
        return self

    @property
    def timeout(self) -> float:
        """Seconds of silence that end the association."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._timeout = seconds
        self._sock.settimeout(seconds)

    @property
    def peer_host(self) -> str:
        return str(self._sock.getpeername()[0])

    def context_for(self, abstract_syntax: str) -> int | None:
        """Id of an accepted context of an abstract syntax; None when the peer accepted none."""
        return next((c.context_id for c in self.contexts.values() if c.abstract_syntax == abstract_syntax), None)

    def send(self, context_id: int, command: bytes, data: bytes = b"") -> None:
        """Send a message: a command set and, unless empty, a data set."""
        largest = max(min(self._peer_max_pdu or MAX_PDU, MAX_PDU), 128) - 6
        pdus = []
        for content, is_command in ((command, 1), (data, 0)):
            for begin in range(0, len(content), largest):
                fragment = content[begin : begin + largest]
                is_last = 2 if begin + largest >= len(content) else 0
                pdv = struct.pack(">LBB", len(fragment) + 2, context_id, is_command | is_last) + fragment
                pdus.append(_pdu(_P_DATA, pdv))
        self._write(b"".join(pdus))

    def receive(self) -> tuple[int, bytes]:
        """Wait for the command set of the next message: context id and bytes.

        Raises
        ------
        AssociationReleased, AssociationLost
        """
        command = b""
        while True:
            context_id, control, fragment = self._next_pdv()
            if not control & 1:
                self._give_up("a data set came where a command was due")
            command += fragment
            if len(command) > _LARGEST_COMMAND:
                self._give_up("a command that does not end")
            if control & 2:
                return context_id, command

    def data_set(self) -> Iterator[memoryview]:
        """Fragments of the data set that belongs to the command just received; use each before you take the next.

        It must be read to its end before the next message.
        """
        while True:
            _, control, fragment = self._next_pdv()
            if control & 1:
                self._give_up("a command came where a data set was due")
            yield fragment
            if control & 2:
                return

    def whole_data_set(self) -> bytes:
        """The same in one piece, for what is small."""
        data = bytearray()
        for fragment in self.data_set():
            data += fragment
        return bytes(data)

    def is_readable(self, *, seconds: float) -> bool:
        """Whether something arrives within `seconds`."""
        if self._pdvs or self._begin < self._end:
            return True
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def release(self) -> None:
        """End in good order; never raises."""
        try:
            self._sock.settimeout(min(self._timeout, _CLOSING_SECONDS))
            self._write(_pdu(_RELEASE_RQ, b"\0\0\0\0"))
            while (kind := self._read_pdu()[0]) != _RELEASE_RP:
                if kind == _RELEASE_RQ:  # both sides at once (PS3.8 7.2.2.7)
                    self._write(_pdu(_RELEASE_RP, b"\0\0\0\0"))
                elif kind != _P_DATA:
                    break
        except (AssociationLost, OSError):
            pass
        self._sock.close()

    def abort(self) -> None:
        """End at once; never raises."""
        try:
            self._sock.settimeout(min(self._timeout, _CLOSING_SECONDS))
            self._sock.sendall(_pdu(_ABORT, b"\0\0\0\0"))
        except OSError:
            pass
        self._sock.close()

    def _next_pdv(self) -> tuple[int, int, memoryview]:
        while not self._pdvs:
            kind, body = self._read_pdu()
            if kind == _RELEASE_RQ:
                self._write(_pdu(_RELEASE_RP, b"\0\0\0\0"))
                self._close_in_order()
                raise AssociationReleased
            if kind != _P_DATA:
                self._fail(kind, body)
            while body:
                if len(body) < 6 or (length := int.from_bytes(body[:4], "big")) < 2 or len(body) < 4 + length:
                    self._give_up("a presentation data value has a wrong length")
                self._pdvs.append((body[4], body[5], body[6 : 4 + length]))
                body = body[4 + length :]
        return self._pdvs.popleft()

    def _read_pdu(self) -> tuple[int, memoryview]:
        """Type and body of the next PDU; the body is valid until the next call."""
        kind, length = struct.unpack(">BxL", self._take(6))
        if not _ASSOCIATE_RQ <= kind <= _ABORT or length > _LARGEST_PDU:
            self._give_up("it does not speak DICOM")
        return kind, self._take(length)

    def _take(self, n: int) -> memoryview:
        """The next n bytes, received in reads as large as the buffer allows."""
        if n > len(self._buffer):
            larger = bytearray(n)
            larger[: self._end - self._begin] = self._buffer[self._begin : self._end]
            self._buffer, self._begin, self._end = larger, 0, self._end - self._begin
        view = memoryview(self._buffer)
        if self._begin + n > len(view):
            view[: self._end - self._begin] = view[self._begin : self._end]
            self._begin, self._end = 0, self._end - self._begin
        while self._end - self._begin < n:
            try:
                received = self._sock.recv_into(view[self._end :])
            except TimeoutError:
                self._give_up(f"silent for {self._sock.gettimeout():g} s")
            except OSError as exc:
                self._sock.close()
                raise AssociationLost(f"connection lost: {exc.strerror or exc}") from exc
            if not received:
                self._sock.close()
                raise AssociationLost("connection closed by the peer")
            self._end += received
            if _QUICKACK is not None:
                # A sender with Nagle's algorithm waits 40 ms for this at every instance.
                with suppress(OSError):
                    self._sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        taken = view[self._begin : self._begin + n]
        self._begin += n
        return taken

    def _items(self, body: memoryview) -> Iterator[tuple[int, memoryview]]:
        while body:
            if len(body) < 4 or len(body) < 4 + (length := int.from_bytes(body[2:4], "big")):
                self._give_up("an item of the negotiation has a wrong length")
            yield body[0], body[4 : 4 + length]
            body = body[4 + length :]

    def _write(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except TimeoutError:
            self._give_up(f"takes nothing for {self._sock.gettimeout():g} s")
        except OSError as exc:
            self._sock.close()
            raise AssociationLost(f"connection lost: {exc.strerror or exc}") from exc

    def _close_in_order(self) -> None:
        """Let the peer read our last word and close first; a few seconds at most."""
        try:
            self._sock.settimeout(_CLOSING_SECONDS)
            while self._sock.recv(4096):
                pass
        except OSError:
            pass
        self._sock.close()

    def _fail(self, kind: int, body: memoryview) -> NoReturn:
        if kind == _ABORT:
            self._sock.close()
            by = "its upper layer" if len(body) > 2 and body[2] == 2 else "the peer"
            raise AssociationLost(f"aborted by {by}")
        self._give_up(f"an unexpected PDU of type {kind}")

    def _give_up(self, why: str) -> NoReturn:
        self.abort()
        raise AssociationLost(why)


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(body)) + body


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def _associate(called: str, calling: str) -> bytes:
    return struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode("ascii"), calling.ljust(16).encode("ascii"))


def _user_information(roles: dict[str, bytes]) -> bytes:
    """Maximum length, implementation, and the roles that we offer (PS3.8 Annex D, PS3.7 D.3.3)."""
    selections = b"".join(
        _item(0x54, struct.pack(">H", len(uid)) + uid.encode("ascii") + role) for uid, role in roles.items()
    )
    return (
        _item(0x51, struct.pack(">L", MAX_PDU))
        + _item(0x52, IMPLEMENTATION_CLASS_UID.encode("ascii"))
        + selections
        + _item(0x55, IMPLEMENTATION_VERSION_NAME.encode("ascii"))
    )


def _max_length(items: dict[int, memoryview]) -> int:
    return int.from_bytes(items.get(0x51, b""), "big")


def _text(raw: memoryview | bytes) -> str:
    return bytes(raw).decode("ascii", "replace").strip(" \0")
