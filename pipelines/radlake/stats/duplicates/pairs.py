"""SQL that finds and classes repeats in one pass over core.exam_sequence.

In a file of the sequence the row before an exam is its latest earlier exam, if it is of the same person and code at
all. So `lag() OVER ()`, which DuckDB streams without sorting, is the whole search. That a stream keeps the order of the
file is not promised by SQL: every query counts the rows that come too early, and an answer with one is refused
(`streamed`). The same window with its order spelled out needs a sort: it is the reference and the fallback.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from radlake.stats.duplicates.packs import RulePack, Windows

__all__ = [
    "BY_PART",
    "BY_PLACE",
    "FOLLOW_UP",
    "JUSTIFIED",
    "OUT_OF_ORDER",
    "POTENTIAL",
    "SAME_EPISODE",
    "Direction",
    "cells",
    "repeats",
]

# Class of a pair in `class_<pack>`: a justified one is JUSTIFIED + the place of its exclusion in the pack.
_NONE, SAME_EPISODE, POTENTIAL, FOLLOW_UP, JUSTIFIED = 0, 1, 2, 100, 200
OUT_OF_ORDER = "n_out_of_order"
Direction = Literal["back", "ahead"]
# What cells are counted by: names, and how a row of the sequence tells them.
BY_PLACE = {"exam_month": "exam_month", "site_code": "site_code", "modality_code": "exam_code >> 16"}
BY_PART = {
    "exam_year": "exam_month // 100",
    "modality_code": "exam_code >> 16",
    "body_part": "(exam_code >> 2) & 16383",
}
# Exams of one second, as those of studies without a time, have an order too: every way of counting takes the same.
_ORDERED = """(PARTITION BY patient_key, exam_code
    ORDER BY person_day, day_second, site_code, encounter_code, side_code, ground_bits, operation_days)"""
# Every comparison costs: an exam's code and its day are one number, and what decides most comes first. No window comes
# near the days that the number has room for, so what lies within the window is of the same code.
_DAY_BITS = 20
_REPEATS = """
SELECT
    cell_code,
    count(*) AS n_exams,
    count(*) FILTER (
        WHERE before_key = patient_key AND before_place >= place - {window_days} AND before_place < place
        AND (encounter_code <> before_encounter OR encounter_code = 0)
    ) AS n_repeats,
    count(*) FILTER (
        WHERE before_key > patient_key OR (before_place > place AND before_key = patient_key)
    ) AS {out_of_order}
FROM (
    SELECT
        patient_key,
        place,
        encounter_code,
        cell_code,
        lag(patient_key) OVER {window} AS before_key,
        lag(place) OVER {window} AS before_place,
        lag(encounter_code) OVER {window} AS before_encounter
    FROM (
        SELECT *, exam_code::BIGINT * {days} + person_day AS place FROM {relation}
    )
)
GROUP BY cell_code
"""
_NEIGHBOURS = ("patient_key", "exam_code", "person_day", "site_code", "encounter_code", "ground_bits", "side_code")


def cells(
    relation: str,
    *,
    packs: Mapping[str, RulePack],
    windows: Windows,
    direction: Direction,
    by: Mapping[str, str] = BY_PLACE,
    is_streamed: bool = True,
) -> str:
    """A query that counts exams by month, site and modality (or what else is asked), windows around, gap and class.

    Parameters
    ----------
    relation : str
        SQL of one file of core.exam_sequence, or of several in the order of persons.
    direction : {"back", "ahead"}
        "back" looks for the latest earlier exam of each, "ahead" for the next later one.
    by : mapping of str to str
        `BY_PLACE` or `BY_PART`.
    is_streamed : bool
        False spells the order out.
    """
    window = "()" if is_streamed else _ORDERED
    function = "lag" if direction == "back" else "lead"
    other = ", ".join(f"{function}({name}) OVER {window} AS other_{name}" for name in _NEIGHBOURS)
    later, earlier = ("", "other_") if direction == "back" else ("other_", "")
    operation = "operation_days" if direction == "back" else "other_operation_days"
    if direction == "ahead":
        other += f", {function}(operation_days) OVER {window} AS other_operation_days"
    classes = ", ".join(
        f"{_class_sql(pack, later=later, earlier=earlier, operation=operation)} AS class_{name}"
        for name, pack in packs.items()
    )
    names = ", ".join(f"class_{name}" for name in packs)
    fits = "n_windows_before" if direction == "back" else "n_windows_after"
    supplementary = f"{_reach_sql('supplementary_days', windows)} AS supplementary" if direction == "back" else "0"
    too_early = "<" if direction == "back" else ">"
    keys = ", ".join(f"{expression} AS {name}" for name, expression in by.items())
    return f"""
