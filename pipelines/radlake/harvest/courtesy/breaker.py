"""The circuit breaker: a node that fails again and again is left in peace for longer and longer.

After Nygard, Release It!: closed (asked), open (left in peace), half-open (one study to see). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

__all__ = ["FAILURES_IN_A_ROW", "Breaker", "Phase"]

FAILURES_IN_A_ROW = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 3600.0  # seconds; each is twice the one before


class Phase(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """Failures of a node, and how long it rests for them.

    Attributes
    ----------
    n_failed : int
        Studies or queries that failed in a row.
    n_unfinished : int
        Runs in a row that began and did not live to succeed or to end in order: a crash loop hammers a node too.
    n_opened : int
        Pauses in a row without a success between them.
    until : float
        End of the last pause.
    """

    n_failed: int = 0
    n_unfinished: int = 0
    n_opened: int = 0
    until: float = 0.0

    def phase(self, now: float) -> Phase:
        if self.n_opened == 0:
            return Phase.CLOSED
        return Phase.OPEN if now < self.until else Phase.HALF_OPEN

    def begun(self, now: float) -> Breaker:
        """A run begins to talk to the node."""
        if self.n_unfinished >= FAILURES_IN_A_ROW and self.phase(now) is not Phase.OPEN:
            return replace(self._open(now), n_unfinished=FAILURES_IN_A_ROW)
        return replace(self, n_unfinished=self.n_unfinished + 1)

    def ended(self) -> Breaker:
        """It ends in order, well or not."""
        return replace(self, n_unfinished=0)

    def failed(self, now: float) -> Breaker:
        """A study or a query failed; those that were under way when it opened say nothing new."""
        phase = self.phase(now)
        if phase is Phase.OPEN:
            return self
        if phase is Phase.HALF_OPEN or self.n_failed + 1 >= FAILURES_IN_A_ROW:
            return self._open(now)
        return replace(self, n_failed=self.n_failed + 1)

    def succeeded(self) -> Breaker:
        """A study came."""
        return Breaker()

    def _open(self, now: float) -> Breaker:
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self.n_opened, 16))
        return Breaker(n_unfinished=self.n_unfinished, n_opened=self.n_opened + 1, until=now + pause)
