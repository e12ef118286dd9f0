"""Who does the heavy part: this process, worker processes, or a Dask cluster; all speak `concurrent.futures`.

Which is the default on one machine, and why, is in docs/adr/0021-dask-beside-the-process-pool.md.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import forkserver, resource_tracker
from typing import Any

from radlake.config import Settings
from radlake.errors import WorkersLost

__all__ = ["most_under_way", "workers"]


class _Here(Executor):
    """Runs each call at once in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as exc:
            future.set_exception(exc)
        return future


class _Processes(ProcessPoolExecutor):
    """Worker processes; the answers that they owe when one of them is killed raise WorkersLost."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        try:
            super().submit(fn, *args, **kwargs).add_done_callback(partial(_hand_over, answer=answer))
        except BrokenExecutor as exc:
            answer.set_exception(_lost(exc))
        return answer


def _hand_over(done: Future[Any], *, answer: Future[Any]) -> None:
    if done.cancelled():
        answer.cancel()
        answer.set_running_or_notify_cancel()
    elif error := done.exception():
        answer.set_exception(_lost(error) if isinstance(error, BrokenExecutor) else error)
    else:
        answer.set_result(done.result())


def _lost(cause: BaseException) -> WorkersLost:
    error = WorkersLost(reason="a worker process was killed; mostly memory ran out")
    error.__cause__ = cause
    return error


def most_under_way(executor: Executor, settings: Settings) -> int:
    """Jobs to hand out at once: every worker has one more waiting, and no memory fills with what nobody works on."""
    return 2 * max(getattr(executor, "n_workers", settings.workers), 1)


@contextmanager
def workers(settings: Settings, *, given: Executor | None = None) -> Iterator[Executor]:
    """The executor that ingests studies.

    Parameters
    ----------
    given : Executor or None
        An executor that the caller shares between runs; it is left open.
    """
    if given is not None:
        yield given
    elif settings.dask:
        from radlake.ingest.dask_workers import dask_workers  # 1 s of import, only on a cluster

        with dask_workers(settings) as cluster:
            yield cluster
    elif settings.workers == 0:
        yield _Here()
    else:
        pool = _worker_processes(settings.workers)
        try:
            yield pool
        except KeyboardInterrupt:
            for worker in multiprocessing.active_children():
                worker.kill()  # a study that is not published is done again
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _worker_processes(n: int) -> Executor:
    """Processes that begin with what an ingest imports, leave Ctrl-C to this one and die with it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["radlake.ingest.study"])
    _start_fork_server()
    return _Processes(n, mp_context=context, initializer=_as_worker)


def _start_fork_server() -> None:
    """Start it with SIGINT blocked: it ignores Ctrl-C only when its modules are loaded, and would die before that."""
    resource_tracker.ensure_running()  # starting it later would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _as_worker() -> None:
    """A worker leaves Ctrl-C to its parent and dies with it."""
    gc.freeze()  # what was imported stays: looking through it for garbage took one part in twenty of a worker's time
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    # Not the kernel's PDEATHSIG: to the kernel a worker is a child of the fork server, which outlives a killed parent.
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)
