"""Coarse release: what leaves of service measures, and that no difference of two releases tells a small count."""

from __future__ import annotations

from radlake.contracts import load_table
from radlake.stats.policy import Policy
from radlake.stats.release import mask
from support.rows import rows

NAME = "stats.upload_compliance"


def released(**given):
    row = {"exam_month": "2026-03", "hospital_id": "h1", "is_masked": False, "denominator": "orders"}
    return mask({NAME: rows(NAME, row | given)}, policy=Policy())[NAME].to_pylist()[0]


def test_few_exams_are_withheld() -> None:
    row = released(n_exams=4, n_due=4, n_late=1, in_time_share=0.75, p50_hours=1.0)
    assert row["is_masked"]
    assert [row[name] for name in ("n_exams", "n_due", "n_late", "in_time_share", "p50_hours")] == [None] * 5


def test_counts_are_rounded_and_shares_told_where_there_are_enough() -> None:
    row = released(n_exams=19, n_due=19, n_late=3, in_time_share=16 / 19, p50_hours=1.234)
    assert (row["n_exams"], row["n_late"], row["in_time_share"], row["p50_hours"]) == (20, 0, None, None)
    row = released(n_exams=1234, n_due=1230, n_late=37, in_time_share=0.97123, p50_hours=1.234, p95_hours=0.0)
    assert (row["n_exams"], row["n_late"], row["in_time_share"], row["p50_hours"]) == (1230, 40, 0.97, 1.2)
    assert row["p95_hours"] == 0.0
    assert not row["is_masked"]


def test_every_released_row_fits_counts_around_a_small_difference() -> None:
    """Whatever another table shows of the same exams: a row stays the same when up to four exams more are counted."""
    table = load_table(NAME)
    assert table.disclosure
    same = 0
    for n in range(100, 140):
        one = released(n_exams=n, n_due=n, n_late=0, in_time_share=1.0)
        same += one == released(n_exams=n + 1, n_due=n + 1, n_late=0, in_time_share=1.0)
    assert same == 36  # of forty borders between n and n + 1 one in ten is seen, and nobody knows which
