"""Load: a province of 1,578 hospitals on a virtual clock, with the real scheduler, calendars and throttle.

30 million instances a day, 507 MB/s on average (48 PB in 3 years), a daily curve with two peaks, fewer exams at
weekends, hospitals that forbid or halve their working hours, and nodes that become slow in the busiest ones.
Nothing moves over a wire: a study takes its bytes over the line of its hospital, slowed by the load of its clinic, and
our own line is shared by all that is under way. The peer is a night window with a fixed number of associations, first
come first served, as most sites have it.
"""

from __future__ import annotations

import heapq
import math
import random
import time
from bisect import bisect
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from bench.measure import Place

__all__ = ["Report", "main", "simulate"]

_HOSPITALS, _INSTANCES_A_DAY, _BYTES_A_SECOND = 1578, 30_000_000, 507e6
_STUDY_INSTANCES = 205  # an exam, see founding figures
_DAYS = 4
_LINE = 2.0 * _BYTES_A_SECOND  # ours
_AT_ONCE = 400  # hospitals
_LOOK_EVERY = 900.0  # seconds
_SLICE = 900.0
_HOUR = 3600.0
_START = datetime(2026, 3, 5, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp()  # a Thursday: the weekend is in it
# Exams by hour of the day: clinics from 8 to 17 with a dip at noon, and emergencies.
_CURVE = (1, 1, 1, 1, 1, 1, 2, 4, 10, 12, 12, 9, 5, 8, 11, 11, 9, 6, 3, 3, 2, 2, 1, 1)
_WEEKEND = 0.55


@dataclass
class Report:
    """What came of it.

    Attributes
    ----------
    lags : list of float
        Hours from the exam to the platform, of every study that was due within the time simulated.
    jain : float
        Of the mean lags of the hospitals that may be asked at any hour: who is treated alike should wait alike.
    served : float
        Jain's index of what each hospital got of what it had, bytes by bytes.
    """

    lags: list[float] = field(default_factory=list)
    n_late: int = 0
    n_waiting: int = 0
    jain: float = 0.0
    served: float = 0.0
    n_lowered: int = 0
    n_bytes: float = 0.0
    seconds: float = 0.0

    def percentile(self, share: float) -> float:
        return self.lags[max(0, math.ceil(share * len(self.lags)) - 1)] if self.lags else math.nan


@dataclass
class _Hospital:
    name: str
    week: Any
    state: Any
    rate: float  # bytes a second over its line, by one association
    is_open: bool  # at any hour
    arrivals: list[float]
    sizes: list[float]
    n_known: int = 0  # listed by the node
    waiting: deque[int] = field(default_factory=deque)
    n_busy: int = 0
    has_turn: bool = False
    until: float = 0.0
    looked_at: float = 0.0
    cooling: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    got: float = 0.0


def main(place: Place, *, scale: float) -> None:  # noqa: ARG001 - nothing is written
    """All 1,578 hospitals for four days at scale 1; fewer of them, with the line in proportion, below."""
    n = max(20, round(_HOSPITALS * scale))
    share = n / _HOSPITALS
    print(f"{n:,} hospitals, {_INSTANCES_A_DAY * share:,.0f} instances a day, {_BYTES_A_SECOND * share / 1e6:.0f} MB/s "
          f"on average, {_DAYS} days of a virtual clock, our line {_LINE * share / 1e6:.0f} MB/s")  # fmt: skip
    print(f"{'':34}{'studies':>9}{'p50 h':>7}{'p95 h':>7}{'p99 h':>7}{'p100 h':>8}{'late':>8}{'in 12 h':>9}"
          f"{'Jain lag':>10}{'Jain got':>10}{'wall s':>8}")  # fmt: skip
    for title, policy in (("radlake: slack, calendar, throttle", "slack"), ("night window, first come", "night")):
        report = simulate(n_hospitals=n, seed=7, policy=policy)
        in_time = 1 - report.n_late / len(report.lags)
        print(f"{title:<34}{len(report.lags):>9,}{report.percentile(0.5):>7.2f}{report.percentile(0.95):>7.2f}"
              f"{report.percentile(0.99):>7.2f}{report.percentile(1):>8.2f}{report.n_late:>8,}{in_time:>9.2%}"
              f"{report.jain:>10.3f}{report.served:>10.4f}{report.seconds:>8.0f}")  # fmt: skip
        if policy == "slack":
            print(f"  the throttle lowered a node {report.n_lowered:,} times; {report.n_bytes / 1e12:.1f} TB came; "
                  f"{report.n_waiting:,} studies of the last 12 hours were still waiting")  # fmt: skip


def simulate(*, n_hospitals: int, seed: int, policy: str, days: float = _DAYS) -> Report:
    """Run the province; `policy` is `slack` (ours) or `night` (18:00 to 8:00, two associations, first come)."""
    return _Province(n_hospitals, seed=seed, policy=policy, end=_START + days * 24 * _HOUR).run()


class _Province:
    def __init__(self, n_hospitals: int, *, seed: int, policy: str, end: float) -> None:
        self.rng = random.Random(seed)
        self.end = end
        self.is_ours = policy == "slack"
        share = n_hospitals / _HOSPITALS
        self.line = _LINE * share
        self.at_once = max(8, round(_AT_ONCE * share))
        self.hospitals = self._make(n_hospitals, n_studies=_INSTANCES_A_DAY * share / _STUDY_INSTANCES)
        self.events: list[tuple[float, int, str, Any]] = []
        self.n_events = 0
        self.n_turns = 0
        self.flowing = 0.0  # bytes a second that are under way
        self.report = Report()

    def _make(self, n_hospitals: int, *, n_studies: float) -> list[_Hospital]:
        """Sizes of hospitals are log-normal: a few of level 3A have most of the exams."""
        from radlake.harvest.courtesy import NodeState, week_of
        from radlake.net import DimseNode

        rng = self.rng
        weights = [rng.lognormvariate(0, 1.0) for _ in range(n_hospitals)]
        all_weights = sum(weights)
        mean_study = _BYTES_A_SECOND / _INSTANCES_A_DAY * 86_400 * _STUDY_INSTANCES
        hospitals = []
        for n, weight in enumerate(weights):
            a_day = n_studies * weight / all_weights
            most = 2 if a_day < 150 else 4 if a_day < 600 else 8
            kind = rng.random()
            calendar: list[dict[str, Any]] = []
            if not self.is_ours:
                calendar, most = [{"hours": "8-18", "associations": 0}], 2
            elif kind < 0.15:
                calendar = [{"days": "mon-fri", "hours": "8-12", "associations": 0}]
            elif kind < 0.50:
                calendar = [{"days": "mon-fri", "hours": "8-17", "associations": max(1, most // 2)}]
            node = DimseNode.model_validate(
                {"ae_title": "A", "host": "h", "max_associations": most, "courtesy": {"calendar": calendar}}
            )
            arrivals = self._arrivals(a_day)
            sizes = [rng.lognormvariate(math.log(mean_study) - 0.5, 1.0) for _ in arrivals]
            # The line of a hospital is made for what it sends: 3 to 10 times its mean.
            rate = max(3e6, rng.uniform(3, 10) * a_day * mean_study / 86_400 / most)
            is_open = not (calendar and self.is_ours)
            hospitals.append(_Hospital(f"h{n:04}", week_of(node), NodeState(), rate, is_open, arrivals, sizes,
                                       looked_at=_START))  # fmt: skip
        return hospitals

    def _arrivals(self, a_day: float) -> list[float]:
        """Instants at which exams end: a Poisson process with the daily curve, less at weekends (by thinning)."""
        mean, top = sum(_CURVE) / 24 * (5 + 2 * _WEEKEND) / 7, max(_CURVE)
        rate = a_day / 86_400 * top / mean
        found, at = [], _START
        while (at := at + self.rng.expovariate(rate)) < self.end:
            hour = int((at - _START) // _HOUR) % 24
            day = int((at - _START) // 86_400)  # 0 is Thursday
            weight = _CURVE[hour] * (_WEEKEND if day % 7 in (2, 3) else 1.0)
            if self.rng.random() * top < weight:
                found.append(at)
        return found

    def push(self, at: float, what: str, who: Any) -> None:
        self.n_events += 1
        heapq.heappush(self.events, (at, self.n_events, what, who))

    def run(self) -> Report:
        begin = time.monotonic()
        self.push(_START, "plan", None)
        while self.events:
            now, _, what, who = heapq.heappop(self.events)
            if now > self.end:
                break
            if what == "plan":
                self._plan(now)
                self.push(now + 30.0, "plan", None)
            elif what == "done":
                self._done(*who, now=now)
            else:
                self._work(who, now=now)
        return self._tell(time.monotonic() - begin)

    def _plan(self, now: float) -> None:
        """Give the free turns to those whose turn it is."""
        from radlake.harvest.courtesy import allowed
        from radlake.harvest.schedule import Turn, harvest_seconds, ordered

        turns = []
        for number, hospital in enumerate(self.hospitals):
            if hospital.has_turn or (now - hospital.looked_at < _LOOK_EVERY and not hospital.waiting):
                continue
            oldest = hospital.arrivals[hospital.waiting[0]] if hospital.waiting else hospital.looked_at
            unknown = (now - hospital.looked_at) * len(hospital.arrivals) / (self.end - _START)
            seconds = harvest_seconds(hospital.state, hospital.week, n_waiting=len(hospital.waiting) + unknown, now=now)
            may = allowed(hospital.state, hospital.week, now=now)
            rests_until = 0.0 if may.places else may.from_
            turns.append((Turn(hospital.name, oldest, seconds, rests_until), number))
        by_name = {turn.hospital_id: number for turn, number in turns}
        if self.is_ours:
            queue = ordered((turn for turn, _ in turns), now=now)
        else:
            queue = [turn for turn, _ in turns if turn.not_before <= now]
            self.rng.shuffle(queue)
        for turn in queue[: self.at_once - self.n_turns]:
            hospital = self.hospitals[by_name[turn.hospital_id]]
            hospital.has_turn, hospital.until = True, now + _SLICE
            self.n_turns += 1
            self._look(hospital, now=now)
            self._work(hospital, now=now)

    def _look(self, hospital: _Hospital, *, now: float) -> None:
        n = bisect(hospital.arrivals, now)
        hospital.waiting.extend(range(hospital.n_known, n))
        hospital.n_known, hospital.looked_at = n, now
        self._feel(hospital, "find", 0.2, now=now)

    def _feel(self, hospital: _Hospital, kind: str, usual: float, *, now: float) -> None:
        """The node lets us wait: longer when its clinic is busy, and longer by what we ask of it."""
        from radlake.net.signals import Signal, SignalKind

        wait = usual * self._slowness(hospital, now) * self.rng.lognormvariate(0, 0.2)
        before = hospital.state.throttle.share
        hospital.state = hospital.state.felt(Signal(SignalKind(kind), wait), factor=2.0, now=now)
        self.report.n_lowered += hospital.state.throttle.share < before

    def _slowness(self, hospital: _Hospital, now: float) -> float:
        hour = (now - _START) / _HOUR % 24
        clinic = _CURVE[int(hour)] / max(_CURVE)
        return 1 + 1.5 * clinic * (0.3 + hospital.n_busy / 4)

    def _work(self, hospital: _Hospital, *, now: float) -> None:
        """Begin as many studies as the courtesy allows; end the turn when nothing is left or its time is over."""
        from radlake.harvest.courtesy import allowed

        is_over = now >= hospital.until or not hospital.waiting
        while not is_over:
            may = allowed(hospital.state, hospital.week, now=now)
            hospital.cooling = [until for until in hospital.cooling if until > now]
            if may.places == 0:
                is_over = True
            elif may.from_ > now:
                self.push(may.from_, "work", hospital)
                break
            elif hospital.n_busy + len(hospital.cooling) >= (may.places if self.is_ours else 2):
                if not hospital.n_busy:
                    self.push(min(hospital.cooling), "work", hospital)
                break
            else:
                self._begin(hospital, may, now=now)
                is_over = not hospital.waiting
        if is_over and not hospital.n_busy and hospital.has_turn:
            hospital.has_turn = False
            self.n_turns -= 1

    def _begin(self, hospital: _Hospital, may: Any, *, now: float) -> None:
        number = hospital.waiting.popleft()
        hospital.n_busy += 1
        if self.is_ours:
            hospital.state = hospital.state.began(may, now=now)
        self._feel(hospital, "first_byte", 0.5, now=now)
        rate = hospital.rate / (1 + 0.5 * (self._slowness(hospital, now) - 1))
        self.flowing += rate
        rate_got = rate / max(1.0, self.flowing / self.line)
        seconds = 2.0 + hospital.sizes[number] / rate_got
        self.push(now + seconds, "done", (hospital, number, rate, now))

    def _done(self, hospital: _Hospital, number: int, rate: float, begun: float, *, now: float) -> None:
        from radlake.harvest.courtesy import allowed

        self.flowing -= rate
        hospital.n_busy -= 1
        hospital.got += hospital.sizes[number]
        hospital.lags.append((now - hospital.arrivals[number]) / _HOUR)
        hospital.state = hospital.state.succeeded(seconds=now - begun)
        may = allowed(hospital.state, hospital.week, now=now)
        if self.is_ours and may.places and (pause := may.cooling(now - begun)):
            hospital.cooling.append(now + pause)
        self._work(hospital, now=now)

    def _tell(self, seconds: float) -> Report:
        """Studies of the last 12 hours that wait still are not late yet; all others that wait are."""
        report = self.report
        report.seconds = seconds
        means, got = [], []
        for hospital in self.hospitals:
            lags = list(hospital.lags)
            n_done = len(lags)
            unserved = [hospital.arrivals[n] for n in hospital.waiting] + hospital.arrivals[hospital.n_known :]
            overdue = [at for at in unserved if at + 12 * _HOUR < self.end]
            lags += [(self.end - at) / _HOUR for at in overdue]
            report.n_waiting += len(unserved) - len(overdue)
            report.lags += lags
            report.n_bytes += hospital.got
            if n_done and hospital.is_open:
                means.append(sum(lags) / len(lags))
            due = sum(size for at, size in zip(hospital.arrivals, hospital.sizes, strict=True)
                      if at + 12 * _HOUR < self.end)  # fmt: skip
            if due:
                got.append(min(1.0, hospital.got / due))
        from radlake.harvest.schedule import jain_index

        report.lags.sort()
        report.n_late = len(report.lags) - bisect(report.lags, 12.0)
        report.jain, report.served = jain_index(means), jain_index(got)
        return report
