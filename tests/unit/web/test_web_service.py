"""Figures of service, dose, quality and measures: published shares are read, and what is withheld stays withheld."""

from __future__ import annotations

from datetime import datetime

import pytest

from radlake.web.cells import MASKED, AtLeast, Writer
from radlake.web.figures import dose, league, measures, reminders, service
from radlake.web.grid import Grid
from radlake.web.i18n import load_words
from radlake.web.pages import Empty, why_empty
from radlake.web.snapshot import Snapshot, take_snapshot
from radlake.web.tilemap import JIANGSU, tiles_of
from radlake.web.view import View
from support import weblake

WRITER = Writer(load_words("en"), {}, {})


def uploads(*rows: tuple[str, str, int | None, float | None]) -> Snapshot:
    """upload_compliance rows from (month, hospital, exams, share); None is withheld, or too few for a share."""
    return take_snapshot(
        weblake.copy_of(
            stats_upload_compliance=[
                {
                    "exam_month": month, "hospital_id": hospital, "n_exams": n, "n_due": n, "n_in_time": n,
                    "n_late": n and 0, "n_waiting": n and 0, "n_never_uploaded": n and 0, "n_pending": n and 0,
                    "n_clock_ahead": n and 0,
                    "in_time_share": share, "p50_hours": share and 2.0, "p95_hours": share and 9.0,
                    "p99_hours": share and 11.0, "denominator": "listed", "is_masked": n is None,
                }
                for month, hospital, n, share in rows
            ]
        )
    )  # fmt: skip


UPLOADS = uploads(
    ("2026-01", "all", 120, 0.93), ("2026-02", "all", 100, 0.95), ("all", "all", 220, 0.94),
    ("2026-01", "h1", 100, 0.97), ("2026-02", "h1", 90, 0.98), ("all", "h1", 190, 0.97),
    ("2026-01", "h2", 20, 0.8), ("2026-02", "h2", None, None), ("all", "h2", 30, 0.8),
    ("all", "h3", 10, None), ("all", "h4", None, None),
)  # fmt: skip


def column(grid: Grid, heading: str) -> int:
    return [one.heading for one in grid.columns].index(heading)


def test_published_share_is_read_and_not_calculated() -> None:
    assert service.COMPLIANCE.total(UPLOADS, View())["in_time_share"] == 0.94  # 220 of 220 would be 1
    grid = service.COMPLIANCE.by_month(UPLOADS, View())
    place = column(grid, "in_time_share")
    assert [(row[0], row[place]) for row in grid.rows] == [("2026-01", 0.93), ("2026-02", 0.95)]
    assert grid.total[place - 1] == 0.94


def test_least_in_time_comes_first_and_what_cannot_be_told_last() -> None:
    grid = service.compliance_by_hospital(UPLOADS, View())
    place = column(grid, "in_time_share")
    assert [(row[0], row[place]) for row in grid.rows] == [("h2", 0.8), ("h1", 0.97), ("h3", None), ("h4", MASKED)]


def test_several_months_have_counts_and_no_share() -> None:
    grid = service.compliance_by_hospital(UPLOADS, View(first="2026-01", last="2026-02"))
    due, share = column(grid, "n_due"), column(grid, "in_time_share")
    assert [(row[0], row[due], row[share]) for row in grid.rows] == [("h1", 190, None), ("h2", AtLeast(20), None)]
    assert service.COMPLIANCE.by_month(UPLOADS, View(first="2026-02", last="2026-02")).total[share - 1] == 0.95


def test_line_without_a_share_says_which_months_to_choose() -> None:
    view = View(first="2026-01", last="2026-02")
    figure, grid = service.FIGURES[4], service.turnaround_by_hospital(UPLOADS, view)
    several = Grid(grid.columns, [("h1", 5, None, None, None, None, None)], chart=grid.chart)
    assert why_empty(figure, several, snapshot=UPLOADS, view=view) == Empty("empty.several_months")


def test_grounds_of_overrides_are_all_told_in_the_order_of_the_rules() -> None:
    shares = {f"{ground}_share": number / 100 for number, ground in enumerate(reminders.GROUNDS)}
    counts = dict.fromkeys(
        ("n_orders", "n_shown", "n_muted", "n_accepted", "n_overridden", "n_ignored", "n_opened"), 100
    )
    row = {"reminder_month": "all", "hospital_id": "all", "shown_share": 0.05, "accepted_share": 0.4,
           "p50_open_seconds": 20.0, "is_masked": False} | counts | shares  # fmt: skip
    snapshot = take_snapshot(weblake.copy_of(stats_reminder=[row]))
    assert [row[0] for row in reminders.by_ground(snapshot, View()).rows] == [*reminders.GROUNDS]
    assert all(load_words("zh-CN").get(f"ground.{ground}") for ground in reminders.GROUNDS)
    assert WRITER.screen(reminders.REMINDERS.total(snapshot, View())["shown_share"], "hundred") == "5"


