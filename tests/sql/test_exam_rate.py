"""stats.exam_rate: persons, denominators, limits."""

from __future__ import annotations

from typing import Any

import pytest

from support.rows import rows
from support.statistics import Tables, exams, tables


def population(*lines: tuple[str, int, int]):
    """(region, year, residents), half of them women."""
    return rows(
        "ref.population",
        *(
            {
                "region_code": region,
                "year": year,
                "sex": sex,
                "age_band": "20-24",
                "n_residents": n // 2,
                "source": "test",
            }
            for region, year, n in lines
            for sex in "FM"
        ),
    )


def rate(table: str, people: Any, query: str = "") -> tuple[list[Any], list[Any]]:
    with tables({"core.exam": exams(table), "ref.population": people}) as db:
        db.build("stats.exam_rate")
        return _rows(db, query), db.problems("stats.exam_rate")


def _rows(db: Tables, query: str) -> list[Any]:
    return db.rows(
        query
        or "SELECT exam_year, region_code, modality_group, n_exams, n_patients, n_residents, rate_per_1000"
        " FROM stats.exam_rate ORDER BY ALL"
    )


def test_persons_and_not_exams_are_counted() -> None:
    found, problems = rate(
        """
        patient | region | modality | date
        p1      | 320583 | CT       | 2026-01-01
        p1      | 320583 | CT       | 2026-06-01
        p1      | 320500 | DX       | 2026-07-01
        p2      | 320100 | CT       | 2026-08-01
        """,
        population(("320500", 2026, 2000), ("320100", 2026, 4000)),
    )
    assert found == [
        ("2026", "320100", "CT", 1, 1, 4000, 0.25),
        ("2026", "320100", "all", 1, 1, 4000, 0.25),
        ("2026", "320500", "CT", 2, 1, 2000, 0.5),  # a county's exams are its prefecture's
        ("2026", "320500", "DX", 1, 1, 2000, 0.5),
        ("2026", "320500", "all", 3, 1, 2000, 0.5),
        ("2026", "all", "CT", 3, 2, 6000, pytest.approx(1 / 3)),
        ("2026", "all", "DX", 1, 1, 6000, pytest.approx(1 / 6)),
        ("2026", "all", "all", 4, 2, 6000, pytest.approx(1 / 3)),
    ]
    assert problems == []


def test_a_person_examined_in_two_years_counts_in_both() -> None:
    found, _ = rate("date \n 2025-12-31 \n 2026-01-01", population(("320500", 2025, 1000), ("320500", 2026, 1000)))
    assert [row[:5] for row in found if row[1] == "all" and row[2] == "all"] == [
        ("2025", "all", "all", 1, 1),
        ("2026", "all", "all", 1, 1),
    ]


def test_regions_without_a_population_have_rows_without_a_rate_and_are_in_no_total() -> None:
    found, problems = rate(
        """
        patient | region  | date
        p1      | 320500  | 2026-01-01
        p2      | 320100  | 2026-01-01
        p3      | UNKNOWN | 2026-01-01
        p4      | 320500  | -
        """,
        population(("320500", 2026, 1000)),
    )
    assert [row for row in found if row[2] == "all"] == [
        ("2026", "320100", "all", 1, 1, None, None),
        ("2026", "320500", "all", 1, 1, 1000, 1.0),
        ("2026", "UNKNOWN", "all", 1, 1, None, None),
        ("2026", "all", "all", 1, 1, 1000, 1.0),
        ("unknown", "320500", "all", 1, 1, None, None),
    ]
    assert [(severity, n) for severity, _, n in problems] == [("warn", 2)]


@pytest.mark.parametrize(
    ("lines", "residents"),
    [
        ([("320583", 2026, 600), ("320505", 2026, 400)], 1000),
        ([("320500", 2026, 1100), ("320583", 2026, 600), ("320505", 2026, 400)], 1100),
    ],
    ids=["counties add up", "a figure of the prefecture wins"],
)
def test_denominators(lines: list[tuple[str, int, int]], residents: int) -> None:
    found, _ = rate("date \n 2026-01-01", population(*lines), "SELECT DISTINCT n_residents FROM stats.exam_rate")
    assert found == [(residents,)]


def test_byars_limits() -> None:
    """65 events: 50.1632 to 82.8491 (worked example of public health texts)."""
    table = "patient | date \n" + "\n".join(f"p{i} | 2026-01-01" for i in range(65))
    found, _ = rate(
        table,
        population(("320500", 2026, 1000)),
        "SELECT rate_per_1000, rate_low, rate_high FROM stats.exam_rate"
        " WHERE region_code = '320500' AND modality_group = 'all'",
    )
    assert found == [(65.0, pytest.approx(50.1632, abs=2e-3), pytest.approx(82.8491, abs=2e-3))]


def test_a_year_that_is_not_wholly_observed_says_so_and_is_not_scaled() -> None:
    found, _ = rate(
        "date \n 2024-12-31 \n 2025-06-01 \n 2026-01-10",
        population(("320500", 2024, 1000), ("320500", 2025, 1000), ("320500", 2026, 1000)),
        "SELECT exam_year, region_code, n_observed_days, rate_per_1000 FROM stats.exam_rate"
        " WHERE modality_group = 'all' ORDER BY ALL",
    )
    assert found == [
        (year, region, days, 1.0)
        for year, days in (("2024", 1), ("2025", 365), ("2026", 10))
        for region in ("320500", "all")
    ]


def test_more_persons_than_residents_warns() -> None:
    table = "patient | date \n p1 | 2026-01-01 \n p2 | 2026-01-01 \n p3 | 2026-01-01"
    _, problems = rate(table, population(("320500", 2026, 2)))
    assert [(severity, text.split(";")[0]) for severity, text, _ in problems] == [
        ("warn", "more persons were examined than live in the region")
    ]
