"""What a duplicate exam is, as tables that anybody can read. The rule in words: docs/reference/definitions.md.

Every table is a whole lake. The first exam of each hospital, long before the others, opens its observed period.
`duplicate` says whether the exam counts as one within the window of the test, and where its earlier exam was.
"""

from __future__ import annotations

import pytest

from support.statistics import exams, parsed, tables

LONG_AGO = """
    patient | hospital | modality | body_part | side | date             | duplicate
    first1  | h1       | US       | THYROID   | U    | 2025-01-01       | -
    first2  | h2       | US       | THYROID   | U    | 2025-01-01       | -
"""


def spec(table: str, *, window: int = 30) -> None:
    """The statistic of these exams has, in every month, hospital and modality, the counts of the last column."""
    header, *lines = [line for line in table.strip().splitlines() if line.strip()]
    names = [name.strip() for name in header.split("|")]
    assert names == ["patient", "hospital", "modality", "body_part", "side", "date", "duplicate"]
    whole = LONG_AGO + "\n".join(lines)
    expected: dict[tuple[str, str, str], dict[str, int]] = {}
    for line in parsed(whole):
        if line["duplicate"] == "-":
            continue
        cell = expected.setdefault(
            (line["date"][:7], line["hospital"], line["modality"]), {"n": 0, "same": 0, "other": 0}
        )
        cell["n"] += 1
        if line["duplicate"] != "no":
            cell[line["duplicate"]] += 1
    with tables({"core.exam": exams(whole)}) as db:
        db.build("stats.exam_volume", "stats.duplicate_exam")
        found = {
            (month, hospital, modality): {"n": n, "same": same, "other": other}
            for month, hospital, modality, n, same, other in db.rows(
                f"""
                SELECT exam_month, hospital_id, modality_group, any_value(n_exams),
                    sum(n_duplicates) FILTER (WHERE scope = 'within_hospital')::BIGINT,
                    sum(n_duplicates) FILTER (WHERE scope = 'across_hospitals')::BIGINT
                FROM stats.duplicate_exam
                WHERE window_days = {window} AND 'all' NOT IN (exam_month, hospital_id, modality_group)
                GROUP BY ALL
                """
            )
        }
        assert found == expected
        assert [problem for problem in db.problems("stats.duplicate_exam") if problem[0] == "fail"] == []


def test_an_earlier_exam_within_30_days() -> None:
    spec("""
        patient | hospital | modality | body_part | side | date       | duplicate
        p1      | h1       | CT       | CHEST     | U    | 2026-03-01 | no
        p1      | h2       | CT       | CHEST     | U    | 2026-04-09 | no         # 39 days later
        p1      | h2       | CT       | CHEST     | U    | 2026-05-09 | same       # 30 days later
        p1      | h1       | CT       | CHEST     | U    | 2026-06-01 | other      # 23 days later, elsewhere
    """)


def test_an_earlier_exam_within_90_days() -> None:
    spec(
        """
        patient | hospital | modality | body_part | side | date       | duplicate
        p1      | h1       | CT       | CHEST     | U    | 2026-01-01 | no
        p1      | h1       | CT       | CHEST     | U    | 2026-04-01 | same       # 90 days later
        p2      | h2       | MR       | HEAD      | U    | 2026-01-01 | no
        p2      | h2       | MR       | HEAD      | U    | 2026-04-02 | no         # 91 days later
        """,
        window=90,
    )


def test_only_the_later_exam_is_the_duplicate_and_every_later_one_is() -> None:
    spec("""
        patient | hospital | modality | body_part | side | date       | duplicate
        p1      | h1       | CT       | CHEST     | U    | 2026-03-01 | no
        p1      | h1       | CT       | CHEST     | U    | 2026-04-01 | no         # 31 days after the first
        p1      | h1       | CT       | CHEST     | U    | 2026-04-11 | same
        p1      | h1       | CT       | CHEST     | U    | 2026-04-21 | same
    """)


def test_person_modality_and_body_part_must_be_the_same() -> None:
    spec("""
        patient | hospital | modality | body_part     | side | date       | duplicate
        p1      | h1       | CT       | CHEST         | U    | 2026-03-01 | no
        p2      | h1       | CT       | CHEST         | U    | 2026-03-02 | no    # another person
        p1      | h1       | MR       | CHEST         | U    | 2026-03-03 | no    # another modality
        p1      | h1       | CT       | ABDOMEN       | U    | 2026-03-04 | no    # another body part
        p1      | h1       | CT       | ABDOMEN+CHEST | U    | 2026-03-05 | no    # not the same parts
        p1      | h2       | CT       | CHEST         | U    | 2026-03-06 | other
    """)


