"""All hospitals of a province, some at a time, who is next by the slack before the 12-hour rule.

Deciding the order is done in `harvest.schedule`; a run of one hospital in `run`. A turn is a slice of time: whoever has
more waiting gets another one when it is the next again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from radlake.config import Settings
from radlake.errors import RadlakeError
from radlake.harvest.board import HISTORY_DAYS
from radlake.harvest.courtesy import NodeState, allowed, load_states, week_of
from radlake.harvest.schedule import Turn, harvest_seconds, ordered
from radlake.ingest.run import Progress, harvest_hospital
from radlake.ingest.summary import HarvestSummary
from radlake.lake.ledger import Ledger
from radlake.lake.study_times import StudyTimes, study_times
from radlake.machine import shanghai_day, utc_now
from radlake.net import DimseNode, Hospital, PushNode, WebNode, Window

__all__ = ["Told", "harvest_province", "turn_of"]

SLICE_SECONDS = 900.0
_LOOK_SECONDS = 600.0  # from one look at a node to the next
_GLANCE_SECONDS = 5.0  # from one look at the ledger to the next while nothing ends
_TICK = 1.0


@dataclass(frozen=True)
class Told:
    """What came of one turn: a summary or an error."""

    hospital_id: str
    summary: HarvestSummary | None
    error: RadlakeError | None


def harvest_province(
    settings: Settings,
    hospitals: Mapping[str, Hospital],
    *,
    at_once: int,
    look_back_days: int,
    executor: Executor,
    is_once: bool,
    tell: Callable[[Told], None],
    progress: Callable[[Progress], None],
) -> None:
    """Harvest hospitals, `at_once` at a time, until it is interrupted.

    Parameters
    ----------
    is_once : bool
        End when each hospital had a turn that left nothing, failed, or found its node at rest.
    tell : callable
        Told after each turn, from the thread that called.
    """
    asked = {name: hospital for name, hospital in hospitals.items() if not isinstance(hospital.node, PushNode)}
    done: set[str] = set()
    failed_at: dict[str, float] = {}
    running: dict[Future[Told], str] = {}
    is_over = threading.Event()
    look_at = 0.0
    with (
        closing(Ledger(settings.ledger)) as ledger,
        ThreadPoolExecutor(at_once, thread_name_prefix="hospital") as threads,
    ):
        try:
            while True:
                now, room = time.time(), at_once - len(running)
                turns: list[Turn] = []
                if room and now >= look_at:
                    look_at, states = now + _GLANCE_SECONDS, load_states(ledger)
                    free = {name: hospital for name, hospital in asked.items() if name not in running.values()}
                    if is_once:
                        free = {name: hospital for name, hospital in free.items() if name not in done}
                        done |= _at_rest(states, free, now=now)
                        if not running and not free.keys() - done:
                            return
                    turns = _next(ledger, states, free, failed_at=failed_at, now=now)[:room]
                for turn in turns:
                    until = time.monotonic() + SLICE_SECONDS

                    def should_yield(until: float = until) -> bool:
                        return is_over.is_set() or time.monotonic() > until

                    run = threads.submit(
                        _harvest,
                        settings,
                        asked[turn.hospital_id],
                        look_back_days=look_back_days,
                        executor=executor,
                        progress=progress,
                        should_yield=should_yield,
                    )
                    running[run] = turn.hospital_id
                finished, _ = wait(running, timeout=_TICK, return_when=FIRST_COMPLETED)
                for future in finished:
                    look_at = 0.0
                    name, told = running.pop(future), future.result()
                    if told.error is not None:
                        failed_at[name] = time.time()
                    if told.error is not None or (told.summary and not told.summary.studies_left):
                        done.add(name)
                    tell(told)
                if not running:
                    time.sleep(_TICK)
        except BaseException:
            is_over.set()  # each run ends in order when what is under way has arrived
            raise


def turn_of(
    hospital: Hospital, state: NodeState, waiting: list[StudyTimes], *, failed_at: float, now: float
) -> Turn | None:
    """The turn that a hospital could have; None when it was looked at just now and nothing waits.

    What is not known yet may be as old as the last look at the node.
    """
    seen = min((_unix(study.studied_at or study.discovered_at) for study in waiting), default=now)
    looked_at = max(state.looked_at, failed_at)
    if now - looked_at < _LOOK_SECONDS and (not waiting or failed_at):
        return None
    oldest_at = min(seen, state.looked_at or now - 24 * 3600)
    if not isinstance(hospital.node, (DimseNode, WebNode)):
        return Turn(hospital.hospital_id, oldest_at, 0.0)
    week = week_of(hospital.node)
    may = allowed(state, week, now=now)
    seconds = harvest_seconds(state, week, n_waiting=len(waiting), now=now)
    return Turn(hospital.hospital_id, oldest_at, seconds, 0.0 if may.places else may.from_)


def _next(
    ledger: Ledger,
    states: Mapping[str, NodeState],
    hospitals: Mapping[str, Hospital],
    *,
    failed_at: Mapping[str, float],
    now: float,
) -> list[Turn]:
    since = datetime.fromtimestamp(now, UTC).replace(tzinfo=None)
    known = study_times(ledger, since=since)
    recent = since - timedelta(days=HISTORY_DAYS)
    turns = []
    for name, hospital in hospitals.items():
        studies = (study for study in known.get(name, []) if study.completed_at is None)
        waiting = [study for study in studies if (study.studied_at or study.discovered_at) > recent]
        state = states.get(name, NodeState())
        turn = turn_of(hospital, state, waiting, failed_at=failed_at.get(name, 0.0), now=now)
        if turn is not None:
            turns.append(turn)
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
    look_back_days: int,
    executor: Executor,
    progress: Callable[[Progress], None],
    should_yield: Callable[[], bool],
) -> Told:
    today = shanghai_day(utc_now())
    window = Window(today - timedelta(days=look_back_days), today)
    try:
        summary = harvest_hospital(
            settings, hospital, window=window, executor=executor, progress=progress, should_yield=should_yield
        )
    except RadlakeError as exc:  # the other hospitals go on
        return Told(hospital.hospital_id, None, exc)
    return Told(hospital.hospital_id, summary, None)


def _unix(value: datetime) -> float:
    return value.replace(tzinfo=UTC).timestamp()
