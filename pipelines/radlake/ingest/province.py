"""All hospitals of a province, some at a time, who is next by the slack before the 12-hour rule.

Deciding the order is done in `harvest.schedule`; a run of one hospital in `run`. A turn is a slice of time: whoever has
more waiting gets another one when it is the next again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from queue import SimpleQueue

from radlake.config import Settings
from radlake.errors import RadlakeError, WorkersLost
from radlake.harvest.board import HISTORY_DAYS
from radlake.harvest.courtesy import NodeState, allowed, load_states, week_of
from radlake.harvest.schedule import Turn, harvest_seconds, ordered
from radlake.ingest.batch import roll_all_forward
from radlake.ingest.progress import Progress, never, silent
from radlake.ingest.run import harvest_hospital
from radlake.ingest.summary import HarvestSummary
from radlake.ingest.together import Together, together
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.lake.study_times import Waiting, waiting_studies
from radlake.machine import utc_now
from radlake.net import DimseNode, FolderNode, Hospital, NodeClient, PushNode, WebNode, Window
from radlake.vault.lake_key import open_ledger

__all__ = ["Told", "harvest_province", "turn_of"]

SLICE_SECONDS = 900.0
_LOOK_SECONDS = 600.0
_GLANCE_SECONDS = 5.0  # from one look at the ledger to the next
_TICK = 1.0

Converse = Callable[[Hospital], AbstractContextManager[NodeClient | None]]


@dataclass(frozen=True)
class Told:
    """What came of one turn; with an error the summary, if there is one, counts what came all the same."""

    hospital_id: str
    summary: HarvestSummary | None
    error: BaseException | None


@dataclass
class _Asking:
    """Who is asked at the moment, and what became of the others.

    Attributes
    ----------
    busy : set of str
        Hospitals that are asked, or whose batch is not published yet.
    done : set of str
        Hospitals whose last turn failed or left nothing.
    """

    busy: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    ended_at: dict[str, float] = field(default_factory=dict)

    def heard(self, told: Told) -> None:
        """A turn has ended."""
        name = told.hospital_id
        self.busy.discard(name)
        self.ended_at[name] = time.time()
        if told.error is not None or (told.summary and not told.summary.studies_left):
            self.done.add(name)
        else:
            self.done.discard(name)

    def is_resting(self, name: str, *, now: float) -> bool:
        """Whether the hospital failed a moment ago, or sent what it had to send."""
        return name in self.done and now - self.ended_at.get(name, 0.0) < _LOOK_SECONDS


def harvest_province(
    settings: Settings,
    hospitals: Mapping[str, Hospital],
    *,
    window: Callable[[], Window],
    at_once: int,
    executor: Executor,
    is_once: bool,
    tell: Callable[[Told], None],
    progress: Callable[[Progress], None] = silent,
    converse: Converse = lambda _: nullcontext(),
    should_stop: Callable[[], bool] = never,
) -> None:
    """Harvest hospitals, `at_once` at a time and published together, until it is told to stop.

    Parameters
    ----------
    window : callable
        The study dates that are asked for, at each turn.
    is_once : bool
        End when each hospital had a turn that left nothing, failed, or found its node at rest.
    tell : callable
        Told of each turn when its batch is published, from the thread that called.
    converse : callable
        How to talk to a hospital, where it is not by its node.
    should_stop : callable
        Once it says True no other turn begins, and those under way end after their current study.

    Raises
    ------
    WorkersLost
        If the workers are gone: no other hospital would fare better.
    """
    asked = {name: hospital for name, hospital in hospitals.items() if not isinstance(hospital.node, PushNode)}
    asking, news = _Asking(), SimpleQueue[Told]()
    is_over = threading.Event()

    def hear() -> int:
        """Tell what has come; how much that was."""
        n_heard = 0
        while not news.empty():
            told = news.get()
            n_heard += 1
            asking.heard(told)
            tell(told)
            if told.error is not None and not _goes_on(told.error):
                raise told.error
        return n_heard

    with closing(open_ledger(settings)) as ledger:
        roll_all_forward(Lake.from_settings(settings), ledger, now=utc_now())
    try:
        with (
            together(settings, tell=lambda done, error: news.put(Told(done.hospital_id, done, error))) as shared,
            ThreadPoolExecutor(at_once, thread_name_prefix="hospital") as threads,
        ):
            try:
                harvest = partial(
                    _harvest,
                    settings,
                    shared=shared,
                    executor=executor,
                    tell=news.put,
                    progress=progress,
                    is_over=is_over,
                )
                running: set[Future[None]] = set()
                turns: list[Turn] = []
                look_at = 0.0
                while not should_stop():
                    if len(running) < at_once and time.time() >= look_at:
                        look_at = time.time() + _GLANCE_SECONDS
                        free = {name: one for name, one in asked.items() if name not in asking.busy}
                        turns = _next(shared.ledger, free, asking, is_once=is_once)
                        if is_once and not asking.busy and not free.keys() - asking.done:
                            return
                    while turns and len(running) < at_once:
                        name = turns.pop(0).hospital_id
                        asking.busy.add(name)
                        running.add(threads.submit(harvest, asked[name], window=window(), converse=converse))
                    _, running = wait(running, timeout=_TICK, return_when=FIRST_COMPLETED)
                    shared.publish_late(is_idle=not running)
                    if hear():
                        look_at = 0.0 if not running else look_at
                    elif not running:
                        time.sleep(_TICK)
            finally:
                is_over.set()  # each run ends in order when what is under way has arrived
    finally:
        hear()


def _goes_on(error: BaseException) -> bool:
    """Whether the other hospitals may fare better."""
    return isinstance(error, RadlakeError) and not isinstance(error, WorkersLost)


def turn_of(hospital: Hospital, state: NodeState, waiting: Waiting | None, *, now: float) -> Turn:
    """The turn that a hospital could have; what is not known yet may be as old as the last look at the node."""
    seen = _unix(waiting.oldest_at) if waiting else now
    oldest_at = min(seen, state.looked_at or now - 24 * 3600)
    if not isinstance(hospital.node, (DimseNode, WebNode)):
        return Turn(hospital.hospital_id, oldest_at, 0.0)
    week = week_of(hospital.node)
    may = allowed(state, week, now=now)
    seconds = harvest_seconds(state, week, n_waiting=waiting.n if waiting else 0, now=now)
    return Turn(hospital.hospital_id, oldest_at, seconds, 0.0 if may.places else may.from_)


def _next(ledger: Ledger, hospitals: Mapping[str, Hospital], asking: _Asking, *, is_once: bool) -> list[Turn]:
    now, states = time.time(), load_states(ledger)
    if is_once:
        asking.done |= _at_rest(states, hospitals, now=now)
    since = datetime.fromtimestamp(now, UTC).replace(tzinfo=None) - timedelta(days=HISTORY_DAYS)
    known = waiting_studies(ledger, since=since)
    turns = []
    for name, hospital in hospitals.items():
        state = states.get(name, NodeState())
        if not (name in asking.done if is_once else asking.is_resting(name, now=now)):
            turns.append(turn_of(hospital, state, known.get(name), now=now))
    return ordered(turns, now=now)


def _at_rest(states: Mapping[str, NodeState], hospitals: Mapping[str, Hospital], *, now: float) -> set[str]:
    """Hospitals whose nodes are left in peace for longer than a turn."""
    resting = set()
    for name, hospital in hospitals.items():
        if isinstance(hospital.node, (DimseNode, WebNode)):
            may = allowed(states.get(name, NodeState()), week_of(hospital.node), now=now)
            if not may.places and may.from_ > now + SLICE_SECONDS:
                resting.add(name)
    return resting


def _harvest(
    settings: Settings,
    hospital: Hospital,
    *,
    window: Window,
    shared: Together,
    executor: Executor,
    tell: Callable[[Told], None],
    progress: Callable[[Progress], None],
    converse: Converse,
    is_over: threading.Event,
) -> None:
    """One turn; unless it is told with its batch, it is told here."""
    until = time.monotonic() + SLICE_SECONDS
    try:
        with converse(hospital) as client:
            summary = harvest_hospital(
                settings,
                hospital,
                window=window,
                client=client,
                executor=executor,
                progress=progress,
                should_yield=lambda: is_over.is_set() or time.monotonic() > until,
                shared=shared,
            )
    except Exception as exc:  # raised by who hears of it
        tell(Told(hospital.hospital_id, None, exc))
    else:
        if isinstance(hospital.node, FolderNode):
            tell(Told(hospital.hospital_id, summary, None))


def _unix(value: datetime) -> float:
    return value.replace(tzinfo=UTC).timestamp()
