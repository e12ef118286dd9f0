"""Several studies of one hospital at once, as many as the gate before its node lets pass.

A thread for each place; what comes is handed to the one thread that asked, in the order of arrival. That one is busy
for seconds when it publishes a batch, and the node goes on meanwhile: so much may wait in the spool. Bringing one study
is done in `pull`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from radlake.harvest.courtesy import NodeGate
from radlake.harvest.pull import PulledStudy
from radlake.net import NodeClient, StudyFound

__all__ = ["Arrivals", "pulling"]

_PARTING_SECONDS = 5.0
_MOST_STUDIES, _MOST_BYTES = 250, 1 << 30  # that wait to be taken: what a fast node sends while a batch is published

_Arrival = tuple[StudyFound, PulledStudy | None] | BaseException | None


class _Waiting:
    """What arrived and is not taken yet. While that is much, who brings more waits: the spool stays small."""

    def __init__(self, *, n_free: int) -> None:
        self._n_free = n_free  # that may wait however large they are
        self._items: deque[tuple[_Arrival, int]] = deque()
        self._n_bytes = 0
        self._changed = threading.Condition()

    def put(self, item: _Arrival, *, n_bytes: int = 0) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(n_bytes))
            self._items.append((item, n_bytes))
            self._n_bytes += n_bytes
            self._changed.notify_all()

    def _has_room(self, n_bytes: int) -> bool:
        n_items = len(self._items)
        return n_items < self._n_free or (n_items < _MOST_STUDIES and self._n_bytes + n_bytes <= _MOST_BYTES)

    def get(self, *, timeout: float | None = None) -> _Arrival:
        """The oldest; raises queue.Empty."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._items, timeout=timeout):
                raise queue.Empty
            item, n_bytes = self._items.popleft()
            self._n_bytes -= n_bytes
            self._changed.notify_all()
            return item


class Arrivals:
    """Iterate over it: each study, and what of it came; None when nothing of it was due."""

    def __init__(
        self,
        found: Sequence[StudyFound],
        *,
        is_due: Callable[[StudyFound], bool],
        pull: Callable[[StudyFound], PulledStudy | None],
        gate: NodeGate,
        should_yield: Callable[[], bool],
    ) -> None:
        self._todo = iter(found)
        self._is_due = is_due
        self._pull = pull
        self._gate = gate
        self._should_yield = should_yield
        self._is_stopped = threading.Event()
        self._lock = threading.Lock()
        n_threads = min(len(found), gate.most_places)
        self._arrived = _Waiting(n_free=max(1, n_threads))
        self._threads = [threading.Thread(target=self._work, name="pull", daemon=True) for _ in range(n_threads)]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[tuple[StudyFound, PulledStudy | None]]:
        n_alive = len(self._threads)
        while n_alive:
            item = self._arrived.get()
            if item is None:
                n_alive -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item

    @property
    def is_stopped(self) -> bool:
        """Whether no other study begins, by `stop` or because it was time to yield."""
        return self._is_stopped.is_set()

    def stop(self) -> None:
        """Begin no other study; what is under way still arrives."""
        self._is_stopped.set()

    def join(self, seconds: float) -> None:
        """Let the threads end that nobody listens to any more."""
        until = time.monotonic() + seconds
        while any(thread.is_alive() for thread in self._threads) and time.monotonic() < until:
            try:
                self._arrived.get(timeout=0.05)
            except queue.Empty:
                continue

    def _is_over(self) -> bool:
        if self._should_yield():
            self.stop()
        return self.is_stopped

    def _work(self) -> None:
        try:
            while (study := self._next()) is not None:
                if not self._is_due(study):
                    self._arrived.put((study, None))
                elif self._gate.take_place(is_over=self._is_over):
                    pulled = self._pull_one(study)
                    self._arrived.put((study, pulled), n_bytes=_size(pulled))
                else:
                    break
        except BaseException as exc:
            self._arrived.put(exc)
        finally:
            self._arrived.put(None)

    def _next(self) -> StudyFound | None:
        with self._lock:
            return None if self._is_over() else next(self._todo, None)

    def _pull_one(self, study: StudyFound) -> PulledStudy | None:
        begin, is_failure = time.monotonic(), False
        try:
            pulled = self._pull(study)
            is_failure = pulled is not None and pulled.has_failed
            return pulled
        finally:
            self._gate.give_back(seconds=time.monotonic() - begin, is_failure=is_failure)


def _size(pulled: PulledStudy | None) -> int:
    return sum(path.stat().st_size for path in pulled.files) if pulled else 0


@contextmanager
def pulling(
    found: Sequence[StudyFound],
    *,
    is_due: Callable[[StudyFound], bool],
    pull: Callable[[StudyFound], PulledStudy | None],
    gate: NodeGate,
    client: NodeClient,
    should_yield: Callable[[], bool],
) -> Iterator[Arrivals]:
    """Pull what is due in threads. When the block fails, all of them end: nobody would take what they bring.

    Parameters
    ----------
    is_due, pull : callable
        Called from several threads at once, `pull` only with a place at the gate.
    should_yield : callable
        Once it is True no other study begins; the iteration ends when what is under way has arrived.
    """
    arrivals = Arrivals(found, is_due=is_due, pull=pull, gate=gate, should_yield=should_yield)
    try:
        yield arrivals
    except BaseException:
        arrivals.stop()
        client.hang_up()
        arrivals.join(_PARTING_SECONDS)
        raise
