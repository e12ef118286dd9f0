"""The studies of a window from an archive that may cut long lists in silence: ask in halves until none was cut.

PS3.4 has no status for "there are more", and many archives stop at a number that their administrator set; others
refuse such a query. What is asked, and how, is in `dimse`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from radlake.errors import QueryFailed
from radlake.log import get_logger
from radlake.net.client import StudyFound, Window

__all__ = ["AnyDate", "CutLists", "Span", "unless_refused"]

_DAY = 86_400
_SHORTEST_SECONDS = 60
_SMALLEST_LIMIT = 10  # no archive stops earlier
_TOO_MANY = (0xA700, 413)  # PS3.4 C.4.1.1.4 out of resources, PS3.18 8.3.4.4 payload too large

log = get_logger()


@dataclass(frozen=True)
class Span:
    """A window, or a part of one day: seconds from its midnight, both ends included."""

    window: Window
    begin: int = 0
    end: int = _DAY

    def keys(self) -> dict[str, str]:
        """Range matching; times without fractions, which not every archive understands (PS3.4 C.2.2.2.5)."""
        date = {"StudyDate": self.window.as_range()}
        if (self.begin, self.end) == (0, _DAY):
            return date
        return {**date, "StudyTime": f"{_time(self.begin)}-{_time(self.end)}"}

    def halves(self) -> Iterator[Span]:
        """Two spans that cover this one; none when it is short. Parts of a day share a second, so that none is lost."""
        days = (self.window.end - self.window.start).days
        if days:
            middle = self.window.start + timedelta(days=days // 2)
            yield Span(Window(self.window.start, middle))
            yield Span(Window(middle + timedelta(days=1), self.window.end))
        elif self.end - self.begin > _SHORTEST_SECONDS:
            noon = (self.begin + self.end) // 2
            yield Span(self.window, self.begin, noon)
            yield Span(self.window, noon, self.end)


class AnyDate:
    """Studies of any date and of none: an empty key matches all of them (Universal Matching, PS3.4 C.2.2.2.3)."""

    def keys(self) -> dict[str, str]:
        return {"StudyDate": ""}


class CutLists:
    """What is known of one archive's limit; it may be used from several threads.

    A list that is shorter than another one was not cut. One that is as long as the longest seen so far may be: it is
    asked for in halves. If these bring more, the limit is known, and every list of its length is asked for in halves.
    """

    def __init__(self, *, node: str) -> None:
        self._node = node
        self._longest = 0
        self._doubts: dict[Window, int] = {}
        self._limit: int | None = None
        self._lock = threading.Lock()

    def whole(self, span: Span, ask: Callable[[Span], list[StudyFound]]) -> list[StudyFound]:
        """All studies of a span, in the order of the answers; some may stand there twice."""

        def ask_in_parts(part: Span) -> list[StudyFound]:
            return unless_refused(part, ask)

        return self._completed(span, ask_in_parts(span), ask_in_parts)

    @property
    def limit(self) -> int | None:
        """Where the archive is known to cut its lists."""
        return self._limit

    def doubtful(self) -> tuple[Window, ...]:
        """Days (or windows) of which there may be more studies than could be listed, in order."""
        with self._lock:
            shortest = self._longest if self._limit is None else self._limit
            days = [window for window, n in self._doubts.items() if n >= shortest]
        return tuple(sorted(days, key=lambda window: (window.start, window.end)))

    def _completed(
        self, span: Span, answers: list[StudyFound], ask: Callable[[Span], list[StudyFound]]
    ) -> list[StudyFound]:
        if not self._may_be_cut(len(answers)):
            return answers
        known = {study.study_uid for study in answers}
        parts = [(half, ask(half)) for half in span.halves()]
        if all({study.study_uid for study in listed} == known for _, listed in parts):
            # A minute is as short as we ask for; or it does not look at the time, or the date.
            self._doubt(span, len(answers))
            return answers
        more = [
            study
            for half, listed in parts
            for study in self._completed(half, listed, ask)
            if study.study_uid not in known
        ]
        if more:
            self._learn(len(answers))
        if not known <= {study.study_uid for _, listed in parts for study in listed} | {s.study_uid for s in more}:
            self._doubt(span, len(answers))  # some have no time: others like them may have been cut off
        return answers + more

    def _may_be_cut(self, n: int) -> bool:
        with self._lock:
            if self._limit is not None:
                return n >= self._limit
            is_longest = n >= self._longest
            self._longest = max(n, self._longest)
        return n >= _SMALLEST_LIMIT and is_longest

    def _doubt(self, span: Span, n: int) -> None:
        with self._lock:
            self._doubts[span.window] = max(n, self._doubts.get(span.window, 0))
        log.warning("study_list_maybe_cut", node=self._node, n_studies=n)

    def _learn(self, n: int) -> None:
        with self._lock:
            self._limit = n if self._limit is None else min(n, self._limit)


def unless_refused(span: Span, ask: Callable[[Span], list[StudyFound]]) -> list[StudyFound]:
    """Ask for the studies of a span, in halves where the archive refuses a list as too long.

    Raises
    ------
    QueryFailed
        If it refuses the shortest span too, or for another reason.
    """
    try:
        return ask(span)
    except QueryFailed as exc:
        halves = list(span.halves())
        if exc.facts.get("status") not in _TOO_MANY or not halves:
            raise
    return [study for half in halves for study in unless_refused(half, ask)]


def _time(seconds: int) -> str:
    """A second of the day as TM; midnight at the end of a day is its last second."""
    seconds = min(seconds, _DAY - 1)
    return f"{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}"
