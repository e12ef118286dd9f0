"""The throttle: additive increase, multiplicative decrease of our share of what the calendar allows.

After Chiu and Jain, Analysis of the increase and decrease algorithms for congestion avoidance in computer networks
(Computer Networks and ISDN Systems 17, 1989): the pair that comes to rest at a fair share. Pure; time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from radlake.harvest.courtesy.waiting_time import WaitingTime
from radlake.net.signals import Signal, SignalKind

__all__ = ["LEAST_SHARE", "Throttle"]

LEAST_SHARE = 1 / 16
_DECREASE = 0.5
_HOLD = 10.0  # seconds: the signals of a decrease's own cause must not cause the next
_RISE = 150.0  # seconds of calm from nothing to all
_LONGEST_CALM = 10.0  # seconds that one good signal may speak for
_REFUSED, _LONGEST_REFUSED = 10.0, 3600.0  # seconds that we stay away when asked to


@dataclass(frozen=True, slots=True)
class Throttle:
    """How hard a node may be asked now.

    Attributes
    ----------
    share : float
        Of what the calendar allows, above 0 and at most 1.
    lowered_at, felt_at : float
        Of the last decrease and of the last signal.
    away_until : float
        The node asked us to stay away until then.
    """

    share: float = 1.0
    lowered_at: float = 0.0
    felt_at: float = 0.0
    away_until: float = 0.0
    find: WaitingTime = field(default_factory=WaitingTime)
    first_byte: WaitingTime = field(default_factory=WaitingTime)

    def after(self, signal: Signal, *, factor: float, now: float) -> Throttle:
        """What is allowed after a signal; `factor` is the node's `slow_factor`."""
        if signal.kind is SignalKind.REFUSED:
            seconds = min(signal.seconds or _REFUSED, _LONGEST_REFUSED)
            return replace(self._lower(now), away_until=max(self.away_until, now + seconds), felt_at=now)
        if signal.kind is SignalKind.FIND:
            felt = replace(self, find=self.find.after(signal.seconds, factor=factor))
        else:
            felt = replace(self, first_byte=self.first_byte.after(signal.seconds, factor=factor))
        if felt.find.is_slow(factor=factor) or felt.first_byte.is_slow(factor=factor):
            return replace(felt._lower(now), felt_at=now)
        calm = min(max(0.0, now - max(self.felt_at, self.lowered_at)), _LONGEST_CALM)
        return replace(felt, share=min(1.0, self.share + calm / _RISE), felt_at=now)

    def _lower(self, now: float) -> Throttle:
        if now - self.lowered_at < _HOLD:
            return self
        return replace(self, share=max(LEAST_SHARE, self.share * _DECREASE), lowered_at=now)
