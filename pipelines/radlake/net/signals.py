"""What a node's answers tell of its load: how long it let us wait, and when it says that we are too much.

A client tells each signal to whoever watches; what follows from them is decided in `radlake.harvest.courtesy`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["OUT_OF_RESOURCES", "Signal", "SignalKind", "Watch", "ignore_signal"]

# PS3.4 tables C.4-1 to C.4-3. Not 0xA702, unable to perform sub-operations: that is said of studies on tape too.
OUT_OF_RESOURCES = frozenset({0xA700, 0xA701})


class SignalKind(StrEnum):
    """What was watched."""

    FIND = "find"
    FIRST_BYTE = "first_byte"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Signal:
    """One thing that a node let us feel.

    Attributes
    ----------
    seconds : float
        FIND: from a query to the first answer. FIRST_BYTE: from a retrieve request to the first bytes of an instance.
        REFUSED: how long it asks us to stay away (Retry-After, RFC 9110 10.2.3); 0 when it does not say.
    """

    kind: SignalKind
    seconds: float = 0.0


Watch = Callable[[Signal], None]


def ignore_signal(_: Signal) -> None:
    """Nobody watches."""
