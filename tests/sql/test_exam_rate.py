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


def rate(table: str, people: Any, query: str = "", *, regions: Any = None) -> tuple[list[Any], list[Any]]:
    given = {"core.exam": exams(table), "ref.population": people} | ({"ref.region": regions} if regions else {})
    with tables(given) as db:
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


def became(*lines: tuple[str, int, str]):
    """(region, last year, code of the region that it became part of)."""
    names = ("region_code", "last_year", "successor_region_code")
    return rows("ref.region", *(dict(zip(names, line, strict=True)) for line in lines))


REGIONS = became(("371200", 2018, "370100"), ("370100", 9999, "NONE"))
JOINED = "region | date \n 370100 | 2018-03-01 \n 370100 | 2019-03-01"


def test_residents_are_of_the_boundaries_of_today() -> None:
    """Laiwu (371200) became part of Jinan (370100) in 2019: the rate of 2018 has the residents of both."""
    people = population(("370100", 2018, 7_000), ("371200", 2018, 1_000), ("370100", 2019, 8_400))
    query = "SELECT exam_year, region_code, n_residents FROM stats.exam_rate WHERE modality_group = 'all' ORDER BY ALL"
    found, problems = rate(JOINED, people, query, regions=REGIONS)
    assert found == [(y, r, n) for y, n in (("2018", 8_000), ("2019", 8_400)) for r in ("370100", "all")]
    assert problems == []
    without, _ = rate(JOINED, people, query)
    assert without[0] == ("2018", "370100", 7_000)


@pytest.mark.parametrize(
    ("people", "regions", "table", "reason"),
    [
        (
            [("371200", 2019, 1_000)],
            REGIONS,
            JOINED,
            "residents are of a year in which their region",
        ),
        ([], became(("371200", 2018, "370100")), JOINED, "a region became part of one that is not in ref.region"),
        (
            [],
            became(("371200", 2018, "370116"), ("370116", 2020, "370100"), ("370100", 9999, "NONE")),
            JOINED,
            "a region became part of one that is not in ref.region, or that became part of another itself",
        ),
        ([], REGIONS, "region | date \n 371200 | 2018-03-01", "exams are of hospitals that are registered in a region"),
    ],
    ids=["twice", "unknown", "a chain", "a hospital of before"],
)
def test_what_became_of_a_region_fits(
    people: list[tuple[str, int, int]], regions: Any, table: str, reason: str
) -> None:
    _, problems = rate(table, population(("370100", 2018, 7_000), ("370100", 2019, 8_400), *people), regions=regions)
    assert any(text.startswith(reason) for _, text, _ in problems)


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