def doses(hospital: str, part: str, n: int | None, median: float | None, *, level: float | None = 15.0) -> dict:
    told = dict.fromkeys(
        ("n_events", "ctdi_vol_p75_mgy", "dlp_median_mgy_cm", "dlp_p75_mgy_cm", "dlp_drl_mgy_cm", "dap_median_gy_m2",
         "agd_median_mgy", "effective_dose_median_msv")
    )  # fmt: skip
    return told | {
        "exam_year": "2026", "hospital_id": hospital, "modality_group": "CT", "body_part_code": part, "n_reported": n,
        "ctdi_vol_median_mgy": median, "ctdi_vol_drl_mgy": level, "is_drl_verified": None if level is None else False,
        "is_above_drl": None if median is None or level is None else median > level, "is_masked": n is None,
    }  # fmt: skip


def test_reference_level_of_the_standard_is_told_where_the_dose_is_withheld() -> None:
    snapshot = take_snapshot(
        weblake.copy_of(
            stats_dose=[doses("all", "HEAD", None, None, level=60.0), doses("all", "CHEST", 80, 16.0),
                        doses("all", "EAR", 20, 30.0, level=None), doses("h1", "CHEST", 80, 16.0)]
        )
    )  # fmt: skip
    grid = dose.by_part(snapshot, View())
    places = [column(grid, name) for name in ("body_part", "ctdi_vol_median", "ctdi_vol_drl", "is_above_drl")]
    assert [tuple(row[i] for i in places) for row in grid.rows] == [
        ("CHEST", 16.0, 15.0, "yes"),
        ("EAR", 30.0, None, None),
        ("HEAD", MASKED, 60.0, MASKED),
    ]
    assert dose.total(snapshot, View()) == {"n_exams": 100, "n_levels": 1, "n_above": 1}
    assert [row[:2] for row in dose.by_hospital(snapshot, View()).rows] == [("h1", "CHEST")]
    assert grid.caption
    assert grid.caption(WRITER) == "Year 2026"


def test_reported_doses_of_repeats_and_typical_values_are_rows_apart() -> None:
    cell = {"exam_year": "2026", "modality_group": "CT", "body_part_code": "CHEST", "is_masked": False}
    cell |= dict.fromkeys(("dlp_mgy_cm", "effective_dose_low_msv", "effective_dose_high_msv", "typical_source"))
    given = [
        cell | {"dose_basis": "typical", "n_repeats": 40, "effective_dose_msv": 280.0, "typical_source": "a book"},
        cell | {"dose_basis": "estimated", "n_repeats": 120, "effective_dose_msv": 670.0},
        cell | {"dose_basis": "unknown", "n_repeats": None, "effective_dose_msv": None, "is_masked": True},
        cell | {"dose_basis": "typical", "n_repeats": 40, "effective_dose_msv": 1.0, "body_part_code": "all"},
        cell | {"dose_basis": "typical", "n_repeats": 90, "effective_dose_msv": 2.0, "exam_year": "all"},
    ]
    grid = dose.in_repeats(take_snapshot(weblake.copy_of(stats_repeat_dose=given)), View())
    places = [column(grid, name) for name in ("dose_basis", "typical_source", "n_repeats", "dose_sum")]
    assert [tuple(row[i] for i in places) for row in grid.rows] == [
        ("estimated", None, 120, 670.0), ("typical", "a book", 40, 280.0), ("unknown", None, MASKED, MASKED),
    ]  # fmt: skip
    assert WRITER.screen("typical", "basis") == "Typical value"


def faulty(hospital: str, topic: str, share: float | None, *, is_masked: bool = False) -> dict:
    n = None if is_masked else 100
    return {"exam_month": "all", "hospital_id": hospital, "topic_code": topic, "n_checked": n,
            "n_failed": None if n is None or share is None else round(n * share), "failed_share": share,
            "is_masked": is_masked}  # fmt: skip


