"""stats.exam_volume: cells, totals, true months, unknown months."""

from __future__ import annotations

from datetime import datetime

from support.rows import rows
from support.statistics import exams, number_of, tables

EXAMS = """
    patient | hospital | region | modality | date
    p1      | h1       | 320500 | CT       | 2026-03-31
    p1      | h1       | 320500 | CT       | 2026-04-01
    p1      | h2       | 320100 | CT       | 2026-04-02
    p2      | h2       | 320100 | DX       | 2026-04-03
    p3      | h2       | 320100 | DX       | -
"""


def test_cells_and_totals() -> None:
    with tables({"core.exam": exams(EXAMS)}) as db:
        db.build("stats.exam_volume")
        found = db.rows(
            "SELECT exam_month, hospital_id, region_code, modality_group, n_exams, n_patients FROM stats.exam_volume"
        )
        assert sorted(found) == sorted(
            [
                ("2026-03", "h1", "320500", "CT", 1, 1),
                ("2026-04", "h1", "320500", "CT", 1, 1),
                ("2026-04", "h2", "320100", "CT", 1, 1),
                ("2026-04", "h2", "320100", "DX", 1, 1),
                ("unknown", "h2", "320100", "DX", 1, 1),
                ("2026-03", "h1", "320500", "all", 1, 1),
                ("2026-04", "h1", "320500", "all", 1, 1),
                ("2026-04", "h2", "320100", "all", 2, 2),
                ("unknown", "h2", "320100", "all", 1, 1),
                ("2026-03", "all", "all", "CT", 1, 1),
                ("2026-04", "all", "all", "CT", 2, 1),  # p1 twice: two exams of one person
                ("2026-04", "all", "all", "DX", 1, 1),
                ("unknown", "all", "all", "DX", 1, 1),
                ("all", "h1", "320500", "CT", 2, 1),
                ("all", "h2", "320100", "CT", 1, 1),
                ("all", "h2", "320100", "DX", 2, 2),
                ("2026-03", "all", "all", "all", 1, 1),
                ("2026-04", "all", "all", "all", 3, 2),
                ("unknown", "all", "all", "all", 1, 1),
                ("all", "h1", "320500", "all", 2, 1),
                ("all", "h2", "320100", "all", 3, 3),
                ("all", "all", "all", "CT", 3, 1),
                ("all", "all", "all", "DX", 2, 2),
                ("all", "all", "all", "all", 5, 3),
            ]
        )
        assert [(severity, n) for severity, _, n in db.problems("stats.exam_volume")] == [("warn", 1)]


def test_months_are_true_months() -> None:
    """Shifted to 2025-12-31 by 91 days: the exam was on 2026-04-01."""
    lake = exams("patient | date \n p1 | 2025-12-31 23:59:00")
    with tables({"core.exam": lake}, offsets={number_of("p1"): -91}) as db:
        db.build("stats.exam_volume")
        assert {month for (month,) in db.rows("SELECT exam_month FROM stats.exam_volume")} == {"2026-04", "all"}


def test_a_person_without_an_offset_fails_the_check() -> None:
    """No exam may fall out of a statistic unseen."""
    data = rows("core.exam", {"patient_key": 7, "study_at": datetime(2026, 3, 1, 8)})
    with tables({"core.exam": data}) as db:
        db.offsets({})
        db.build("stats.exam_volume", "stats.exam_rate")
        for name in ("stats.exam_volume", "stats.exam_rate"):
            assert [severity for severity, _, _ in db.problems(name)] == ["fail"]
