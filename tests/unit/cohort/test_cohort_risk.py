"""How well persons hide: classes of k, the coarseness that it takes, and what days between exams tell."""

from __future__ import annotations

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from radlake.cohort.risk import Coarseness, Intervals, Person, coarsest_needed, intervals_of


def test_ages_and_places_are_as_fine_as_k_allows() -> None:
    many = {n: Person("F", 60 + n % 5, "320583", frozenset(["CT CHEST"])) for n in range(10)}
    fine = coarsest_needed(many, k=5)
    assert (fine.coarseness, fine.smallest_class, fine.left_out) == (Coarseness(5, 4), 10, frozenset())
    assert fine.coarseness.of(many[0]) == ("F", 60, "320500")
    spread = {n: Person("F", 60 + n, f"32{n % 5:02d}00", frozenset([f"CT {n % 2}"])) for n in range(10)}
    coarse = coarsest_needed(spread, k=5)
    assert (coarse.coarseness, coarse.n_classes, coarse.l_diversity) == (Coarseness(5, 2), 2, 2)


def test_who_would_be_alone_is_left_out_when_few_are() -> None:
    persons: dict[object, Person] = {n: Person("M", 60, "320500") for n in range(30)}
    persons["odd"] = Person("F", 3, "320500")
    found = coarsest_needed(persons, k=5)
    assert (found.coarseness, found.left_out, found.smallest_class) == (Coarseness(5, 4), frozenset(["odd"]), 30)


@given(
    st.lists(
        st.builds(
            Person,
            sex=st.sampled_from(["F", "M", "UNKNOWN"]),
            age_years=st.none() | st.integers(0, 90),
            region_code=st.sampled_from(["320500", "320102", "110100", "UNKNOWN"]),
        ),
        max_size=60,
    ),
    st.integers(1, 7),
)
def test_nobody_who_is_kept_is_in_a_class_of_fewer_than_k(persons: list[Person], k: int) -> None:
    found = coarsest_needed(dict(enumerate(persons)), k=k)
    kept = [found.coarseness.of(one) for n, one in enumerate(persons) if n not in found.left_out]
    assert all(kept.count(one) >= k for one in kept)
    assert found.smallest_class == min(map(kept.count, kept), default=0)


def test_days_between_exams_single_out_who_has_them_alone() -> None:
    day = date(2026, 1, 1)
    days = {
        "a": [day, date(2026, 1, 11)],
        "b": [date(2026, 3, 1), date(2026, 3, 11)],
        "c": [day, date(2026, 1, 12)],
        "d": [day],
        "e": [day, day],
    }
    assert intervals_of(days) == Intervals(n_persons=5, n_several=3, n_unique=1)