def test_hospital_without_any_told_share_has_no_score_and_is_not_the_best() -> None:
    snapshot = take_snapshot(
        weblake.copy_of(
            stats_data_quality=[
                faulty("all", "no_date", 0.1), faulty("all", "no_body_part", 0.2), faulty("h1", "no_date", 0.2),
                faulty("h1", "no_body_part", 0.1), faulty("h2", "no_date", 0.01),
                faulty("h3", "no_date", None, is_masked=True),
            ]
        )
    )  # fmt: skip
    assert [list(row) for row in league.league(snapshot, View()).rows] == [
        ["h2", 1, 99.0, "no_date", None, None],
        ["h1", 2, 75.0, "no_date", "no_body_part", None],
        ["h3", None, MASKED, None, None, None],
    ]
    assert [row[1] for row in league.league(snapshot, View(hospital="h1")).rows] == [2]
    assert [row[0] for row in league.faults(snapshot, View()).rows] == ["no_body_part", "no_date"]


def measured(year: str, region: str, rate: float | None, **more: object) -> dict:
    row = dict.fromkeys(
        ("n_exams", "n_persons", "n_unclassified", "smoothed_rate", "apc_percent", "apc_low", "apc_high")
    )
    return row | {
        "measure_id": "0" * 16, "exam_year": year, "region_code": region, "patient_sex": "none", "age_band": "none",
        "modality_group": "none", "body_part_code": "none", "person_years": 1000, "rate": rate,
        "rate_low": rate and rate - 1, "rate_high": rate and rate + 1, "problem": "", "is_masked": rate is None,
    } | more  # fmt: skip


MEASURED = take_snapshot(
    weblake.copy_of(
        stats_measure=[
            measured("2025", "320100", 5.0), measured("2025", "320500", None), measured("2025", "all", 6.0),
            measured("2026", "320100", 7.0), measured("2026", "320500", 9.0), measured("2026", "all", 8.0),
            measured("all", "320100", 6.0), measured("all", "all", 7.0, apc_percent=4.0),
        ],
        stats_measure_definition=[{
            "measure_id": "0" * 16, "measure": "ct", "measure_version": 1, "title_zh": "率", "title_en": "Rate",
            "formula_zh": "式", "formula_en": "a / b", "definition": '{"rate":{"per":100000}}', "snapshot": "{}",
            "disclosure_policy": "{}", "released_at": datetime(2026, 11, 1),
        }],
    )
)  # fmt: skip


def test_measure_of_a_year_by_region_with_the_withheld_city_as_withheld() -> None:
    latest = measures.by_region(MEASURED, View())
    assert [row[:2] for row in latest.rows] == [("320500", 9.0), ("320100", 7.0), ("all", 8.0)]
    earlier = measures.by_region(MEASURED, View(year="2025"))
    assert [row[:2] for row in earlier.rows] == [("320100", 5.0), ("320500", MASKED), ("all", 6.0)]
    tiles = {tile.code: tile for tile in earlier.tiles}
    assert (tiles["320500"].cell, tiles["320500"].step) == (MASKED, None)
    assert tiles["320300"].cell is None
    assert earlier.caption
    assert earlier.caption(WRITER) == "Rate, per 100,000: a / b, 2025"


def test_trend_has_its_years_as_rows_and_its_change_as_total() -> None:
    grid = measures.by_year(MEASURED, View())
    assert [row[:2] for row in grid.rows] == [("2025", 6.0), ("2026", 8.0)]
    assert grid.total[column(grid, "apc_percent") - 1] == 4.0


def test_measure_that_is_not_split_by_age_shows_nothing_and_says_so() -> None:
    grid = measures.by_sex_and_age(MEASURED, View())
    assert grid.rows == []
    empty = why_empty(measures.FIGURES[2], grid, snapshot=MEASURED, view=View())
    assert empty == Empty("empty.measure", "radlake measure run")


def test_tile_map_has_every_city_once_and_none_above_another() -> None:
    assert len(JIANGSU) == 13
    assert len(set(JIANGSU.values())) == 13
    assert tiles_of({"330100": 1.0}) == ()
    assert {tile.step for tile in tiles_of(dict.fromkeys(JIANGSU, 2.0))} == {2}


@pytest.mark.parametrize(("value", "told"), [(12.25, "12.2"), (0.034, "0.034"), (0.0, "0.0"), (1234.5, "1,234.5")])
def test_small_decimals_keep_two_digits(value: float, told: str) -> None:
    assert WRITER.screen(value, "decimal") == told
