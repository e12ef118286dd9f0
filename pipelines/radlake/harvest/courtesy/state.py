"""All that decides how a node is treated, as one value, and what it allows at an instant. Pure.

The value survives a restart: a process that dies and comes back treats the node as before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from radlake.harvest.courtesy.breaker import Breaker, Phase
from radlake.harvest.courtesy.throttle import Throttle
from radlake.harvest.courtesy.waiting_time import WaitingTime
from radlake.harvest.courtesy.week import Week
from radlake.net.signals import Signal

__all__ = ["Allowed", "NodeState", "allowed", "state_from_json", "visit_allowed"]

_LONGEST_COOLING = 120.0  # seconds that a place stays empty after a study


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a node may be asked for now.

    Attributes
    ----------
    places : int
        Studies at once; 0 while the node rests.
    load : float
        The same with fractions: 0.5 of one place is that place half of the time.
    studies_per_hour : float
        Begun at most; infinite without a limit.
    from_ : float
        When the next study may begin; now, if not later.
    why : str
        What is waited for, when it is later.
    """

    places: int
    load: float
    studies_per_hour: float
    from_: float
    why: str = ""

    def cooling(self, seconds: float) -> float:
        """For how long the place of a study that took so many seconds stays empty."""
        return min(_LONGEST_COOLING, seconds * (self.places / self.load - 1)) if self.load else 0.0


@dataclass(frozen=True, slots=True)
class NodeState:
    """What is known of a node.

    Attributes
    ----------
    next_at : float
        When the next study may begin by the calendar's studies per hour.
    study_seconds : float
        How long a study usually takes; 0 while none came.
    looked_at : float
        When the node last listed its studies.
    visit_at : float
        When somebody may ask for one study beside a run again: the place of the last one stays empty until then.
    """

    throttle: Throttle = field(default_factory=Throttle)
    breaker: Breaker = field(default_factory=Breaker)
    next_at: float = 0.0
    study_seconds: float = 0.0
    looked_at: float = 0.0
    visit_at: float = 0.0

    def felt(self, signal: Signal, *, factor: float, now: float) -> NodeState:
        return replace(self, throttle=self.throttle.after(signal, factor=factor, now=now))

    def began(self, may: Allowed, *, now: float) -> NodeState:
        """A study begins."""
        pace = 3600 / may.studies_per_hour  # 0 without a limit
        return replace(self, next_at=max(self.next_at, now) + pace) if pace else self

    def succeeded(self, *, seconds: float) -> NodeState:
        """A study came, and took so long."""
        known = self.study_seconds
        return replace(
            self,
            breaker=self.breaker.succeeded(),
            study_seconds=known + (seconds - known) / 16 if known else seconds,
        )

    def visited(self, *, pause: float, now: float) -> NodeState:
        """What somebody asked for beside a run came; it tells nothing of how long a whole study takes."""
        return replace(self, breaker=self.breaker.succeeded(), visit_at=now + pause)

    def failed(self, *, now: float) -> NodeState:
        return replace(self, breaker=self.breaker.failed(now))

    def run_began(self, *, now: float) -> NodeState:
        return replace(self, breaker=self.breaker.begun(now))

    def run_ended(self, *, is_well: bool) -> NodeState:
        """It ends in order; it is well when nothing failed, also when nothing was to be fetched."""
        return replace(self, breaker=self.breaker.succeeded() if is_well else self.breaker.ended())

    def looked(self, *, now: float) -> NodeState:
        """The node listed its studies."""
        return replace(self, looked_at=now)

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))


def allowed(state: NodeState, week: Week, *, now: float) -> Allowed:
    """Decide: calendar, then breaker, then what the node asked for, then the throttle's share."""
    breaker, throttle = state.breaker, state.throttle
    slot = week.at(now)
    if slot.is_rest:
        return Allowed(0, 0.0, 0.0, week.opens_at(now), "its calendar says: do not disturb")
    phase = breaker.phase(now)
    if phase is Phase.OPEN:
        return Allowed(0, 0.0, 0.0, breaker.until, "it failed several times in a row")
    load = 1.0 if phase is Phase.HALF_OPEN else slot.associations * throttle.share
    per_hour = math.inf if slot.studies_per_hour is None else slot.studies_per_hour * throttle.share
    if throttle.away_until > now:
        return Allowed(0, 0.0, 0.0, throttle.away_until, "it asked us to slow down")
    if slot.studies_per_hour is not None and state.next_at > now:
        return Allowed(math.ceil(load), load, per_hour, state.next_at, "its calendar limits the studies of an hour")
    return Allowed(math.ceil(load), load, per_hour, now)


def visit_allowed(state: NodeState, week: Week, *, now: float) -> Allowed:
    """The same for somebody who wants one study beside a run."""
    may = allowed(state, week, now=now)
    if may.from_ <= now < state.visit_at:
        return replace(may, from_=state.visit_at, why="it answers slowly, and was asked a moment ago")
    return may


def state_from_json(text: str) -> NodeState:
    """Read what `to_json` wrote; what another version wrote and is not understood begins anew."""
    try:
        return _state(json.loads(text))
    except (ValueError, TypeError, KeyError):
        return NodeState()


def _state(given: Mapping[str, Any]) -> NodeState:
    throttle = dict(given["throttle"])
    for name in ("find", "first_byte"):
        throttle[name] = WaitingTime(**{**throttle[name], "recent": tuple(throttle[name]["recent"])})
    return NodeState(**{**given, "throttle": Throttle(**throttle), "breaker": Breaker(**given["breaker"])})
