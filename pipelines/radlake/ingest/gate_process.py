"""The quality gate in a process of its own, which lives as long as this one.

Great Expectations takes 3 s of CPU to import and a second for each batch. Here that would hold the interpreter's lock,
and the threads that receive from a node would stand still meanwhile. The process starts with the first study of a
run, so that it is ready when there is a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from datetime import datetime
from functools import cache
from multiprocessing.util import Finalize
from threading import Lock

import pyarrow as pa

from radlake.errors import WorkersLost
from radlake.ingest.workers import worker_processes
from radlake.quality import GateResult, check_batch, load_suites

__all__ = ["begin_check", "warm_up"]

_STARTING = Lock()  # hospitals are harvested in threads


@cache
def _started() -> Executor:
    process = worker_processes(1)
    process.submit(load_suites)
    # A process of `multiprocessing` waits for its children; what they are told by is closed at 10.
    Finalize(None, process.shutdown, exitpriority=20)
    return process


def _process() -> Executor:
    with _STARTING:
        return _started()


def warm_up() -> None:
    """Start the process, if it is not there yet."""
    _process()


def begin_check(tables: dict[str, pa.Table], *, batch_id: str, checked_at: datetime) -> Callable[[], GateResult]:
    """Let the process check a batch; what is returned waits for the result.

    Should the process be killed, the batch is checked in this one.
    """
    asked = _process().submit(check_batch, tables, batch_id=batch_id, checked_at=checked_at)

    def result() -> GateResult:
        try:
            return asked.result()
        except WorkersLost:
            _started.cache_clear()
            return check_batch(tables, batch_id=batch_id, checked_at=checked_at)

    return result
