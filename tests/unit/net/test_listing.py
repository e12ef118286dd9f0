"""Long lists of studies: whole, though the archive cuts them in silence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radlake.net import StudyFound, Window
from radlake.net.listing import CutLists, Span

FIRST = date(2026, 3, 1)
Ask = Callable[[Span], list[StudyFound]]


def archive(times: list[tuple[int, int]], *, limit: int, asked: list[Span], is_deaf: bool = False) -> Ask:
    """Lists its studies, each by day and second, up to a limit; a deaf one does not look at the time."""

    def ask(span: Span) -> list[StudyFound]:
        asked.append(span)
        days = [(FIRST + timedelta(days=day), second) for day, second in times]
        found = [
            StudyFound(f"1.{n}", day)
            for n, (day, second) in enumerate(days)
            if day in span.window
            and (is_deaf or span.begin <= second <= span.end or (second < 0 and (span.begin, span.end) == (0, 86_400)))
        ]
        return found[:limit]

    return ask


def listed(ask: Ask, days: int = 31, lists: CutLists | None = None) -> list[str]:
    span = Span(Window(FIRST, FIRST + timedelta(days=days - 1)))
    return [study.study_uid for study in (lists or CutLists(node="n")).whole(span, ask)]


@settings(max_examples=60)
@given(
    times=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 86_399)), max_size=400, unique=True),
    limit=st.sampled_from([10, 50, 100, 123, 150, 333, 10_000]),
)
def test_every_study_is_listed_whatever_the_limit(times: list[tuple[int, int]], limit: int) -> None:
    crowded = {(day, second // 60) for day, second in times}
    if len(times) > len(crowded) + 9:
        return
    asked: list[Span] = []
    assert sorted(listed(archive(times, limit=limit, asked=asked))) == sorted(f"1.{n}" for n in range(len(times)))


def test_an_odd_limit_is_known_at_once() -> None:
    times = [(day, 600 * n) for day in range(31) for n in range(10)]
    lists, asked = CutLists(node="n"), []
    assert len(set(listed(archive(times, limit=123, asked=asked), lists=lists))) == 310
    assert lists.limit == 123
    assert lists.doubtful() == ()
    assert len(asked) < 10


@pytest.mark.parametrize(("n", "n_asked"), [(0, 1), (9, 1), (51, 3), (149, 3)])
def test_a_list_that_was_not_cut_is_proven_by_its_halves_once(n: int, n_asked: int) -> None:
    asked: list[Span] = []
    lists = CutLists(node="n")
    ask = archive([(k % 31, k) for k in range(n)], limit=500, asked=asked)
    assert len(set(listed(ask, lists=lists))) == n
    assert len(asked) == n_asked
    assert lists.doubtful() == ()
    listed(ask, days=15, lists=lists)
    assert len(asked) == n_asked + 1, "a shorter list is whole"


def test_an_archive_that_does_not_look_at_the_time_is_asked_no_thousand_times() -> None:
    asked: list[Span] = []
    times = [(0, 60 * n) for n in range(300)]
    lists = CutLists(node="n")
    assert len(listed(archive(times, limit=100, asked=asked, is_deaf=True), lists=lists)) == 100
    assert len(asked) < 20
    assert lists.doubtful() == (Window(FIRST, FIRST),), "it is not called whole"


def test_a_crowded_minute_is_not_asked_for_again_and_again() -> None:
    asked: list[Span] = []
    lists = CutLists(node="n")
    assert len(listed(archive([(0, 45)] * 120, limit=100, asked=asked), lists=lists)) == 100
    assert len(asked) < 50
    assert lists.doubtful() == (Window(FIRST, FIRST),)


def test_studies_without_a_time_may_hide_others_until_a_longer_list_was_seen() -> None:
    lists, asked = CutLists(node="n"), []
    ask = archive([(0, -1)] * 12 + [(9, 600 * n) for n in range(40)], limit=500, asked=asked)
    span = Span(Window(FIRST, FIRST))
    assert len(lists.whole(span, ask)) == 12
    assert lists.doubtful() == (Window(FIRST, FIRST),)
    lists.whole(Span(Window(FIRST + timedelta(days=9), FIRST + timedelta(days=9))), ask)
    assert lists.doubtful() == ()


def test_a_part_of_a_day_as_query_keys() -> None:
    first, second = Span(Window(FIRST, FIRST)).halves()
    assert first.keys() == {"StudyDate": "20260301", "StudyTime": "000000-120000"}
    assert second.keys() == {"StudyDate": "20260301", "StudyTime": "120000-235959"}
    assert [span.keys()["StudyDate"] for span in Span(Window(FIRST, date(2026, 3, 3))).halves()] == [
        "20260301-20260302",
        "20260303",
    ]
