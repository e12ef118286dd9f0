"""Repeats by window on the page: what is shown of which filter, and how each number is named."""

from __future__ import annotations

from typing import Any

import pytest

from radlake.web.cells import Writer
from radlake.web.figures import repeats
from radlake.web.i18n import load_words
from radlake.web.pages import Empty, why_empty
from radlake.web.snapshot import take_snapshot
from radlake.web.view import View
from support import weblake

COUNTS = [name for name, kind in repeats.MEASURES.items() if kind == "count"]
TOTAL = dict.fromkeys(repeats.DIMENSIONS, "all")


def released(share: float | None, *, window: int = 30, year: str = "all", pack: str = "clinical_v1", **of: str) -> dict:
    shares = {"potential_share": share, "potential_across_share": 0.01, "repeat_share": 0.2, "indexed_share": 0.1}
    row: dict[str, Any] = {"rule_pack": pack, "window_days": window, "exam_year": year, "is_masked": False}
    return row | TOTAL | of | shares | dict.fromkeys(COUNTS, 10 * window)


SNAPSHOT = take_snapshot(
    weblake.copy_of(
        stats_repeat_window=[
            released(0.05),
            released(0.02, window=7),
            released(0.09, window=180, modality_group="CT", body_part_code="CHEST"),
            released(0.03, window=7, modality_group="CT", body_part_code="CHEST"),
            released(None, window=180, modality_group="MR", body_part_code="HEAD"),
            released(0.04, region_code="320100"),
            released(0.06, region_code="320500"),
            released(0.07, year="2026"),
            released(0.99, region_code="320500", pack="lawful_v1"),
            released(0.08, window=90, region_code="320500"),
            released(0.5, hospital_level="3A"),
        ]
    )
)
WRITER = Writer(load_words("en"), {}, {})


def shares(grid) -> list[tuple]:
    return [row[:2] for row in grid.rows]


def test_windows_stand_in_their_order_and_cities_by_their_share() -> None:
    assert shares(repeats.by_window(SNAPSHOT, View())) == [("7", 0.02), ("30", 0.05)]
    assert shares(repeats.by_window(SNAPSHOT, View(region="320500"))) == [("30", 0.06), ("90", 0.08)]
    assert shares(repeats.by_city(SNAPSHOT, View())) == [("320500", 0.06), ("320100", 0.04)]
    assert shares(repeats.by_city(SNAPSHOT, View(window="90"))) == [("320500", 0.08)]
    assert shares(repeats.by_city(SNAPSHOT, View(region="320100"))) == [("320100", 0.04)]
    assert shares(repeats.by_level(SNAPSHOT, View())) == [("3A", 0.5)]
    tiles = {tile.code: tile.cell for tile in repeats.by_city(SNAPSHOT, View()).tiles}
    assert tiles["320500"] == 0.06


def test_months_of_one_year_show_that_year_and_the_caption_says_so() -> None:
    grid = repeats.by_window(SNAPSHOT, View(first="2026-02", last="2026-06"))
    assert shares(grid) == [("30", 0.07)]
    both = repeats.by_window(SNAPSHOT, View(first="2025-02", last="2026-06"))
    cities = repeats.by_city(SNAPSHOT, View(first="2026-02", last="2026-06"))
    assert [one.caption and one.caption(WRITER) for one in (grid, both, cities)] == [
        "Year 2026; rule pack clinical_v1",
        "All years; rule pack clinical_v1",
        "All years; within 30 days; rule pack clinical_v1",
    ]


def test_an_examination_has_a_share_of_every_window() -> None:
    grid = repeats.by_exam(SNAPSHOT, View())
    assert [WRITER.words(f"column.{column.heading}") for column in grid.columns[:3]] == [
        "Modality", "Body part", "Repeats after exclusions",
    ]  # fmt: skip
    assert [column.title(WRITER) for column in grid.columns[3:]] == ["7 days", "180 days"]
    assert [tuple(row) for row in grid.rows] == [("CT", "CHEST", 1800, 0.03, 0.09), ("MR", "HEAD", 1800, None, None)]
    assert grid.number(0, 4) == (
        "stats.repeat_window/rule_pack=clinical_v1/exam_year=all/window_days=180/modality_group=CT"
        "/body_part_code=CHEST/potential_share"
    )
    assert [row[0] for row in repeats.by_exam(SNAPSHOT, View(modality="MR")).rows] == ["MR"]


def test_a_number_is_named_by_its_key() -> None:
    grid = repeats.by_city(SNAPSHOT, View())
    assert grid.number(0, 1) == (
        "stats.repeat_window/rule_pack=clinical_v1/window_days=30/exam_year=all/region_code=320500/potential_share"
    )


@pytest.mark.parametrize("view", [View(hospital="h1"), View(region="320102")], ids=["hospital", "county"])
def test_what_is_not_released_is_not_shown_and_the_page_says_why(view: View) -> None:
    for figure in repeats.FIGURES:
        grid = figure.build(SNAPSHOT, view)
        assert list(grid.rows) == []
        assert why_empty(figure, grid, snapshot=SNAPSHOT, view=view) == Empty("empty.repeat_window")
    nothing = take_snapshot(weblake.copy_of())
    grid = repeats.by_city(nothing, View())
    assert why_empty(repeats.FIGURES[1], grid, snapshot=nothing, view=View()) == Empty(
        "empty.repeats", "radlake duplicates build"
    )
