"""A warm interpreter that forks a child for each call: imports are paid once, and a child may be killed.

    with Warm(warm_up) as warm:
        ended = warm.call(function, argument)     # a function of a module, in a process of its own

What warms up may not start a thread of DuckDB, delta-rs or s3fs: it would be missing in the children.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

__all__ = ["Ended", "Warm"]


@dataclass(frozen=True)
class Ended:
    """How a child ended: `exit_code` as `subprocess` tells it (-9: killed), and what its function returned."""

    exit_code: int
    value: Any = None
    error: str = ""


class Warm:
    """Runs as long as the `with` block.

    Parameters
    ----------
    warm_up : callable
        What to do once, ahead: import, load, but start no thread.
    """

    def __init__(self, warm_up: Callable[[], object]) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, warm_up), daemon=True)
        self._process.start()
        theirs.close()

    def start(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Begin a call; `result` waits for it."""
        self._ours.send((function, arguments))

    def result(self) -> Ended:
        return self._ours.recv()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Ended:
        self.start(function, *arguments)
        return self.result()

    def value(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a call returned that must end well."""
        ended = self.call(function, *arguments)
        assert ended.exit_code == 0, ended.error or f"it ended with {ended.exit_code}"
        return ended.value

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ours.close()
        self._process.kill()  # it holds nothing that would need closing, and its engines take long to end
        self._process.join()


def _serve(calls: Connection, warm_up: Callable[[], object]) -> None:
    warnings.simplefilter("ignore")
    warm_up()
    gc.collect()
    gc.freeze()  # children need not look through what was loaded before them
    while True:
        try:
            function, arguments = calls.recv()
        except EOFError:
            return
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            calls.close()
            _run(writer, function, arguments)
        os.close(writer)
        with os.fdopen(reader, "rb") as answer:
            told = answer.read()
        _, status = os.waitpid(child, 0)
        exit_code = os.waitstatus_to_exitcode(status)
        calls.send(Ended(exit_code, **(pickle.loads(told) if told else {})))


def _run(writer: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """In the child: it never returns, so that nothing of the parent's is cleaned up twice."""
    try:
        told, code = {"value": function(*arguments)}, 0
    except BaseException:
        told, code = {"error": traceback.format_exc()}, 1
    with os.fdopen(writer, "wb") as answer:
        answer.write(pickle.dumps(told))
    os._exit(code)
