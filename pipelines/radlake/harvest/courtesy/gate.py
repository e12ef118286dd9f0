"""The gate before a node: who may ask it now, and what is remembered of how it answered.

Deciding is done in `state`; here are the lock, the clock and the ledger.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial, reduce

import sqlalchemy as sa

from radlake import telemetry
from radlake.errors import LedgerBusy, NodeAtRest, TransientError
from radlake.harvest.courtesy.breaker import Phase
from radlake.harvest.courtesy.state import Allowed, NodeState, allowed, state_from_json, visit_allowed
from radlake.harvest.courtesy.week import Week, week_of
from radlake.lake.ledger import Claim, Ledger
from radlake.lake.ledger_tables import NODE_STATE
from radlake.lake.statements import put_row
from radlake.net import DimseNode, WebNode
from radlake.net.signals import Signal

__all__ = ["NodeGate", "load_states"]

_SHORT_REST = 60.0  # seconds that a run sits out; a longer rest ends it
_SAVE_EVERY = 30.0
_BREAKER = {Phase.CLOSED: 0, Phase.HALF_OPEN: 1, Phase.OPEN: 2}  # as the metric tells it
_POLL = 0.05  # seconds
_TICK = 1.0  # seconds after which a waiting thread looks whether it is still wanted


class NodeGate:
    """Used by all threads of one run; two runs of a hospital exclude each other by the ledger's lock.

    A run `begin`s, takes places and gives them back. Who wants one study beside it comes as a visitor.

    Parameters
    ----------
    week : Week, optional
        Another calendar than the node's own.
    clock : callable
        Unix time.
    """

    def __init__(
        self,
        hospital_id: str,
        node: DimseNode | WebNode,
        *,
        ledger: Ledger,
        week: Week | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.week = week or week_of(node)
        self.most_places = max(slot.associations for slot in self.week.slots)
        self._hospital_id = hospital_id
        self._node = node.name
        self._factor = node.courtesy.slow_factor
        self._ledger = ledger
        self._clock = clock
        self._changed = threading.Condition()
        self._saving = threading.Lock()
        self._news: list[Callable[[NodeState], NodeState]] = []  # what happened since it was saved
        self._state = load_states(ledger, hospital_id).get(hospital_id, NodeState())
        self._n_busy = 0
        self._cooling: list[float] = []  # when each place that rests after a study is free again
        self._saved_at = 0.0

    @property
    def state(self) -> NodeState:
        return self._state

    def allowed(self) -> Allowed:
        return allowed(self._state, self.week, now=self._clock())

    def watch(self, signal: Signal) -> None:
        """Take in a signal of the node; never waits for a disk."""
        with self._changed:
            self._happened(partial(NodeState.felt, signal=signal, factor=self._factor, now=self._clock()))

    def begin(self, *, is_over: Callable[[], bool]) -> None:
        """A run begins: wait out a short rest.

        Raises
        ------
        NodeAtRest
            If it is a long one, or `is_over` while it is waited for.
        """
        while True:
            may = self.allowed()
            if may.places == 0 and (may.from_ - self._clock() > _SHORT_REST or is_over()):
                raise self.at_rest(may)
            if may.places == 0:
                time.sleep(min(_TICK, max(0.01, may.from_ - self._clock())))
                continue
            with self._changed:
                self._happened(partial(NodeState.run_began, now=self._clock()))
            self.save()
            if self.allowed().places:
                return

    def end(self, *, is_well: bool) -> None:
        """A run ends in order; it is well when nothing failed."""
        with self._changed:
            self._happened(partial(NodeState.run_ended, is_well=is_well))
        self.save()

    def looked(self) -> None:
        """The node listed its studies."""
        with self._changed:
            self._happened(partial(NodeState.looked, now=self._clock()))

    def take_place(self, *, is_over: Callable[[], bool]) -> bool:
        """Wait until one more study may begin; False when it is over, or when the node rests for long.

        One place is left to a visitor while there is one.
        """
        while not is_over():
            n_visitors = int(self._has_visitor())
            with self._changed:
                now = self._clock()
                may = allowed(self._state, self.week, now=now)
                self._cooling = [until for until in self._cooling if until > now]
                wait = may.from_ - now
                if may.places == 0 and wait > _SHORT_REST:
                    return False
                if wait <= 0 and self._n_busy + len(self._cooling) + n_visitors < may.places:
                    self._happened(partial(NodeState.began, may=may, now=now))
                    self._n_busy += 1
                    return True
                if wait <= 0:
                    wait = min(self._cooling, default=now + _TICK) - now
                self._changed.wait(min(_TICK, max(0.01, wait)))
        return False

    def give_back(self, *, seconds: float, is_failure: bool) -> None:
        """A study is here, or the node failed to send any of it."""
        with self._changed:
            now = self._clock()
            before = self._state.breaker
            self._happened(
                partial(NodeState.failed, now=now) if is_failure else partial(NodeState.succeeded, seconds=seconds)
            )
            may = allowed(self._state, self.week, now=now)
            self._n_busy -= 1
            if may.places and (pause := may.cooling(seconds)):
                self._cooling.append(now + pause)
            self._changed.notify_all()
            is_news = self._state.breaker != before or now - self._saved_at > _SAVE_EVERY
        if is_news:
            self.save()

    @contextmanager
    def visit(self, *, patience: float) -> Iterator[None]:
        """Ask for one study beside the run of the moment, if there is one; visitors come one at a time.

        Parameters
        ----------
        patience : float
            Seconds to wait for another visitor, and for a short rest of the node.

        Raises
        ------
        NodeAtRest
            If the node rests for longer.
        LedgerBusy
            If another visitor takes longer.
        """
        end = self._clock() + patience
        while True:
            with self._ledger.claim(self._hospital_id, Claim.VISIT) as is_only:
                if is_only:
                    self._learn()
                now = self._clock()
                may = visit_allowed(self._state, self.week, now=now)
                if is_only and may.from_ <= now:
                    with self._visiting(may, now):
                        yield
                    return
            if may.from_ > max(now, end):
                raise self.at_rest(may)
            if now >= end:
                raise LedgerBusy(hospital=self._hospital_id)
            time.sleep(min(_TICK, max(_POLL, may.from_ - now)))

    @contextmanager
    def _visiting(self, may: Allowed, begin: float) -> Iterator[None]:
        with self._changed:
            self._happened(partial(NodeState.began, may=may, now=begin))
        try:
            yield
        except TransientError:
            self.failed()
            raise
        with self._changed:
            now = self._clock()
            self._happened(partial(NodeState.visited, pause=self.allowed().cooling(now - begin), now=now))
        self.save()

    def _learn(self) -> None:
        """Take in what others met since."""
        known = load_states(self._ledger, self._hospital_id).get(self._hospital_id, NodeState())
        with self._changed:
            self._state = _after(known, self._news)

    def _has_visitor(self) -> bool:
        with self._ledger.claim(self._hospital_id, Claim.VISIT, shared=True) as is_free:
            return not is_free

    def failed(self) -> None:
        """A query failed."""
        with self._changed:
            self._happened(partial(NodeState.failed, now=self._clock()))
        self.save()

    def _happened(self, change: Callable[[NodeState], NodeState]) -> None:
        self._state = change(self._state)
        self._news.append(change)

    def save(self) -> None:
        """Remember for the next process what happened, beside what another process met meanwhile."""
        where = NODE_STATE.c.hospital_id == self._hospital_id
        with self._saving:
            with self._changed:
                news, self._news, self._saved_at = self._news, [], self._clock()
            with self._ledger.writing() as connection:
                known = connection.scalar(sa.select(NODE_STATE.c.state).where(where).with_for_update())
                state = _after(state_from_json(known) if known else NodeState(), news)
                at = datetime.fromtimestamp(self._saved_at, UTC).replace(tzinfo=None)
                key, values = {"hospital_id": self._hospital_id}, {"state": state.to_json(), "updated_at": at}
                put_row(connection, NODE_STATE, key, values)
            with self._changed:
                self._state = _after(state, self._news)
                phase = self._state.breaker.phase(self._saved_at)
        telemetry.record("radlake.breaker", _BREAKER[phase], hospital=self._hospital_id)

    def at_rest(self, may: Allowed) -> NodeAtRest:
        until = datetime.fromtimestamp(may.from_, UTC)
        return NodeAtRest(node=self._node, until=f"{until:%Y-%m-%d %H:%M} UTC", reason=may.why, until_at=until)


def _after(state: NodeState, changes: Iterable[Callable[[NodeState], NodeState]]) -> NodeState:
    return reduce(lambda known, change: change(known), changes, state)


def load_states(ledger: Ledger, hospital_id: str | None = None) -> dict[str, NodeState]:
    """What is remembered of the nodes, of all of them or of one, by hospital."""
    query = sa.select(NODE_STATE.c.hospital_id, NODE_STATE.c.state)
    if hospital_id is not None:
        query = query.where(NODE_STATE.c.hospital_id == hospital_id)
    with ledger.reading() as connection:
        return {name: state_from_json(text) for name, text in connection.execute(query)}