def test_what_is_unknown_never_matches() -> None:
    spec("""
        patient | hospital | modality | body_part | side | date       | duplicate
        p1      | h1       | CT       | UNKNOWN   | U    | 2026-03-01 | no
        p1      | h1       | CT       | UNKNOWN   | U    | 2026-03-02 | no    # which part was it?
        ?x      | h2       | CT       | CHEST     | U    | 2026-03-01 | no
        ?x      | h2       | CT       | CHEST     | U    | 2026-03-02 | no    # whose exam was it?
    """)


@pytest.mark.parametrize(
    ("earlier", "later", "answer"),
    [
        ("L", "L", "same"),
        ("R", "R", "same"),
        ("L", "R", "no"),
        ("R", "L", "no"),
        ("B", "L", "same"),  # both sides contain the left one
        ("L", "B", "same"),
        ("NONE", "R", "same"),  # not stated: it may be the right one
        ("R", "NONE", "same"),
        ("U", "U", "same"),
    ],
)
def test_left_and_right_do_not_repeat_each_other(earlier: str, later: str, answer: str) -> None:
    spec(f"""
        patient | hospital | modality | body_part | side      | date       | duplicate
        p1      | h1       | DX       | KNEE      | {earlier} | 2026-02-20 | no
        p1      | h1       | DX       | KNEE      | {later}   | 2026-03-20 | {answer}
    """)


def test_the_exam_of_the_other_side_in_between_does_not_hide_an_earlier_one() -> None:
    spec("""
        patient | hospital | modality | body_part | side | date       | duplicate
        p1      | h1       | DX       | KNEE      | L    | 2026-02-20 | no
        p1      | h2       | DX       | KNEE      | R    | 2026-02-25 | no
        p1      | h2       | DX       | KNEE      | L    | 2026-03-10 | other      # repeats the first, not the second
    """)


def test_the_same_day_never_counts() -> None:
    spec("""
        patient | hospital | modality | body_part | side | date                | duplicate
        p1      | h1       | CT       | CHEST     | U    | 2026-02-01 08:00:00 | no
        p1      | h2       | CT       | CHEST     | U    | 2026-02-01 17:00:00 | no      # same day, even elsewhere
        p1      | h1       | CT       | CHEST     | U    | 2026-03-02 08:00:00 | other   # 29 days after h2's exam
        p1      | h1       | CT       | CHEST     | U    | 2026-03-02 09:00:00 | other   # so is its twin of the day
        p2      | h1       | MR       | HEAD      | U    | 2026-02-01 23:59:00 | no
        p2      | h2       | MR       | HEAD      | U    | 2026-02-02 00:01:00 | other   # 2 minutes later, next day
    """)


def test_of_two_earlier_exams_the_latest_says_where() -> None:
    spec("""
        patient | hospital | modality | body_part | side | date       | duplicate
        p1      | h1       | CT       | CHEST     | U    | 2026-02-01 | no
        p1      | h2       | CT       | CHEST     | U    | 2026-02-27 | other
        p1      | h2       | CT       | CHEST     | U    | 2026-03-02 | same   # h1's exam is in the window too
    """)


def test_the_first_days_of_a_hospital_are_not_counted() -> None:
    """h3 is observed since 2026-05-01: a first exam there cannot show what was done before."""
    spec("""
        patient | hospital | modality | body_part | side | date       | duplicate
        p1      | h1       | CT       | CHEST     | U    | 2026-05-01 | no
        p1      | h3       | CT       | CHEST     | U    | 2026-05-01 | -      # opens the observed period
        p2      | h3       | CT       | CHEST     | U    | 2026-05-30 | -      # 29 days after it: not counted
        p1      | h3       | CT       | CHEST     | U    | 2026-05-31 | same   # 30 days after it: counted
        p2      | h3       | CT       | CHEST     | U    | 2026-06-20 | same   # its earlier exam was not counted
    """)


def test_an_exam_without_a_date_is_in_no_window() -> None:
    spec("""
        patient | hospital | modality | body_part | side | date       | duplicate
        p1      | h1       | CT       | CHEST     | U    | -          | -
        p1      | h1       | CT       | CHEST     | U    | 2026-03-02 | no
    """)
