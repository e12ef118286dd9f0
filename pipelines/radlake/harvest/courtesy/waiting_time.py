"""How long a node usually lets us wait, learned from itself, and whether it is slower than that now."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

__all__ = ["WaitingTime"]

_LEARNING = 8  # signals until there is an opinion
_SHORTEST = 0.001  # seconds; below it only our own machine is measured
_UNFELT = 0.25  # seconds; nobody at a workstation feels a node that answers within them
_SPREADS = 3.0
_WIDEST = math.log(8)  # of the spread: no node is so fickle that eight times its usual time is nothing
_FASTER, _SLOWER, _MUCH_SLOWER = 1 / 16, 1 / 64, 1 / 1024  # how readily each is believed to be usual


@dataclass(frozen=True, slots=True)
class WaitingTime:
    """In logarithms of seconds: what is twice as slow is as far off at a fast node as at a slow one.

    Attributes
    ----------
    n : int
        Signals so far.
    usual, spread : float
        Slowly moving mean, and mean deviation from it. What is slower than usual is believed slowly, and under load
        hardly at all: a clinic that is busy all morning does not become the usual.
    recent : tuple of float
        The last three; their median decides, so that one study on tape is not taken for load.
    """

    n: int = 0
    usual: float = 0.0
    spread: float = 0.0
    recent: tuple[float, ...] = ()

    def after(self, seconds: float, *, factor: float) -> WaitingTime:
        """What is known after one more wait."""
        value = math.log(max(seconds, _SHORTEST))
        recent = (*self.recent, value)[-3:]
        off = value - self.usual
        if self.n < _LEARNING:
            usual = self.usual + off / (self.n + 1)
            return WaitingTime(
                self.n + 1, usual, self.spread + (abs(value - usual) - self.spread) / (self.n + 1), recent
            )
        felt = replace(self, recent=recent)
        if felt.is_slow(factor=factor):
            return replace(felt, usual=self.usual + off * _MUCH_SLOWER)
        weight = _FASTER if off < 0 else _SLOWER
        return WaitingTime(self.n, self.usual + off * weight, self.spread + (abs(off) - self.spread) / 64, recent)

    def is_slow(self, *, factor: float) -> bool:
        """Whether the node lets us wait more than `factor` times as long as usual, and longer than its own whims."""
        if self.n < _LEARNING or len(self.recent) < 3:
            return False
        now = sorted(self.recent)[1]
        limit = max(math.log(factor), min(_SPREADS * self.spread, _WIDEST))
        return now - self.usual > limit and now > math.log(_UNFELT)
