"""Looks at what was received and told, closes studies, and ingests them: one thread, which asks nodes in others.

When a study is closed is decided in `closing`; here the evidence is brought together and acted upon.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from radlake.commit_points import reached
from radlake.config import Settings
from radlake.errors import RadlakeError, TransientError
from radlake.ingest import HarvestSummary, ReceivedStudy, ingest_received
from radlake.lake.evidence import StudyEntry, StudyState
from radlake.lake.ledger import Ledger
from radlake.lake.pushed import PushRecords
from radlake.log import get_logger
from radlake.machine import utc_now
from radlake.net import Hospital, Window, connect
from radlake.net.push import CloseRule
from radlake.receive.closing import Evidence, Verdict, decide, seconds_to_next_question
from radlake.receive.spool import Closed, PushSpool

__all__ = ["Closer"]

_BATCH_STUDIES = 200
_MOST_QUESTIONS = 16  # about a study whose node does not settle it: three days and more
_WATCHED_DAYS = 7
_ASKING = 4  # nodes at a time; one question to each
_AN_INSTANT = 1e-3  # of silence: nothing is under way
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 600.0  # seconds after a failed ingest of a hospital

Key = tuple[str, str]  # hospital, Study Instance UID
log = get_logger()


@dataclass
class _Watch:
    """What is remembered of a study between two looks; times in monotonic seconds."""

    touched: float  # when something of it was told last
    look_at: float = 0.0  # nothing changes before, unless something comes or is told
    has_notice: bool = False
    n_seen: int = -1  # instances that waited at the last look
    n_asked: int = 0
    answer: Future[tuple[frozenset[str] | None, int | None]] | None = None
    listed: frozenset[str] | None = None
    n_listed: int | None = None


@dataclass
class _Pause:
    until: float = 0.0
    seconds: float = 0.0
    why: str = ""


class Closer:
    """Call `sweep` again and again; `told` may be called by any thread."""

    def __init__(
        self,
        settings: Settings,
        hospitals: Iterable[Hospital],
        spool: PushSpool,
        ledger: Ledger,
        *,
        executor: Executor | None,
    ) -> None:
        self._settings, self._spool, self._ledger, self._executor = settings, spool, ledger, executor
        self._hospitals: Mapping[str, Hospital] = {hospital.hospital_id: hospital for hospital in hospitals}
        self._records = PushRecords(ledger)
        self._asking = ThreadPoolExecutor(_ASKING, thread_name_prefix="ask-node")
        self._watches: dict[Key, _Watch] = {}
        self._told: set[Key] = set()
        self._lock = threading.Lock()
        self._pauses: dict[str, _Pause] = {}
        now = utc_now()
        for hospital_id, study_uid, active_at in self._records.doubtful(since=now - timedelta(days=_WATCHED_DAYS)):
            age = max(0.0, (now - active_at).total_seconds())
            self._watches[hospital_id, study_uid] = _Watch(time.monotonic() - age, has_notice=True)

    def told(self, hospital_id: str, study_uid: str) -> None:
        """A notice of this study was kept."""
        with self._lock:
            self._told.add((hospital_id, study_uid))

    def troubles(self) -> list[str]:
        """Hospitals whose studies cannot be ingested now, and why."""
        return [f"{name}: {pause.why}" for name, pause in sorted(self._pauses.items()) if pause.why]

    def close(self) -> None:
        self._asking.shutdown(wait=False, cancel_futures=True)

    def sweep(self) -> list[HarvestSummary]:
        """Look at every study once and ingest those that are closed."""
        now = time.monotonic()
        self._take_in(self._spool.n_waiting(), now)
        due: dict[str, list[tuple[Closed, ReceivedStudy]]] = {}
        for key, watch in list(self._watches.items()):
            hospital, batch = self._hospitals.get(key[0]), due.setdefault(key[0], [])
            if hospital is None or hospital.push is None or len(batch) == _BATCH_STUDIES:
                continue
            if now < self._pauses.get(key[0], _Pause()).until:
                continue
            if found := self._judge(key, watch, hospital, hospital.push.close, now):
                batch.append(found)
        summaries = [self._ingest(self._hospitals[name], batch) for name, batch in sorted(due.items()) if batch]
        return [summary for summary in summaries if summary]

    def _take_in(self, waiting: Mapping[Key, int], now: float) -> None:
        """Watch what is new, and forget answers that something came after."""
        with self._lock:
            told, self._told = self._told, set()
        for key in told:
            watch = self._watches.setdefault(key, _Watch(now))
            watch.touched, watch.look_at, watch.has_notice = now, 0.0, True
        for key, n_instances in waiting.items():
            watch = self._watches.setdefault(key, _Watch(now))
            if watch.n_seen == n_instances:
                continue
            if watch.n_seen < 0:
                self._open(key)
                watch.has_notice = bool(self._records.notices(*key))
            watch.n_seen, watch.n_asked, watch.look_at = n_instances, 0, 0.0
            watch.listed = watch.n_listed = None

    def _open(self, key: Key) -> None:
        """A study of which something came is being received, also when it was complete before."""
        self._ledger.discover(*key, study_date=None, n_expected=None, now=utc_now())
        self._ledger.begin(*key, now=utc_now())

    def _judge(
        self, key: Key, watch: _Watch, hospital: Hospital, rule: CloseRule, now: float
    ) -> tuple[Closed, ReceivedStudy] | None:
        """What is to be ingested of a study now; None when it is left alone."""
        self._hear(watch)
        if watch.answer is not None or now < watch.look_at:
            return None
        item = self._spool.waiting(*key)
        silent = item.seconds_silent if item else max(now - watch.touched, _AN_INSTANT)
        quiet_at = now + rule.quiet * 60 - silent
        if now < quiet_at and not watch.has_notice:
            watch.look_at = quiet_at
            return None
        entry = self._ledger.entry(*key)
        have = _have(entry) | (item.uids if item else frozenset())
        verdict = decide(
            Evidence(have, silent / 60, tuple(self._records.notices(*key)), watch.listed, watch.n_listed), rule=rule
        )
        if not verdict.is_closed:
            watch.look_at = quiet_at
        elif verdict.asks_node and watch.listed is None and watch.n_listed is None and self._may_ask(watch, hospital):
            watch.answer = self._asking.submit(self._ask, hospital, key[1], entry)
        elif item is not None or not self._is_settled(key, entry, verdict):
            closed = self._spool.close(*key)
            if closed is not None and have.issuperset(uid for _, uid in closed.files):  # else more came meanwhile
                return closed, ReceivedStudy(
                    key[1], closed.files, verdict.expected, verdict.n_expected, verdict.unverified
                )
        else:
            self._settled(key, watch, hospital, rule, unverified=verdict.unverified, now=now)
        return None

    def _settled(
        self, key: Key, watch: _Watch, hospital: Hospital, rule: CloseRule, *, unverified: str, now: float
    ) -> None:
        """Go on asking about a study that nobody vouches for, rarely; else a notice or an instance begins anew."""
        if unverified and rule.count and self._may_ask(watch, hospital):
            watch.touched, watch.n_seen, watch.listed, watch.n_listed = 0.0, -1, None, None
            watch.look_at = now + seconds_to_next_question(watch.n_asked, rule=rule)
        else:
            del self._watches[key]

    def _is_settled(self, key: Key, entry: StudyEntry | None, verdict: Verdict) -> bool:
        """Whether the ledger knows all this."""
        if entry is None or entry.state is StudyState.RETRIEVING or entry.state is StudyState.DISCOVERED:
            return False
        return (
            verdict.expected <= (entry.expected or frozenset())
            and (verdict.n_expected or 0) <= (entry.n_expected or 0)
            and verdict.unverified == self._records.unverified(*key)
        )

    def _may_ask(self, watch: _Watch, hospital: Hospital) -> bool:
        return hospital.node.kind in ("dimse", "dicomweb") and watch.n_asked < _MOST_QUESTIONS

    def _ask(
        self, hospital: Hospital, study_uid: str, entry: StudyEntry | None
    ) -> tuple[frozenset[str] | None, int | None]:
        """The node's list of a study, or its count; an empty list when it does not know it."""
        client = connect(hospital.node, ae_title=self._settings.ae_title, scp_port=None)
        if listed := client.find_instances(study_uid):
            return listed, None
        if entry is None or entry.study_date is None:
            return frozenset(), None
        found = client.find_studies(Window(entry.study_date, entry.study_date))
        n = next((study.n_instances for study in found if study.study_uid == study_uid), None)
        return (frozenset(), None) if n is None else (None, n)

    def _hear(self, watch: _Watch) -> None:
        """Take in what the node answered; what it does not know is an answer too."""
        if watch.answer is None or not watch.answer.done():
            return
        watch.listed, watch.n_listed = frozenset(), None
        try:
            watch.listed, watch.n_listed = watch.answer.result()
        except RadlakeError as exc:
            log.warning("node_not_asked", reason=type(exc).__name__)
        except Exception as exc:  # a node that breaks our client must not stop the others' studies
            log.error("node_not_asked", error_class=type(exc).__name__)
        watch.answer, watch.n_asked = None, watch.n_asked + 1

    def _ingest(self, hospital: Hospital, batch: list[tuple[Closed, ReceivedStudy]]) -> HarvestSummary | None:
        name, push = hospital.hospital_id, hospital.push
        try:
            summary = ingest_received(self._settings, hospital, [study for _, study in batch], executor=self._executor)
        except Exception as exc:  # whatever it is, the files stay and the other hospitals go on
            self._pause(name, exc)
            return None
        self._pauses.pop(name, None)
        reached("push.ingested")
        for closed, study in batch:
            self._spool.forget(closed)
            rule = push.close if push else CloseRule()
            self._settled(
                closed.key,
                self._watches[closed.key],
                hospital,
                rule,
                unverified=study.unverified,
                now=time.monotonic(),
            )
        log.info("pushed_studies_ingested", hospital=name, n_studies=len(batch), n_stored=summary.instances_stored)
        return summary

    def _pause(self, name: str, exc: Exception) -> None:
        pause = self._pauses.setdefault(name, _Pause())
        pause.seconds = min(max(2 * pause.seconds, _FIRST_PAUSE), _LONGEST_PAUSE)
        pause.until = time.monotonic() + pause.seconds
        pause.why = str(exc) if isinstance(exc, RadlakeError) else type(exc).__name__
        tell = log.warning if isinstance(exc, TransientError) else log.error
        tell("pushed_studies_wait", hospital=name, error_class=type(exc).__name__, seconds=pause.seconds)


def _have(entry: StudyEntry | None) -> frozenset[str]:
    if entry is None:
        return frozenset()
    return frozenset(entry.stored) | {aside.sop_uid for aside in entry.set_aside if aside.sop_uid}
