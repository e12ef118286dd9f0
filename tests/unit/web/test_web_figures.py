"""Numbers of a figure: totals are read and never added up, what is withheld stays withheld."""

from __future__ import annotations

from datetime import datetime

import pytest

from radlake.web.cells import MASKED, AtLeast, Writer
from radlake.web.figures import duplicates, harvest, rates, volume
from radlake.web.figures.cube import calendar, share, sort_value
from radlake.web.grid import Chart, Column, Grid
from radlake.web.i18n import load_words
from radlake.web.pages import Empty, why_empty
from radlake.web.snapshot import Snapshot, take_snapshot
from radlake.web.view import View
from support import weblake

WRITER = Writer(load_words("en"), {}, {})
LINE = Chart("lines", series=(1,), colors=("volume",))
BARS = Chart("bars", series=(1,), colors=("volume",), horizontal=True)


def volumes(*rows: tuple[str, str, str, int | None]) -> list[dict]:
    """exam_volume rows from (month, hospital, modality, exams); None is withheld."""
    return [
        {
            "exam_month": month, "hospital_id": hospital, "modality_group": modality, "n_exams": n, "n_patients": n,
            "n_instances": n and n * 100, "exam_bytes": n and n * 1000, "is_masked": n is None,
        }
        for month, hospital, modality, n in rows
    ]  # fmt: skip


SMALL = take_snapshot(
    weblake.copy_of(
        stats_exam_volume=volumes(
            ("2026-01", "all", "CT", 40), ("2026-01", "all", "MR", None), ("2026-01", "all", "UNKNOWN", None),
            ("2026-01", "all", "all", 51),
            ("2026-03", "all", "CT", 30), ("2026-03", "all", "all", 30),
            ("unknown", "all", "CT", 12), ("unknown", "all", "all", 12),
            ("all", "all", "CT", 82), ("all", "all", "MR", None), ("all", "all", "UNKNOWN", None),
            ("all", "all", "all", 93),
            ("2026-01", "h1", "all", 40), ("2026-03", "h1", "all", 30), ("all", "h1", "all", 70),
            ("2026-01", "h2", "all", 11), ("2026-03", "h2", "all", None), ("all", "h2", "all", 15),
        ),
        ops_harvest_run=[{
            "run_id": "r", "hospital_id": "h1", "retrieve_kind": "c-get", "started_at": datetime(2026, 3, 30),
            "finished_at": datetime(2026, 3, 31, 15, 59), "n_studies_found": 1, "n_studies_complete": 1,
            "n_studies_partial": 0, "n_instances_stored": 1, "n_instances_quarantined": 0, "n_instances_duplicate": 0,
            "stored_bytes": 1, "deidentified_by": "{}", "error_class": None,
        }],
    )
)  # fmt: skip


def test_months_and_their_withheld_part_add_up_to_the_published_total() -> None:
    grid = volume.by_month(SMALL, View())

    assert [column.heading for column in grid.columns] == ["exam_month", "CT", "MR", "UNKNOWN", "withheld", "total"]
    assert [list(row) for row in grid.rows] == [
        ["2026-01", 40, MASKED, MASKED, 11, 51],
        ["2026-02", 0, 0, 0, 0, 0],
        ["2026-03", 30, 0, 0, 0, 30],
        ["unknown", 12, 0, 0, 0, 12],
    ]
    assert list(grid.total) == [82, MASKED, MASKED, 11, 93]


def test_a_single_withheld_cell_is_not_given_away_by_the_total() -> None:
    snapshot = take_snapshot(
        weblake.copy_of(
            stats_exam_volume=volumes(
                ("2026-01", "all", "CT", 40), ("2026-01", "all", "MR", None), ("2026-01", "all", "all", 45)
            )
        )
    )
    assert list(volume.by_month(snapshot, View()).rows[0]) == ["2026-01", 40, MASKED, MASKED, 45]


