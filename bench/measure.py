"""Measure contestants side by side, and print one table.

Every run is a fresh process, so that no memory, cache or import passes from one to the next, and the contestants take
turns, so that a noisy machine is noisy for all. What counts is CPU time, user and system, with that of children: it
stands on a loaded machine where wall time does not. Starting and importing is CPU time of its own.

What contestants do is in the module of each benchmark. Those modules import at the top only what is light: what a
contestant needs it imports in its `prepare`, where it is its own start-up and memory.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import platform
import re
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeVar

from bench.usage import peak_of

__all__ = [
    "Done",
    "Measured",
    "Place",
    "Prepare",
    "command_cpu",
    "compare",
    "in_fresh_process",
    "peak_bytes",
    "print_rows",
    "print_table",
    "same_answer",
]

_T = TypeVar("_T")
_Name = TypeVar("_Name", bound=Hashable)
_TMPFS = Path("/dev/shm")
_LEAST_RUNS = 3


@dataclass(frozen=True)
class Done:
    """What a contestant did.

    Attributes
    ----------
    n : int
        Instances, or exams.
    foreign_cpu : float
        Seconds of CPU that were spent for it but are not its own: a sender, the start of a program.
    look : callable
        Looks at the result after the clock has stopped.
    seconds, cpu, peak_bytes : float, optional
        Wall time, CPU time and largest resident memory, where they are not those of the whole run.
    part_n, part_cpu : int, float
        Instances and CPU time of a part that is to be told by itself.
    more : mapping of str to float
        Other figures that a benchmark wants to tell.
    """

    n: int
    foreign_cpu: float = 0.0
    look: Callable[[], Hashable] = lambda: None
    seconds: float | None = None
    cpu: float | None = None
    peak_bytes: float | None = None
    part_n: int = 0
    part_cpu: float = 0.0
    more: Mapping[str, float] = field(default_factory=dict)


# Gets an empty folder for its output, imports and connects, and returns what is to be measured.
Prepare = Callable[[Path], Callable[[], Done]]


@dataclass(frozen=True)
class Measured:
    """One run, or the medians of several.

    Attributes
    ----------
    cpu, seconds : float
        CPU time and wall time of the work.
    start_cpu : float
        CPU time of everything before it.
    peak_bytes : float
        The largest resident memory of a process that took part.
    answer : Hashable
        What `look` saw.
    part_n, part_cpu : int, float
        Instances and CPU time of a part of the work; 0 when nobody asks.
    more : mapping of str to float
    """

    n: int
    cpu: float
    seconds: float
    start_cpu: float
    peak_bytes: float
    answer: Hashable
    part_n: int = 0
    part_cpu: float = 0.0
    more: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where and how often to measure."""

    folder: Path
    repetitions: int

    @staticmethod
    def roomy(*, n_bytes: int) -> Path:
        """Memory when there is a tmpfs with this much room, else the folder for temporary files."""
        is_roomy = os.access(_TMPFS, os.W_OK) and shutil.disk_usage(_TMPFS).free >= n_bytes
        return _TMPFS if is_roomy else Path(tempfile.gettempdir())

    def __str__(self) -> str:
        load, _, _ = os.getloadavg()
        machine = f"{os.cpu_count()} cores of {_cpu_name()}, load {load:.1f}, Python {platform.python_version()}"
        return f"{machine}; {self.repetitions} runs each in {self.folder}"


def compare(
    contestants: Mapping[_Name, Prepare],
    *,
    place: Place,
    pick: Callable[[Iterable[float]], float] = median,
    is_same_work: bool = True,
    is_pinned: bool = False,
    may_fail: Collection[_Name] = (),
    enough_cpu: float = math.inf,
) -> dict[_Name, Measured]:
    """Run each contestant `repetitions` times in turn and take the medians, or what else `pick` takes of each figure.

    Parameters
    ----------
    is_same_work : bool
        Whether all have to do the same number of things.
    is_pinned : bool
        Whether a contestant and all that it starts share one core.
    may_fail : collection
        Contestants that are told and left out when they fail.
    enough_cpu : float
        Seconds of CPU after which a contestant is not run again, once it had three runs: long runs vary less.

    Raises
    ------
    ValueError
        If the contestants did not do the same number of things, or one gave two answers: there is nothing to compare.
    """
    runs: dict[_Name, list[Measured]] = {name: [] for name in contestants}
    for repetition in range(place.repetitions):
        # There and back again, so that nobody always comes after the same one.
        for name in list(runs)[:: -1 if repetition % 2 else 1]:
            if len(runs[name]) >= _LEAST_RUNS and sum(run.cpu for run in runs[name]) > enough_cpu:
                continue
            with tempfile.TemporaryDirectory(prefix="bench-out-", dir=place.folder) as out:
                try:
                    runs[name].append(in_fresh_process(_run, contestants[name], Path(out), is_pinned))
                except Exception as exc:  # a foreign tool fails as it likes
                    if name not in may_fail:
                        raise
                    print(f"left out: {name} failed ({type(exc).__name__}: {exc})")
                    del runs[name]
    done = {name: {run.n for run in measured} for name, measured in runs.items()}
    if is_same_work and len(set().union(*done.values())) > 1:
        raise ValueError(f"the contestants did not do the same work: {done}")
    for name, measured in runs.items():
        if len({(run.n, run.answer) for run in measured}) > 1:
            raise ValueError(f"{name} did not give the same answer each time")
    return {name: _picked(measured, pick) for name, measured in runs.items()}


