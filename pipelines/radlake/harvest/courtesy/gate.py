"""The gate before a node: who may ask it now, and what is remembered of how it answered.

Deciding is done in `state`; here are the lock, the clock and the ledger.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa

from radlake import telemetry
from radlake.errors import NodeAtRest
from radlake.harvest.courtesy.breaker import Phase
from radlake.harvest.courtesy.state import Allowed, NodeState, allowed, state_from_json
from radlake.harvest.courtesy.week import Week, week_of
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import NODE_STATE
from radlake.net import DimseNode, WebNode
from radlake.net.signals import Signal

__all__ = ["NodeGate", "load_states"]

_SHORT_REST = 60.0  # seconds that a run sits out; a longer rest ends it
_SAVE_EVERY = 30.0
_BREAKER = {Phase.CLOSED: 0, Phase.HALF_OPEN: 1, Phase.OPEN: 2}  # as the metric tells it
_TICK = 1.0  # seconds after which a waiting thread looks whether it is still wanted


class NodeGate:
    """Used by all threads of one run; two runs of a hospital exclude each other by the ledger's lock.

    Parameters
    ----------
    clock : callable
        Unix time.
    """

    def __init__(
        self, hospital_id: str, node: DimseNode | WebNode, *, ledger: Ledger, clock: Callable[[], float] = time.time
    ) -> None:
        self.week: Week = week_of(node)
        self.most_places = max(slot.associations for slot in self.week.slots)
        self._hospital_id = hospital_id
        self._node = node.name
        self._factor = node.courtesy.slow_factor
        self._ledger = ledger
        self._clock = clock
        self._changed = threading.Condition()
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
            self._state = self._state.felt(signal, factor=self._factor, now=self._clock())

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
                self._state = self._state.run_began(now=self._clock())
            self.save()
            if self.allowed().places:
                return

    def end(self, *, is_well: bool) -> None:
        """A run ends in order; it is well when nothing failed."""
        with self._changed:
            self._state = self._state.run_ended(is_well=is_well)
        self.save()

    def looked(self) -> None:
        """The node listed its studies."""
        with self._changed:
            self._state = self._state.looked(now=self._clock())

    def take_place(self, *, is_over: Callable[[], bool]) -> bool:
        """Wait until one more study may begin; False when it is over, or when the node rests for long."""
        with self._changed:
            while not is_over():
                now = self._clock()
                may = allowed(self._state, self.week, now=now)
                self._cooling = [until for until in self._cooling if until > now]
                wait = may.from_ - now
                if may.places == 0 and wait > _SHORT_REST:
                    return False
                if wait <= 0 and self._n_busy + len(self._cooling) < may.places:
                    self._state = self._state.began(may, now=now)
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
            self._state = self._state.failed(now=now) if is_failure else self._state.succeeded(seconds=seconds)
            may = allowed(self._state, self.week, now=now)
            self._n_busy -= 1
            if may.places and (pause := may.cooling(seconds)):
                self._cooling.append(now + pause)
            self._changed.notify_all()
            is_news = self._state.breaker != before or now - self._saved_at > _SAVE_EVERY
        if is_news:
            self.save()

    def failed(self) -> None:
        """A query failed."""
        with self._changed:
            self._state = self._state.failed(now=self._clock())
        self.save()

    def save(self) -> None:
        """Remember it for the next process."""
        with self._changed:
            text, self._saved_at = self._state.to_json(), self._clock()
            phase = self._state.breaker.phase(self._saved_at)
        telemetry.record("radlake.breaker", _BREAKER[phase], hospital=self._hospital_id)
        values = {"state": text, "updated_at": datetime.fromtimestamp(self._saved_at, UTC).replace(tzinfo=None)}
        where = NODE_STATE.c.hospital_id == self._hospital_id
        with self._ledger.writing() as connection:
            if not connection.execute(NODE_STATE.update().where(where).values(**values)).rowcount:
                connection.execute(NODE_STATE.insert().values(hospital_id=self._hospital_id, **values))

    def at_rest(self, may: Allowed) -> NodeAtRest:
        until = datetime.fromtimestamp(may.from_, UTC)
        return NodeAtRest(node=self._node, until=f"{until:%Y-%m-%d %H:%M} UTC", reason=may.why, until_at=until)


def load_states(ledger: Ledger, hospital_id: str | None = None) -> dict[str, NodeState]:
    """What is remembered of the nodes, of all of them or of one, by hospital."""
    query = sa.select(NODE_STATE.c.hospital_id, NODE_STATE.c.state)
    if hospital_id is not None:
        query = query.where(NODE_STATE.c.hospital_id == hospital_id)
    with ledger.reading() as connection:
        return {name: state_from_json(text) for name, text in connection.execute(query)}
