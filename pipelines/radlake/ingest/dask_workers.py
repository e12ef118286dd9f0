"""Studies as Dask tasks: on a cluster of this machine, or on one whose scheduler is named.

What goes to a worker is a job that names files, what comes back are rows: the pixels never pass the scheduler. A
worker must see the restricted zone at the same path as this process, and that is tried before anything is handed out.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from radlake.config import Settings
from radlake.errors import ConfigInvalid, WorkerKilled, WorkersLost

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["LOCAL", "DaskWorkers", "dask_workers"]

LOCAL = "local"

_WAIT_SECONDS = 30
_COUNT_SECONDS = 5
_GONE = "the Dask scheduler is gone"
# A worker that lacks memory dies at once instead of writing what it holds to a disk: there is nothing large to keep.
_CONFIG = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": 0.85,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.scheduler.no-workers-timeout": "5 minutes",  # by default a task waits for ever
    "distributed.deploy.lost-worker-timeout": "1 day",  # by default one that is away when asked never comes back
}


class DaskWorkers(Executor):
    """`concurrent.futures` on a Dask cluster.

    A task whose worker dies is given to another one. When it has cost several of them (Dask's `allowed-failures`, 3)
    its future raises WorkerKilled, and the others go on.

    Attributes
    ----------
    n_workers : int
        Tasks that the cluster works on at once; workers may come and go.
    """

    def __init__(self, client: Client, *, probe: Path) -> None:
        self._client = client
        self._probe = probe
        self._n_workers, self._counted_at = 0, -_COUNT_SECONDS

    @property
    def n_workers(self) -> int:
        if monotonic() - self._counted_at >= _COUNT_SECONDS:
            try:
                self._n_workers = sum(_answered(self._client.nthreads()).values())
            except OSError as exc:
                raise WorkersLost(reason=_GONE) from exc
            self._counted_at = monotonic()
        return self._n_workers

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        answer.set_running_or_notify_cancel()
        task = self._client.submit(_at_worker, str(self._probe), fn, args, kwargs, pure=False)
        task.add_done_callback(lambda done: _hand_over(done, answer))
        return answer


@contextmanager
def dask_workers(settings: Settings) -> Iterator[DaskWorkers]:
    """The cluster that `settings.dask` names: `local`, or the address of a scheduler.

    Raises
    ------
    WorkersLost
        If no scheduler answers, or it has no worker.
    ConfigInvalid
        If a worker cannot see the restricted zone.
    """
    import dask.config
    from distributed import Client, LocalCluster

    scratch = settings.prepare_restricted() / "scratch"
    scratch.mkdir(exist_ok=True)
    with ExitStack() as stack:
        if settings.dask == LOCAL:
            stack.enter_context(dask.config.set(_CONFIG))
            cluster = LocalCluster(
                n_workers=max(settings.workers, 1),
                threads_per_worker=1,
                memory_limit=settings.worker_memory or "auto",
                dashboard_address="127.0.0.1:0",
                local_directory=str(scratch),
            )
            client = Client(stack.enter_context(cluster))
        else:
            client = _client(settings.dask)
        stack.enter_context(client)
        probe = scratch / f"dask-{secrets.token_hex(8)}.probe"
        probe.touch()
        stack.callback(probe.unlink, missing_ok=True)
        _check_workers(client, settings, probe=probe)
        yield DaskWorkers(client, probe=probe)


def _client(address: str) -> Client:
    from distributed import Client

    try:
        return Client(address)
    except (OSError, ValueError) as exc:
        raise WorkersLost(reason=f"no Dask scheduler answers at {address}") from exc


def _check_workers(client: Client, settings: Settings, *, probe: Path) -> None:
    try:
        client.wait_for_workers(1, timeout=_WAIT_SECONDS)
    except TimeoutError as exc:
        raise WorkersLost(reason=f"the Dask scheduler at {settings.dask} has no worker") from exc
    told = _answered(client.run(_sees, str(probe)))
    blind = sorted(worker for worker, sees in told.items() if not sees)
    if blind:
        raise _blind(*blind, folder=str(settings.restricted))


def _blind(*workers: str, folder: str) -> ConfigInvalid:
    problems = [f"the worker {worker} cannot read {folder}" for worker in workers]
    advice = "mount the restricted zone on every worker at the same path (docs/how-to/use-a-dask-cluster.md)"
    return ConfigInvalid(path="RADLAKE_DASK", problems=[*problems, advice])


def _answered(answer: Any) -> dict[str, Any]:
    """What a client that is not asynchronous answers: its types tell both."""
    return answer


def _sees(probe: str) -> bool:
    return Path(probe).exists()


@lru_cache(maxsize=4)
def _must_see(probe: str) -> None:
    """A worker that came later is tried with its first task."""
    if not _sees(probe):
        raise _blind("that came last", folder=str(Path(probe).parents[1]))


def _at_worker(probe: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _must_see(probe)
    return fn(*args, **kwargs)


def _hand_over(task: Any, answer: Future[Any]) -> None:
    """Give the result or the error of a task to who waits; called by a thread of the client."""
    try:
        answer.set_result(_result(task))
    except Exception as exc:
        answer.set_exception(exc)
    finally:
        task.release()


def _result(task: Any) -> Any:
    from distributed import CancelledError, KilledWorker
    from distributed.scheduler import NoWorkerError

    if task.status not in ("finished", "error"):  # cancelled, lost
        raise WorkersLost(reason=_GONE)
    try:
        if task.status == "finished":
            return task.result()
        error = task.exception()  # what the task itself raised, be it an OSError
    except (OSError, CancelledError) as exc:
        raise WorkersLost(reason=_GONE) from exc
    if isinstance(error, KilledWorker):
        raise WorkerKilled(n=error.allowed_failures + 1) from error
    if isinstance(error, NoWorkerError):
        raise WorkersLost(reason="the Dask cluster has no worker any more") from error
    raise error
