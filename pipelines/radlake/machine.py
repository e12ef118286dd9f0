"""What a program asks of its own machine: the time, bytes that stay, a free port, how to end, no core dump."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

__all__ = [
    "SHANGHAI",
    "die_with_parent",
    "forget_pages",
    "free_port",
    "fsync",
    "give_back_memory",
    "is_free",
    "leave_no_core_dump",
    "shanghai_day",
    "syncfs",
    "utc_now",
    "utc_of_shanghai",
]

SHANGHAI = ZoneInfo("Asia/Shanghai")  # the hospitals' clocks
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4  # prctl(2)


def utc_now() -> datetime:
    """This instant in UTC, without a time zone, as the tables keep it."""
    return datetime.now(UTC).replace(tzinfo=None)


def shanghai_day(now: datetime) -> date:
    """Day in Asia/Shanghai of an instant in UTC without a time zone."""
    return now.replace(tzinfo=UTC).astimezone(SHANGHAI).date()


def utc_of_shanghai(local: datetime) -> datetime:
    """UTC without a time zone of what a clock in Shanghai shows."""
    return local.replace(tzinfo=SHANGHAI).astimezone(UTC).replace(tzinfo=None)


def fsync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def forget_pages(path: Path) -> None:
    """Take a durable file that nobody reads soon out of memory: its pages hold what is written next.

    A harvest writes every byte twice, to the spool and to an object, and would fill all memory with what is done.
    """
    if hasattr(os, "posix_fadvise"):  # not on macOS
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def syncfs(handle: int) -> None:
    """Make a whole file system survive a loss of power: many files for the price of one fsync.

    Parameters
    ----------
    handle : int
        Anything of it that was open before something was written: what failed since then is told (syncfs(2), Linux
        5.8). Other systems have `sync` alone, which tells nothing.

    Raises
    ------
    OSError
    """
    if sys.platform != "linux":
        os.sync()
    elif ctypes.CDLL(None, use_errno=True).syncfs(handle):
        raise OSError(number := ctypes.get_errno(), os.strerror(number))


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


def leave_no_core_dump() -> None:
    """Keep the memory of this process from disks and debuggers: it holds a secret from here on."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if sys.platform == "linux":  # a limit does not stop a core that is piped to a program (core(5)); this does
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)


def give_back_memory() -> None:
    """Give what this process has freed back to the system: glibc keeps it, tens of MB after a model was loaded."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc alone
        libc.malloc_trim(0)
