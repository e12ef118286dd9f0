"""Limits: so many of something from somebody in a time, in memory of this process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Limit"]

_MOST_KEYS = 10_000


class Limit:
    """At most `n` in `seconds` for each key; what was used longest ago is forgotten first."""

    def __init__(self, n: int, seconds: float, *, clock: Callable[[], float]) -> None:
        self._n, self._seconds, self._clock = n, seconds, clock
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_seconds(self, key: str, *, take: bool = True) -> float:
        """0 when it may go on; else so many seconds until it may."""
        now = self._clock()
        with self._lock:
            tokens, at = self._tokens.pop(key, (float(self._n), now))
            tokens = min(self._n, tokens + (now - at) * self._n / self._seconds)
            is_allowed = tokens >= 1
            self._tokens[key] = (tokens - (take and is_allowed), now)
            if len(self._tokens) > _MOST_KEYS:
                self._tokens.popitem(last=False)
        return 0.0 if is_allowed else (1 - tokens) * self._seconds / self._n
