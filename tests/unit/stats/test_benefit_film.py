"""Film in two periods, by three choices of the volume."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from radlake.stats.benefit.film import film_period, film_saving


def month(n_exams: int, *, film: int, cloud: int, printed: int, is_masked: bool = False) -> dict[str, Any]:
    values = {"n_exams": n_exams, "film_cost_fen": film, "cloud_cost_fen": cloud, "printed_cost_fen": printed}
    values |= {"unclaimed_cost_fen": 0}
    return {name: None if is_masked else value for name, value in values.items()} | {"is_masked": is_masked}


def test_the_two_years_of_the_article_to_the_fen() -> None:
    before = film_period([month(184_612, film=996_904_800, cloud=0, printed=996_904_800)])
    after = film_period([month(197_112, film=1_064_404_800, cloud=394_224_000, printed=8_325_000)])
    found = film_saving(before, after)
    assert found.as_spent_fen == 594_355_800
    assert found.at_later_volume_fen == 661_855_800 == after.net_saving_fen
    assert found.at_earlier_volume_fen == 996_904_800 - round(184_612 * Fraction(402_549_000, 197_112))
    assert (before.spent_per_exam_fen, round(after.spent_per_exam_fen or 0)) == (5400, 2042)
    assert after.gross_saving_fen == 1_064_404_800 - 8_325_000


def test_months_that_are_withheld_are_told_and_in_no_sum() -> None:
    period = film_period([month(100, film=9, cloud=2, printed=1), month(3, film=9, cloud=2, printed=1, is_masked=True)])
    assert (period.n_months, period.n_withheld, period.n_exams, period.net_saving_fen) == (2, 1, 100, 6)


def test_a_period_without_exams_has_no_cost_per_exam_and_no_volume_to_compare_at() -> None:
    found = film_saving(film_period([]), film_period([month(10, film=50, cloud=20, printed=0)]))
    assert (found.as_spent_fen, found.at_later_volume_fen, found.at_earlier_volume_fen) == (-20, None, None)
