"""Who reaches 100 mSv within 5 years, as tables that anybody can read (docs/reference/definitions).

Every table is a whole lake. `mSv` is the estimate of an exam, with `low` and `high` where it says them; `from` is a
dose report (DLP), a typical value, or - where there is no estimate. `reached` says whether the person counts in the
year of the exam.
"""

from __future__ import annotations

from support.rows import rows
from support.statistics import exams, parsed, tables

METHODS = {"report": "dlp", "typical": "typical", "-": "none"}
Found = dict[tuple[str, str], dict[str, object]]


def spec(table: str, **more: object) -> Found:
    """Of every year as many persons reach it as the last column says; returns all rows by year and age."""
    lines = parsed(table)
    given = exams(table).to_pylist()
    for row, line in zip(given, lines, strict=True):
        row["patient_age_years"] = int(line.get("age", "50"))
    doses = []
    for row, line in zip(given, lines, strict=True):
        names = ("hospital_id", "exam_pseudo_id", "patient_key", "modality_group", "body_part_code")
        method, dose = METHODS[line.get("from", "report")], None if line["mSv"] == "-" else float(line["mSv"])
        ends = {"low": line.get("low") or line["mSv"], "high": line.get("high") or line["mSv"]}
        doses.append(
            {name: row[name] for name in names}
            | {"is_adult": row["patient_age_years"] >= 18, "effective_dose_method": method, "effective_dose_msv": dose}
            | {f"effective_dose_{end}_msv": None if dose is None else float(ends[end]) for end in ends}
        )
    expected: dict[str, set[str]] = {line["date"][:4]: set() for line, row in zip(lines, given, strict=True) if row["patient_age_years"] >= 18}  # fmt: skip  # noqa: E501
    for line in lines:
        if line["reached"] == "yes":
            expected[line["date"][:4]].add(line["patient"])
    with tables({"core.exam": rows("core.exam", *given), "core.exam_dose": rows("core.exam_dose", *doses)}, **more) as db:  # fmt: skip  # noqa: E501
        db.build("stats.cumulative_dose")
        assert db.problems("stats.cumulative_dose") == []
        names = [name for (name, *_) in db.connection.execute("DESCRIBE stats.cumulative_dose").fetchall()]
        found = [dict(zip(names, row, strict=True)) for row in db.rows("FROM stats.cumulative_dose")]
    by_cell: Found = {(row["exam_year"], row["age_group"]): row for row in found}
    assert {year: by_cell[year, "all"]["n_reached"] for year, _ in by_cell} == {
        year: len(persons) for year, persons in expected.items()
    }
    return by_cell


def test_doses_of_five_years_are_added_up() -> None:
    spec("""
        patient | date       | mSv  | reached
        p1      | 2021-06-01 | 40   | no
        p1      | 2023-06-01 | 40   | no
        p1      | 2026-06-01 | 20   | yes     # 5 years to the day
        p2      | 2021-05-31 | 40   | no
        p2      | 2023-06-01 | 40   | no
        p2      | 2026-06-01 | 20   | no      # a day more: 60 mSv
        p3      | 2026-01-01 | 99.9 | no
    """)


def test_a_person_counts_once_in_each_year_with_an_exam_that_reaches_it() -> None:
    found = spec("""
        patient | date       | mSv | reached
        p1      | 2024-02-01 | 60  | no
        p1      | 2024-03-01 | 60  | yes
        p1      | 2024-04-01 | 60  | yes
        p1      | 2026-03-01 | 1   | yes     # with those of 2024
        p1      | 2030-01-01 | 1   | no
        p2      | 2026-03-01 | 1   | no
    """)
    assert {year: row["n_persons"] for (year, age), row in found.items() if age == "all"} == {
        "2024": 1, "2026": 2, "2030": 1
    }  # fmt: skip


def test_hospitals_and_methods_add_up_and_the_range_and_typical_values_stand_beside() -> None:
    found = spec("""
        patient | hospital | date       | from    | mSv | low | high | reached
        p1      | h1       | 2026-02-01 | report  | 60  | 40  | 80   | no
        p1      | h2       | 2026-03-01 | report  | 50  | 40  | 70   | yes     # the lower ends do not
        p2      | h1       | 2026-02-01 | report  | 80  | 70  | 90   | no
        p2      | h2       | 2026-03-01 | typical | 25  | 10  | 30   | yes     # nor do reports alone
        p3      | h1       | 2026-02-01 | typical | 60  | 30  | 100  | no      # its upper end does
        p4      | h1       | 2026-02-01 | report  | 110 | 100 | 120  | yes
        p4      | h1       | 2026-02-02 | -       | -   | -   | -    | yes     # without an estimate
    """)
    row = found["2026", "all"]
    assert (row["n_persons"], row["n_reached"], row["n_reached_low"], row["n_reached_high"]) == (4, 3, 1, 4)
    assert (row["n_reached_reported"], row["n_unestimated"]) == (2, 1)
    assert row["typical_dose_share"] == (25 + 60) / (110 + 105 + 60 + 110)


def test_children_are_in_no_dose_and_ages_are_those_of_the_last_exam() -> None:
    found = spec("""
        patient | age | date       | mSv | reached
        p1      | 17  | 2026-01-01 | -   | -
        p1      | 18  | 2026-02-01 | 90  | no
        p2      | 39  | 2026-01-01 | 60  | no
        p2      | 40  | 2026-09-01 | 60  | yes
        p3      | 61  | 2026-09-01 | 120 | yes
    """)
    assert {age: (row["n_persons"], row["n_reached"]) for (_, age), row in found.items()} == {
        "18-39": (1, 0), "40-59": (1, 1), "60+": (1, 1), "all": (3, 2)
    }  # fmt: skip
