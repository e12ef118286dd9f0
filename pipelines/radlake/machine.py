"""What a program asks of its own machine: a free port, and an end together with its parent."""

from __future__ import annotations

import ctypes
import signal
import socket
import sys

__all__ = ["die_with_parent", "free_port", "is_free"]

_PR_SET_PDEATHSIG = 1  # prctl(2)


def free_port() -> int:
    """A port of the loopback interface that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def is_free(port: int) -> bool:
    """Whether a program may listen on this port of the loopback interface."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def die_with_parent(number: signal.Signals) -> None:
    """Let this process get a signal as soon as its parent is gone, however that ended; only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