WITH neighbours AS (
    SELECT *, {other} FROM {relation}
),
found AS (
    SELECT
        *,
        CASE
            WHEN other_patient_key = patient_key AND other_exam_code = exam_code AND (exam_code & 3) <> 3
                THEN abs(person_day - other_person_day)
        END AS gap_days,
        patient_key {too_early} other_patient_key
        OR patient_key = other_patient_key
        AND (exam_code {too_early} other_exam_code
            OR exam_code = other_exam_code AND person_day {too_early} other_person_day) AS is_out_of_order
    FROM neighbours
),
classed AS (
    SELECT *, {classes} FROM found
)
SELECT
    {keys},
    (exam_code & 3) = 3 AS is_unmatchable,
    {fits} AS n_windows,
    {_reach_sql("gap_days", windows)} AS reach,
    CASE WHEN gap_days IS NULL THEN 0 ELSE
        (site_code <> other_site_code)::INTEGER
        | (((site_code >> 16) <> (other_site_code >> 16))::INTEGER * 2)
        | ((((site_code >> 12) & 15) <> ((other_site_code >> 12) & 15))::INTEGER * 4)
        | ((side_code + other_side_code IN (1, 2) AND side_code * other_side_code = 0)::INTEGER * 8)
    END AS apart,
    {supplementary},
    {names},
    count(*) FILTER (is_counted) AS n,
    count(*) FILTER (is_out_of_order) AS {OUT_OF_ORDER}
FROM classed
GROUP BY ALL
"""


def repeats(relation: str, *, window_days: int, is_streamed: bool = True) -> str:
    """A query that counts rows, and repeats within a window, by `cell_code`; the numbers say which of them count.

    Parameters
    ----------
    relation, is_streamed
        As in `cells`.
    """
    window = "()" if is_streamed else _ORDERED
    days = 1 << _DAY_BITS
    if not 0 < window_days < days // 10:
        raise ValueError(f"a window has 1 to {days // 10} days")
    return _REPEATS.format(
        relation=relation, window_days=window_days, window=window, days=days, out_of_order=OUT_OF_ORDER
    )


def _class_sql(pack: RulePack, *, later: str, earlier: str, operation: str) -> str:
    """Class of a pair by a pack; `later` and `earlier` are prefixes of the columns of the two exams."""
    cases = []
    for place, exclusion in enumerate(pack.exclusions):
        prefix = later if exclusion.ground.of == "later" else earlier
        condition = f"({prefix}ground_bits & {1 << exclusion.ground.bit}) <> 0"
        if exclusion.operation_within_days is not None:
            condition += f" OR {operation} BETWEEN 0 AND {exclusion.operation_within_days}"
        number = (FOLLOW_UP if exclusion.class_ == "follow_up" else JUSTIFIED) + place
        cases.append(f"WHEN {condition} THEN {number}")
    return (
        f"CASE WHEN gap_days IS NULL THEN {_NONE}"
        f" WHEN gap_days = 0 OR (encounter_code <> 0 AND encounter_code = other_encounter_code) THEN {SAME_EPISODE}"
        f" {' '.join(cases)} ELSE {POTENTIAL} END::SMALLINT"
    )


def _reach_sql(days: str, windows: Windows) -> str:
    """Place of the shortest window that reaches so many days, from 1; one more than there are when none does."""
    cases = " ".join(f"WHEN {days} <= {window} THEN {place}" for place, window in enumerate(windows.days, 1))
    return (
        f"CASE WHEN {days} IS NULL OR {days} < 0 THEN {len(windows.days) + 1} {cases} ELSE {len(windows.days) + 1} END"
    )
