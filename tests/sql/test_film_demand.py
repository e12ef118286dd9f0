"""stats.film_demand: why film is still asked for, and what a film desk cannot have written."""

from __future__ import annotations

from typing import Any

from support.rows import rows
from support.statistics import tables


def demand(*lines: tuple[int, str, str, int, int]):
    names = ("film_month", "modality_group", "reason_code", "n_exams", "n_sheets")
    return rows("ref.film_demand", *({"hospital_id": "h1"} | dict(zip(names, line, strict=True)) for line in lines))


def ledger(n_sheets: int):
    return rows(
        "ref.film_ledger",
        {
            "hospital_id": "h1",
            "film_month": 202603,
            "modality_group": "CT",
            "n_sheets_printed": n_sheets,
            "n_sheets_unclaimed": 0,
        },
    )


ASKED = demand(
    (202603, "CT", "outside_visit", 40, 120),
    (202603, "CT", "insurance_claim", 16, 48),
    (202603, "CT", "unknown", 44, 90),
)


def built(given: Any, *, n_sheets: int, n_exams: int = 100) -> tuple[dict[str, tuple[int, int]], list[Any]]:
    saved = {"exam_month": "2026-03", "hospital_id": "h1", "modality_group": "CT", "is_masked": False}
    film = rows("stats.film_saving", saved | {"n_exams": n_exams})
    with tables({"ref.film_demand": given, "ref.film_ledger": ledger(n_sheets), "stats.film_saving": film}) as db:
        db.build("stats.film_demand")
        found = db.rows(
            "SELECT reason_code, n_exams_asked, n_sheets FROM stats.film_demand"
            " WHERE (exam_month, hospital_id, modality_group) = ('2026-03', 'h1', 'CT')"
        )
        return {reason: (exams, sheets) for reason, exams, sheets in found}, db.problems("stats.film_demand")


def test_reasons_add_up_to_the_total_and_what_was_not_noted_is_a_reason() -> None:
    found, problems = built(ASKED, n_sheets=258)
    assert found == {"outside_visit": (40, 120), "insurance_claim": (16, 48), "unknown": (44, 90), "all": (100, 258)}
    assert problems == []


def test_no_more_sheets_can_be_asked_for_than_were_printed() -> None:
    _, problems = built(ASKED, n_sheets=257)
    assert [(severity, n) for severity, _, n in problems] == [("fail", 1)]


def test_film_for_more_exams_than_there_were_is_told() -> None:
    _, problems = built(ASKED, n_sheets=258, n_exams=99)
    assert [(severity, n) for severity, _, n in problems] == [("warn", 1)]


def test_a_month_that_is_none_is_in_no_statistic_and_the_build_warns() -> None:
    found, problems = built(demand((202613, "CT", "other", 0, 0)), n_sheets=1)
    assert found == {}
    assert [(severity, n) for severity, _, n in problems] == [("warn", 1)]
