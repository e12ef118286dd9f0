"""What a backfill decides without asking anybody: windows, what is open, estimates, and when it ends."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radlake.backfill.calendar import ends_at
from radlake.backfill.coverage import Coverage
from radlake.backfill.known import KnownStudy, is_open
from radlake.backfill.plan import plan_of_survey
from radlake.backfill.rate import Rate
from radlake.backfill.sizes import Measured, Sizes
from radlake.backfill.survey import Survey
from radlake.backfill.windows import PlannedDay, plan_windows, remainders
from radlake.cli._heatmap import heatmap_of_days, heatmap_of_months
from radlake.harvest.courtesy.week import Slot, Week
from radlake.net import StudyFound, Window

FIRST = date(2024, 1, 20)
MONDAY = datetime(2024, 1, 1, tzinfo=UTC).timestamp() - 8 * 3600  # 00:00 in Shanghai
ALWAYS = Week((Slot(2),) * 168)


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


@given(
    counts=st.dictionaries(st.integers(0, 99), st.integers(1, 2800)),
    last=st.integers(0, 99),
)
def test_windows_cover_every_day_once_and_lose_no_study(counts: dict[int, int], last: int) -> None:
    span = Window(FIRST, day(last))
    days = [PlannedDay(day=day(n), n_studies=counts[n]) for n in sorted(counts) if n <= last]
    planned = [one for one in plan_windows(days, window=span) if one.window is not None]
    covered = [day for one in planned if one.window for day in one.window.days()]
    assert covered == [day(n) for n in range(last + 1)]
    assert sum(one.n_studies for one in planned) == sum(one.n_studies for one in days)
    counted = dict.fromkeys((day(n) for n in range(last + 1)), 0) | {one.day: one.n_studies for one in days}
    for one, following in zip(planned, [*planned[1:], None], strict=True):
        assert one.window is not None
        assert one.n_studies <= 2000 or one.window.start == one.window.end
        if following and following.window:
            assert one.n_studies + counted[following.window.start] > 2000, "it has room for another day"


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=4), st.integers(0, 50), st.integers(0, 30))
def test_what_is_planned_outside_of_a_new_plan_stays(old: list[tuple[int, int]], start: int, length: int) -> None:
    new = Window(day(start), day(start + length))
    windows = [Window(day(first), day(first + n)) for first, n in old]
    before = {one for window in windows for one in window.days()}
    left = {one for window in remainders(windows, without=new) for one in window.days()}
    assert left == {one for one in before if one not in new}


@pytest.mark.parametrize(
    ("known", "n_listed", "expected"),
    [
        pytest.param(None, 3, True, id="new"),
        pytest.param(KnownStudy("discovered", 3, 0), 3, True, id="discovered"),
        pytest.param(KnownStudy("retrieving", 3, 2), 3, True, id="interrupted"),
        pytest.param(KnownStudy("complete", 3, 3), 3, False, id="complete"),
        pytest.param(KnownStudy("complete", 3, 3), None, False, id="complete, the node gives no count"),
        pytest.param(KnownStudy("complete", 3, 3), 4, True, id="a late series"),
        pytest.param(KnownStudy("partial", 3, 2), 3, True, id="something is missing"),
        pytest.param(KnownStudy("partial", 3, 3), 3, False, id="something is in quarantine"),
        pytest.param(KnownStudy("partial", None, 2), None, False, id="nobody can tell what is missing"),
        pytest.param(KnownStudy("quarantined", 3, 3), 3, False, id="all is in quarantine"),
        pytest.param(KnownStudy("withdrawn", 3, 0), 3, False, id="withdrawn"),
        pytest.param(KnownStudy("expired", 3, 0), 3, False, id="expired"),
    ],
)
def test_what_is_still_to_be_fetched(known: KnownStudy | None, n_listed: int | None, expected: bool) -> None:
    assert is_open(known, n_listed=n_listed) is expected


def test_a_plan_compares_what_is_listed_with_what_is_here() -> None:
    studies = (
        StudyFound("1.1", FIRST, 100, ("CT",)),
        StudyFound("1.2", FIRST, 50, ("CT", "SR")),
        StudyFound("1.3", day(1), None, ("CT",)),
    )
    found = Survey(studies, (StudyFound("1.9", None, 2, ("CT",)),), "", (Window(day(1), day(1)),), 200)
    plan = plan_of_survey(
        "h1",
        found,
        window=Window(FIRST, day(9)),
        known={"1.1": KnownStudy("complete", 100, 100)},
        sizes=Sizes({("h1", "CT"): Measured(20, 2000, 1_000_000)}),
        rate=Rate(1000.0, 1.0, "measured"),
        week=ALWAYS,
        now=datetime(2024, 6, 1),
    )
    assert [(one.n_studies, one.n_open, one.open_bytes) for one in plan.days] == [(2, 1, 25_000), (1, 1, 50_000)]
    assert [one.is_doubtful for one in plan.days] == [False, True]
    assert (plan.undated.n_studies, plan.undated.open_bytes) == (1, 1000)
    assert plan.states == {"complete": 1, "unknown": 3}
    assert plan.seconds == pytest.approx(76.0)
    assert plan.size_source == "stored studies of this hospital"
    assert plan.n_without_count == 1


def test_sizes_come_from_the_nearest_that_is_known() -> None:
    few = Sizes({("h1", "MR"): Measured(19, 1900, 1), ("", "MR"): Measured(100, 10_000, 5_000_000)})
    study = StudyFound("1", FIRST, 10, ("MR",))
    assert few.n_bytes("h1", study) == 5000
    assert few.source("h1", [study]) == "stored studies of other hospitals"
    assert Sizes({}).n_bytes("h1", study) == 10 * (384 * 384 * 2 + 2000)
    assert Sizes({}).source("h1", [study]) == "typical sizes"
    assert Sizes({}).n_bytes("h1", StudyFound("1")) == 205 * 1_462_000


def test_work_ends_in_the_hours_that_the_node_allows() -> None:
    nights = Week(tuple(Slot(0) if 6 <= hour % 24 < 22 else Slot(2) for hour in range(168)))
    assert ends_at(seconds=3600, n_studies=10, week=ALWAYS, now=MONDAY) == MONDAY + 3600
    assert ends_at(seconds=6 * 3600 + 60, n_studies=10, week=nights, now=MONDAY) == MONDAY + 22 * 3600 + 60
    assert ends_at(seconds=0, n_studies=0, week=nights, now=MONDAY + 8 * 3600) == MONDAY + 8 * 3600
    half = Week((Slot(1),) * 84 + (Slot(2),) * 84)
    assert ends_at(seconds=3600, n_studies=1, week=half, now=MONDAY) == MONDAY + 7200
    slow = Week((Slot(1, studies_per_hour=5),) * 168)
    assert ends_at(seconds=60, n_studies=10, week=slow, now=MONDAY) == pytest.approx(MONDAY + 7200)


def test_the_picture_reads_without_its_colours() -> None:
    days = {
        date(2023, 12, 31): Coverage(n_listed=2, n_complete=2),
        date(2024, 1, 1): Coverage(n_listed=4, n_complete=3),
        date(2024, 1, 3): Coverage(),
        date(2024, 2, 1): Coverage(n_listed=3),
        date(2024, 3, 1): Coverage(n_listed=3, n_complete=3, is_doubtful=True),
    }
    drawn = [line.plain.rstrip() for line in heatmap_of_months({"h1": days}, width=80)]
    assert drawn == [" " * 18 + "2023         2024", "h1" + " " * 16 + " " * 11 + "# 7-?"]
    by_day = [line.plain.rstrip() for line in heatmap_of_days({"h1": days})]
    assert by_day[1:3] == ["2023-12" + " " * 11 + " " * 30 + "#", "2024-01" + " " * 11 + "7 ."]
    narrow = [line.plain.rstrip() for line in heatmap_of_months({"h1": days}, width=20)]
    assert len(narrow) == 4, "a year below the other"
