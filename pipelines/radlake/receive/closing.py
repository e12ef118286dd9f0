"""When a study that is pushed is closed, and who vouches for it: pure decisions.

Silence closes a study, so that its images are on the platform in time, but silence proves nothing. A study is called
complete only when somebody who knows vouches that all of it came: the hospital's node by its list or its count, or a
notice of the hospital. A witness that does not know everything that came is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from radlake.lake.pushed import Notice, StepStatus
from radlake.net.push import CloseRule

__all__ = ["Evidence", "Verdict", "decide", "seconds_to_next_question"]

_LONGEST_SECONDS = 6 * 3600.0


@dataclass(frozen=True)
class Evidence:
    """What is known of a study that is pushed.

    Attributes
    ----------
    have : frozenset of str
        SOP Instance UIDs of all that ever came: waiting, stored or set aside.
    minutes_silent : float
        Since when nothing came and nothing was told; 0 while an instance is under way.
    notices : tuple of Notice
        What the hospital told.
    listed : frozenset of str, optional
        What the node lists, asked after the silence.
    n_listed : int, optional
        The node's count, when it gives no list.
    """

    have: frozenset[str]
    minutes_silent: float
    notices: tuple[Notice, ...] = ()
    listed: frozenset[str] | None = None
    n_listed: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What to do now.

    Attributes
    ----------
    is_closed : bool
        Ingest what waits and settle the study.
    expected : frozenset of str
        SOP Instance UIDs that somebody told of.
    n_expected : int, optional
        How many there are, when somebody told that.
    unverified : str
        Why nobody vouches for the study; empty when somebody does.
    asks_node : bool
        The hospital's node shall be asked.
    """

    is_closed: bool
    expected: frozenset[str]
    n_expected: int | None
    unverified: str
    asks_node: bool


@dataclass(frozen=True)
class _Witness:
    name: str
    listed: frozenset[str] | None
    n_told: int | None

    def knows(self, have: frozenset[str]) -> bool:
        """Whether it tells of everything that came."""
        if self.listed is not None:
            return have <= self.listed
        return self.n_told is not None and len(have) <= self.n_told

    def n_unknown(self, have: frozenset[str]) -> int:
        return len(have - self.listed) if self.listed is not None else len(have) - (self.n_told or 0)


def decide(evidence: Evidence, *, rule: CloseRule) -> Verdict:
    """Weigh what is known of a study."""
    have = evidence.have
    told, node = _told(evidence.notices), _Witness("the node", evidence.listed, evidence.n_listed)
    n_open = sum(notice.status is StepStatus.IN_PROGRESS for notice in evidence.notices)
    expected = (told.listed or frozenset()) | (node.listed or frozenset())
    n_expected = max((w.n_told for w in (told, node) if w.n_told is not None), default=None)
    witnesses = [told] if rule.notice and not n_open and _speaks(told) else []
    witnesses += [node] if rule.count and _speaks(node) else []
    is_vouched = any(witness.knows(have) for witness in witnesses)
    is_all_here = expected <= have and (n_expected is None or n_expected <= len(have))
    is_quiet = evidence.minutes_silent >= rule.quiet
    return Verdict(
        is_closed=is_quiet or (is_vouched and is_all_here and evidence.minutes_silent > 0),
        expected=expected,
        n_expected=n_expected,
        unverified="" if is_vouched else _doubt(witnesses, have, n_open),
        asks_node=rule.count and is_quiet and not is_vouched,
    )


def seconds_to_next_question(n_asked: int, *, rule: CloseRule) -> float:
    """After so many questions about a study that did not settle it: twice as long each time, 6 hours at most."""
    return min(rule.quiet * 60 * 2.0 ** min(n_asked, 20), _LONGEST_SECONDS)


def _told(notices: Iterable[Notice]) -> _Witness:
    """What all notices of a study say together: each procedure step tells its own series (PS3.4 F.7)."""
    lists = [notice.listed for notice in notices if notice.listed is not None]
    counts = [notice.n_told for notice in notices if notice.n_told is not None]
    return _Witness("the notice", frozenset[str]().union(*lists) if lists else None, max(counts, default=None))


def _speaks(witness: _Witness) -> bool:
    return bool(witness.listed) or witness.n_told is not None


def _doubt(witnesses: list[_Witness], have: frozenset[str], n_open: int) -> str:
    if n_open:
        return f"procedure steps in progress: {n_open}"
    for witness in witnesses:
        return f"{witness.n_unknown(have)} instances came that {witness.name} does not tell of"
    return "closed by quiet time only"
