"""What processes used, read from /proc: of a session with all that it started, and of servers by their ids."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Usage",
    "cpu_of",
    "own_session",
    "peak_of",
    "peak_of_session",
    "processes_named",
    "resident_bytes",
    "resident_of",
]

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PARENT, _SESSION, _CPU = 1, 3, slice(11, 15)  # after the name, which may hold anything: proc(5), fields 4, 6, 14 to 17


@dataclass(frozen=True)
class Usage:
    """Of a session: seconds of CPU with that of children that ended, and the largest resident memory so far.

    Attributes
    ----------
    own_peak : float
        Bytes of the process that asks.
    other_peaks : mapping of int to float
        Bytes of each of the others, by process id.
    """

    cpu: float
    own_peak: float
    other_peaks: Mapping[int, float]


def own_session() -> None:
    """Let this process and what it starts be told from all others."""
    os.setsid()


def peak_of_session() -> Usage:
    """What this process and its session used; what has ended and was waited for counts in its parent's CPU."""
    session = os.getsid(0)
    peaks = {}
    cpu = 0.0
    for pid, fields in _processes():
        if int(fields[_SESSION]) == session:
            cpu += sum(map(int, fields[_CPU])) / _TICKS
            peaks[pid] = peak_of(pid)
    return Usage(cpu, peaks.pop(os.getpid()), peaks)


def cpu_of(pids: Iterable[int]) -> float:
    """Seconds of CPU of processes and of what they waited for."""
    wanted = set(pids)
    return sum(sum(map(int, fields[_CPU])) for pid, fields in _processes() if pid in wanted) / _TICKS


def peak_of(pid: int) -> float:
    """The largest resident memory of a process so far, in bytes; 0 when it has ended."""
    return _memory(pid, "status", "VmHWM")


def resident_of(pid: int) -> float:
    """Resident memory of a process now, in bytes; 0 when it has ended."""
    return _memory(pid, "status", "VmRSS")


def resident_bytes() -> float:
    """Memory of this process and all its descendants: proportional shares, so that a page of several counts once."""
    parents = {pid: int(fields[_PARENT]) for pid, fields in _processes()}
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(_memory(pid, "smaps_rollup", "Pss") for pid in ours)


def processes_named(text: str) -> list[int]:
    """Ids of processes whose command line holds a text."""
    found = []
    for path in _PROC.glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def _processes() -> Iterator[tuple[int, list[str]]]:
    for path in _PROC.glob("[0-9]*/stat"):
        try:
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        yield int(path.parent.name), fields


def _memory(pid: int, file: str, line: str) -> float:
    try:
        found = re.search(rf"^{line}:\s*(\d+)", (_PROC / str(pid) / file).read_text(), re.MULTILINE)
    except OSError:  # it has ended
        return 0.0
    return 1024.0 * int(found[1]) if found else 0.0
