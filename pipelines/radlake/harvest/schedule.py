"""Who is harvested next: the hospital whose oldest study comes closest to missing the 12-hour rule. Pure.

A study must be on the platform within 12 hours after the exam. The slack of a hospital is what is left of them when
all that it has waiting would be harvested from now on. Least slack first, with two exceptions for fairness: who is
late already takes turns with who can still be in time, so that a hospital that is down cannot make all others late;
and a live harvest always goes before a backfill. Instants are Unix time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from radlake.harvest.courtesy import NodeState, Week, allowed

__all__ = ["DUE_SECONDS", "Turn", "harvest_seconds", "jain_index", "ordered", "slack"]

DUE_SECONDS = 12 * 3600.0
_USUAL_STUDY_SECONDS = 10.0  # of a node that nothing is known of


@dataclass(frozen=True, slots=True)
class Turn:
    """A hospital that could be harvested.

    Attributes
    ----------
    oldest_at : float
        When its oldest study was made that is not on the platform; what is not known yet may be as old as the last
        look at the node.
    seconds : float
        How long a harvest of what waits would take, see `harvest_seconds`.
    not_before : float
        When the node may be asked.
    """

    hospital_id: str
    oldest_at: float
    seconds: float
    not_before: float = 0.0
    is_backfill: bool = False


def slack(turn: Turn, *, now: float) -> float:
    """Seconds to spare until its oldest study is late, when its harvest begins as soon as the node may be asked."""
    return turn.oldest_at + DUE_SECONDS - max(now, turn.not_before) - turn.seconds


def ordered(turns: Iterable[Turn], *, now: float) -> list[Turn]:
    """Those that may be asked now, whose turn it is first."""
    open_now = [turn for turn in turns if turn.not_before <= now]
    live = sorted(
        (turn for turn in open_now if not turn.is_backfill), key=lambda turn: (slack(turn, now=now), turn.hospital_id)
    )
    late = [turn for turn in live if slack(turn, now=now) < 0]
    in_time = live[len(late) :]
    backfill = sorted(
        (turn for turn in open_now if turn.is_backfill), key=lambda turn: (turn.oldest_at, turn.hospital_id)
    )
    taking_turns = [turn for pair in zip_longest(late, in_time) for turn in pair if turn is not None]
    return taking_turns + backfill


def harvest_seconds(state: NodeState, week: Week, *, n_waiting: float, now: float) -> float:
    """How long the node needs for what waits, at what it allows now, or when it next allows anything."""
    may = allowed(state, week, now=now)
    if not may.places:
        may = allowed(state, week, now=may.from_)
    each = (state.study_seconds or _USUAL_STUDY_SECONDS) / max(may.load, 1e-3)
    return n_waiting * max(each, 3600 / may.studies_per_hour if may.studies_per_hour else 0.0)


def jain_index(shares: Sequence[float]) -> float:
    """Fairness of what each got: 1 when all got the same, 1/n when one got all.

    After Jain, Chiu and Hawe, A quantitative measure of fairness and discrimination (DEC-TR-301, 1984).

    >>> jain_index([1, 1, 1, 1]), jain_index([1, 0, 0, 0])
    (1.0, 0.25)
    """
    squares = math.fsum(share * share for share in shares)
    return math.fsum(shares) ** 2 / (len(shares) * squares) if squares else 1.0