def test_month_is_incomplete_until_it_is_over_in_china() -> None:
    assert volume.by_month(SMALL, View()).incomplete == {2}  # 2026-03-31 15:59 UTC is 23:59 in China
    assert SMALL.is_incomplete("2026")
    assert not SMALL.is_incomplete("2026-02")
    assert not SMALL.is_incomplete("unknown")


def test_range_is_the_sum_of_its_months_and_leaves_out_unknown_dates() -> None:
    assert volume.total(SMALL, View(first="2026-01", last="2026-03"))["n_exams"] == 81
    assert volume.total(SMALL, View())["n_exams"] == 93


def test_range_with_a_withheld_month_is_a_lower_limit() -> None:
    grid = volume.by_hospital(SMALL, View(first="2026-01"))

    assert [list(row) for row in grid.rows] == [
        ["h1", 70, None, 7000, 70000],
        ["h2", AtLeast(11), None, AtLeast(1100), AtLeast(11000)],
    ]
    assert list(grid.total) == [81, None, 8100, 81000]


def test_withheld_range_without_any_told_month_is_withheld() -> None:
    assert volume.total(SMALL, View(hospital="h2", first="2026-03"))["n_exams"] is MASKED
    assert volume.total(SMALL, View(modality="MR", first="2026-01"))["n_exams"] is MASKED


def test_persons_of_several_months_have_no_sum() -> None:
    assert volume.total(SMALL, View(first="2026-01"))["n_patients"] is None
    assert volume.total(SMALL, View(first="2026-01", last="2026-01"))["n_patients"] == 51


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [(1, 4, 0.25), (0, 4, 0.0), (0, 0, None), (None, None, None), (MASKED, 4, MASKED), (AtLeast(1), 4, MASKED)],
    ids=str,
)
def test_share(part: object, whole: object, expected: object) -> None:
    assert share(part, whole) == expected  # pyright: ignore[reportArgumentType]


def test_largest_first_and_untold_last() -> None:
    assert sorted([None, 3, MASKED, AtLeast(5), 0.5], key=sort_value) == [AtLeast(5), 3, 0.5, None, MASKED]


def test_calendar_has_no_hole_in_the_last_three_years() -> None:
    assert calendar(["2025-11", "2026-02", "unknown"]) == (["2025-11", "2025-12", "2026-01", "2026-02", "unknown"], 0)
    assert calendar(["2004-12", "1997-04", "2025-12", "2026-01"]) == (["1997-04", "2004-12", "2025-12", "2026-01"], 2)
    assert len(calendar(["2023-02", "2023-03", "2026-02"])[0]) == 37
    assert calendar([]) == ([], 0)
    assert calendar(["unknown"]) == (["unknown"], 0)


def test_chart_of_a_long_series_shows_its_end_and_of_a_long_list_its_beginning() -> None:
    columns = [Column("exam_month", "month"), Column("total", "count")]
    series = Grid(columns, [(str(month), 1) for month in range(50)], chart=LINE, first_drawn=14)
    bars = Grid(columns, [(str(hospital), 1) for hospital in range(50)], chart=BARS)

    assert series.drawn == range(14, 50)
    assert series.shown(40) == range(10, 50)
    assert bars.drawn == range(15)
    assert bars.shown(40) == range(40)
    assert bars.shown(None) == range(50)


def test_chart_without_any_number_is_not_drawn_and_says_why() -> None:
    snapshot = take_snapshot(weblake.copy_of(stats_exam_volume=volumes(("all", "h1", "all", None))))
    grid = volume.by_hospital(snapshot, View())

    assert grid.payload(WRITER) is None
    assert why_empty(volume.FIGURES[1], grid, snapshot=snapshot, view=View()) == Empty("empty.withheld")


