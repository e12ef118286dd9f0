"""A TCP connection under an association: bytes in and out, with an end to every wait.

One buffer of fixed size serves the whole connection: what arrives is handed on as views of it. What the bytes mean is
in `upper_layer`.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from contextlib import suppress
from typing import NoReturn

__all__ = ["AssociationLost", "Connection", "open_socket"]

_BUFFER = 1 << 20
_LITTLE = 65_536  # with less room than that the buffer counts as full
_PACE = 131_072  # bytes that must arrive within the time limit, unless the exchange goes on
_CLOSING_SECONDS = 5.0
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)


class AssociationLost(Exception):
    """The association ended before the exchange did: aborted, closed, silent or not DICOM."""


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


class Connection:
    """Reads and writes on one socket by one thread; whatever fails closes it and raises `AssociationLost`.

    Parameters
    ----------
    timeout : float
        Seconds within which something must arrive; and 128 KiB, unless the next exchange begins before. So neither a
        silent peer nor one that sends a byte now and then holds the connection.
    farewell : bytes
        Said to a peer that exceeds it.
    """

    def __init__(self, sock: socket.socket, *, timeout: float, farewell: bytes) -> None:
        self._sock = sock
        self.timeout = timeout
        self._farewell = farewell
        self._view = memoryview(bytearray(_BUFFER))
        self._begin = self._end = 0  # what arrived and is not taken yet
        self.next_exchange()

    @property
    def timeout(self) -> float:
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._timeout = seconds
        self._sock.settimeout(seconds)

    @property
    def peer_host(self) -> str:
        return str(self._sock.getpeername()[0])

    def next_exchange(self) -> None:
        """The peer gets its full time again, and nothing that was handed out is needed any more."""
        self._restart_clock()
        self.let_go()
        if self._begin == self._end:
            self._begin = self._end = 0

    def let_go(self) -> None:
        """What was handed out is not needed any more."""
        self._is_held = False

    @property
    def is_full(self) -> bool:
        """Whether it is time to let go."""
        return _BUFFER - self._end < _LITTLE

    def take(self, n: int) -> memoryview:
        """The next n bytes, at most 1 MiB; valid until the next call."""
        if self._begin + n > _BUFFER:
            self._begin_anew()
        while self._end - self._begin < n:
            self._receive()
        self._begin += n
        return self._view[self._begin - n : self._begin]

    def some(self, most: int) -> memoryview:
        """The next bytes, fewer than `most` where the buffer ends; valid until it is let go."""
        while self._begin == self._end or (self._end - self._begin < most and not self.is_full):
            self._receive()
        self._is_held = True
        begin = self._begin
        self._begin = min(self._end, begin + most)
        return self._view[begin : self._begin]

    def write(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except TimeoutError:
            self.fail(f"takes nothing for {self._timeout:g} s", self._farewell)
        except OSError as exc:
            raise self._lost(exc) from exc

    def is_readable(self, *, seconds: float) -> bool:
        """Whether something arrives within `seconds`."""
        if self._begin < self._end or (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()):
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def hurry(self) -> None:
        """What is left to say is said within seconds."""
        with suppress(OSError):  # closed already
            self.timeout = min(self._timeout, _CLOSING_SECONDS)

    def close(self, last_words: bytes = b"") -> None:
        """Close; never raises. Last words are read by the peer, unless it takes more than seconds to do so."""
        with suppress(OSError):
            if last_words:
                # Closing while bytes are unread would reset the connection and drop what was just sent.
                self.hurry()
                self._sock.sendall(last_words)
                self._sock.shutdown(socket.SHUT_WR)
                until = time.monotonic() + self._timeout
                while time.monotonic() < until and self._sock.recv_into(self._view):
                    pass
        self._sock.close()

    def cut(self) -> None:
        """Let the thread that reads or writes here find the connection closed; never raises."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def fail(self, why: str, last_words: bytes = b"") -> NoReturn:
        self.close(last_words)
        raise AssociationLost(why)

    def _receive(self) -> None:
        """Append to the buffer what has arrived, or the first that does."""
        if self._begin == self._end and self.is_full:
            self._begin_anew()
        try:
            received = self._sock.recv_into(self._view[self._end :])
        except TimeoutError as exc:
            self.close(self._farewell)
            raise AssociationLost(f"silent for {self._timeout:g} s") from exc
        except OSError as exc:
            raise self._lost(exc) from exc
        if not received:
            self.fail("connection closed by the peer")
        self._end += received
        self._n_in_pace += received
        if self._n_in_pace >= _PACE:
            self._restart_clock()
        elif time.monotonic() - self._pace_began > self._timeout:
            self.fail(f"sent only {self._n_in_pace} bytes in {self._timeout:g} s", self._farewell)
        if _QUICKACK is not None:
            # A sender with Nagle's algorithm waits 40 ms for this at every instance; the kernel forgets it each time.
            with suppress(OSError):
                self._sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def _begin_anew(self) -> None:
        """Go on at the front of the buffer; of a new one, should pieces of this one be held."""
        left = self._view[self._begin : self._end]
        if self._is_held:
            self._view = memoryview(bytearray(_BUFFER))
        self._view[: len(left)] = left
        self._begin, self._end = 0, len(left)

    def _restart_clock(self) -> None:
        self._n_in_pace, self._pace_began = 0, time.monotonic()

    def _lost(self, exc: OSError) -> AssociationLost:
        self._sock.close()
        return AssociationLost(f"connection lost: {exc.strerror or exc}")
