"""Killed (SIGKILL) at a commit point: what a process leaves that dies there."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from radlake.commit_points import listening

__all__ = ["killing", "run_killed"]


@contextmanager
def killing(point: str, nth: int = 1) -> Iterator[None]:
    """Within this block the process dies when it comes by the point for the nth time."""
    left = nth

    def kill(name: str) -> None:
        nonlocal left
        left -= name == point
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with listening(kill):
        yield


def run_killed(function: Callable[..., object], *arguments: Any, point: str, nth: int = 1) -> None:
    """Call a function of a module in a process of its own, which must die at the point."""
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(point, nth, function, arguments))
    process.start()
    try:
        process.join()  # one that hangs is ended by the time limit of the test
        assert process.exitcode == -signal.SIGKILL, f"it was not killed at {point}: {process.exitcode}"
    finally:
        process.kill()


def _run(point: str, nth: int, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    with killing(point, nth):
        function(*arguments)