def test_duplicates_of_one_window_only_when_one_is_chosen() -> None:
    row = {"exam_month": "all", "hospital_id": "all", "modality_group": "all", "n_unmatchable": 0, "is_masked": False}
    columns = {c.name for c in weblake.load_table("stats.duplicate_exam").columns}
    rows = [
        {k: v for k, v in {**row, "window_days": window, "scope": scope, "n_exams": 200, "n_duplicates": n,
                           "duplicate_share": n / 200}.items() if k in columns}
        for window, scope, n in ((30, "any", 10), (90, "any", 20), (30, "within_hospital", 7),
                                 (30, "across_hospitals", 3))
    ]  # fmt: skip
    snapshot = take_snapshot(weblake.copy_of(stats_duplicate_exam=rows))

    assert [list(row) for row in duplicates.by_scope(snapshot, View(window="30")).rows] == [
        ["any", 200, 10, 0.05],
        ["within_hospital", 200, 7, 0.035],
        ["across_hospitals", 200, 3, 0.015],
    ]
    assert list(duplicates.by_scope(snapshot, View()).rows[0]) == ["any", 200, 10, 0.05, 200, 20, 0.1]


def rated(region: str, n: int | None, residents: int | None) -> dict:
    columns = {c.name for c in weblake.load_table("stats.exam_rate").columns}
    row = {
        "exam_year": "2025", "region_code": region, "modality_group": "all", "n_exams": n, "n_patients": n,
        "n_residents": residents, "n_observed_days": 365, "rate_per_1000": n and residents and n / residents * 1000,
        "rate_low": n and residents and 1.0, "rate_high": n and residents and 9.0, "is_masked": n is None,
    }  # fmt: skip
    return {name: value for name, value in row.items() if name in columns}


def test_region_without_population_and_withheld_region_are_rows() -> None:
    snapshot = take_snapshot(
        weblake.copy_of(
            stats_exam_rate=[
                rated("all", 50, 10_000),
                rated("320100", 50, 10_000),
                rated("320200", None, 900),
                rated("UNKNOWN", 20, None),
            ]
        )
    )
    grid = rates.by_region(snapshot, View())

    assert [(row[0], row[1]) for row in grid.rows] == [
        ("320100", 5.0),
        ("320200", MASKED),
        ("UNKNOWN", None),
        ("all", 5.0),
    ]


def test_board_has_registered_hospitals_that_were_never_harvested() -> None:
    snapshot = take_snapshot(
        weblake.copy_of(
            ref_hospital=[
                {"hospital_id": "h9", "name_zh": "医院", "name_en": "Hospital", "region_code": "UNKNOWN",
                 "hospital_level": "3A", "storage_policy": "central"}
            ]
        )
    )  # fmt: skip
    assert [list(row) for row in harvest.board(snapshot, View()).rows] == [
        ["h9", "3A", "central", None, None, None, None, None, None, None, "never"]
    ]


def snapshot_with(**rows: list[dict]) -> Snapshot:
    return take_snapshot(weblake.copy_of(**rows))


def test_rates_without_any_population_keep_their_rows_and_say_what_is_missing() -> None:
    snapshot = take_snapshot(weblake.copy_of(stats_exam_rate=[rated("all", 50, None), rated("320100", 50, None)]))
    grid = rates.by_region(snapshot, View())

    assert [(row[0], row[1], row[4]) for row in grid.rows] == [("320100", None, 50), ("all", None, 50)]
    assert grid.payload(WRITER) is None
    assert why_empty(rates.FIGURES[0], grid, snapshot=snapshot, view=View(modality="CT")) == Empty(
        "empty.rate", "radlake ref"
    )


def test_empty_figure_says_why_and_what_next() -> None:
    figure, nothing = volume.FIGURES[0], Grid([], [])
    harvest_first = Empty("empty.harvest", "radlake harvest")

    assert why_empty(figure, nothing, snapshot=snapshot_with(), view=View()) == harvest_first
    assert why_empty(harvest.FIGURES[2], nothing, snapshot=snapshot_with(), view=View()) == harvest_first
    assert why_empty(figure, nothing, snapshot=SMALL, view=View(hospital="h1", modality="MR")) == Empty("empty.filter")