def same_answer(measured: Mapping[str, Measured]) -> Any:
    """The answer that all contestants gave.

    Raises
    ------
    ValueError
        If one gave another.
    """
    answers = {run.answer for run in measured.values()}
    if len(answers) > 1:
        raise ValueError(f"the contestants did not give the same answer: {', '.join(measured)}")
    return answers.pop()


def in_fresh_process(function: Callable[..., _T], *arguments: object) -> _T:
    """Call a function of a module in a new Python process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def command_cpu(
    *command: str | Path, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> float:
    """Run a program, whatever becomes of it, and return the seconds of CPU that it took."""
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=nothing, stdout=nothing, stderr=nothing)
    _, process.returncode, usage = os.wait4(process.pid, 0)
    return usage.ru_utime + usage.ru_stime


def print_table(
    measured: Mapping[str, Measured],
    *,
    title: str,
    unit: str,
    peers: Sequence[str],
    ratio: Literal["cpu", "seconds"] = "cpu",
    answer: str = "",
) -> None:
    """Print what was picked of the runs.

    Parameters
    ----------
    peers : sequence of str
        Contestants that the last columns compare with; those that did not run are left out.
    ratio : {"cpu", "seconds"}
        What the last columns compare: CPU time, or wall time where waiting is the point.
    answer : str
        Heading of a column of answers; none when empty.
    """
    peers = [peer for peer in peers if peer in measured]
    head = ["", f"us CPU/{unit}", f"{unit}s/s/core", "seconds", "start CPU s", "peak MB"]
    rows = [[*head, *([answer] if answer else []), *(f"{ratio} x {peer}" for peer in peers)]]
    for name, run in measured.items():
        figures = [
            f"{run.cpu / run.n * 1e6:,.{0 if run.cpu / run.n > 2e-5 else 2}f}",
            f"{run.n / run.cpu:,.0f}",
            f"{run.seconds:.2f}",
            f"{run.start_cpu:.2f}",
            f"{run.peak_bytes / 1e6:,.0f}",
        ]
        ratios = [f"{getattr(run, ratio) / getattr(measured[peer], ratio):.2f}" for peer in peers]
        rows.append([name, *figures, *([str(run.answer)] if answer else []), *ratios])
    print_rows(rows, title=title)


def print_rows(rows: Sequence[Sequence[str]], *, title: str) -> None:
    """Print cells in columns, the first of them to the left; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(f"\n{title}")
    for name, *cells in rows:
        aligned = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        print("  ".join([name.ljust(widths[0]), *aligned]))


def _run(prepare: Prepare, out: Path, is_pinned: bool) -> Measured:
    if is_pinned:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    run = prepare(out)
    start_cpu, begin = _cpu(), time.perf_counter()
    done = run()
    seconds, cpu = time.perf_counter() - begin, _cpu() - start_cpu - done.foreign_cpu
    return Measured(
        n=done.n,
        cpu=cpu if done.cpu is None else done.cpu,
        seconds=seconds if done.seconds is None else done.seconds,
        start_cpu=start_cpu,
        peak_bytes=peak_bytes() if done.peak_bytes is None else done.peak_bytes,
        answer=done.look(),
        part_n=done.part_n,
        part_cpu=done.part_cpu,
        more=done.more,
    )


def _picked(runs: Sequence[Measured], pick: Callable[[Iterable[float]], float]) -> Measured:
    return Measured(
        n=runs[0].n,
        cpu=pick(run.cpu for run in runs),
        seconds=pick(run.seconds for run in runs),
        start_cpu=pick(run.start_cpu for run in runs),
        peak_bytes=pick(run.peak_bytes for run in runs),
        answer=runs[0].answer,
        part_n=runs[0].part_n,
        part_cpu=pick(run.part_cpu for run in runs),
        more={name: pick(run.more[name] for run in runs) for name in runs[0].more},
    )


def _cpu() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_bytes() -> float:
    """Of this process and its children. What getrusage says of this one counts the process that started it too."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(1024 * children, peak_of(os.getpid()))


def _cpu_name() -> str:
    name = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return name[1] if name else platform.machine()
