"""Writers in processes of their own, which tests start at once and kill at a chosen moment."""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from radlake.lake import Lake

__all__ = ["MOMENTS", "Moment", "at_once", "commit", "killed_at"]

_CONTEXT = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Moment:
    """Before or after a call of a class's or module's function; of the nth with that first argument, if it matters."""

    when: Literal["before", "after"]
    owner: str
    name: str
    first_argument: str | None = None
    nth: int = 1


MOMENTS = {
    "files are written": Moment("after", "radlake.lake.parquet", "write_rows"),
    "files are in place": Moment("after", "radlake.lake.store:LocalStore", "put"),
    "the commit begins": Moment("before", "radlake.lake.deltalog:Snapshot", "commit"),
    "the commit is done": Moment("after", "radlake.lake.deltalog:Snapshot", "commit"),
}


def commit(lake: Lake, table: str, data: pa.Table, batch_id: str, replace: pa.Table | None = None) -> bool:
    return lake.tables.commit_batch(table, data, batch_id=batch_id, replace=replace)


def at_once(calls: list[tuple[Callable[..., Any], tuple[Any, ...]]]) -> list[Any]:
    """Run each call in a process of its own, all released at the same moment; their results in order."""
    barrier = _CONTEXT.Barrier(len(calls))
    queue = _CONTEXT.SimpleQueue()
    processes = [
        _CONTEXT.Process(target=_run, args=(barrier, queue, number, function, arguments))
        for number, (function, arguments) in enumerate(calls)
    ]
    for process in processes:
        process.start()
    results = dict(queue.get() for _ in processes)
    for process in processes:
        process.join()
    failed = [result for result in results.values() if isinstance(result, BaseException)]
    if failed:
        raise failed[0]
    return [results[number] for number in range(len(calls))]


def _run(barrier: Any, queue: Any, number: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        barrier.wait(timeout=60)
        queue.put((number, function(*arguments)))
    except BaseException as exc:
        queue.put((number, exc))


@contextmanager
def killed_at(moment: Moment, function: Callable[..., Any], *arguments: Any) -> Iterator[None]:
    """Within this block the process has come to the moment and was killed there by SIGKILL."""
    here = _CONTEXT.Event()
    process = _CONTEXT.Process(target=_stop_at, args=(here, moment, function, arguments))
    process.start()
    try:
        assert here.wait(timeout=60), "the process never came to the moment"
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        yield
    finally:
        process.kill()
        process.join()


def _stop_at(here: Any, moment: Moment, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    owner = pkgutil.resolve_name(moment.owner)
    original = getattr(owner, moment.name)
    n_calls = 0

    def stopping(*args: Any, **kwargs: Any) -> Any:
        nonlocal n_calls
        n_calls += moment.first_argument is None or moment.first_argument in args[:2]
        result = original(*args, **kwargs) if n_calls < moment.nth or moment.when == "after" else None
        if n_calls == moment.nth:
            here.set()
            time.sleep(600)
        return result

    setattr(owner, moment.name, stopping)
    function(*arguments)
