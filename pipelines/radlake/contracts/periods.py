"""Which numbers are of a calendar period, by their names (docs/adr/0037)."""

from __future__ import annotations

__all__ = ["is_of_period"]


def is_of_period(name: str) -> bool:
    """Whether the name of a number holds a calendar month or year: beside shifted dates it tells their shift.

    >>> is_of_period("stats.exam_volume/exam_month=2026-03/hospital_id=all/n_exams")
    True
    >>> is_of_period("stats.exam_volume/exam_month=all/hospital_id=h1/n_exams")
    False
    """
    keys = (part.partition("=") for part in name.split("/"))
    return any(label.endswith(("_month", "_year")) and value != "all" for label, _, value in keys)
