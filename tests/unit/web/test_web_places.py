"""Regions are sums of their hospitals: what is withheld of one is never told by its region, and no hospital is lost."""

from __future__ import annotations

import pytest

from radlake.web.cells import MASKED, AtLeast
from radlake.web.figures import duplicates, harvest
from radlake.web.figures.cube import read_cube
from radlake.web.numbers import names_of
from radlake.web.render import _leads_to_exams, _trail
from radlake.web.snapshot import Snapshot, take_snapshot
from radlake.web.view import View, ViewInvalid
from support import weblake

PLACES = {"h1": "320100", "h2": "320102", "h3": "320102", "h4": "320300", "h5": "UNKNOWN"}  # h6 is not registered
# exams and duplicates over all months; None is withheld
SHOWN = {"h1": (100, 10), "h2": (40, None), "h3": (60, 6), "h4": (30, 3), "h5": (20, 2), "h6": (50, 5)}


def volume(hospital: str, n: int | None, month: str = "all") -> dict:
    counts = dict.fromkeys(("n_exams", "n_patients", "n_instances", "exam_bytes"), n)
    return {"exam_month": month, "hospital_id": hospital, "modality_group": "all", **counts, "is_masked": n is None}


def duplicate(hospital: str, exams: int, found: int | None) -> dict:
    shown = None if found is None else exams
    return {
        "window_days": 30, "scope": "any", "exam_month": "all", "hospital_id": hospital, "modality_group": "all",
        "n_exams": shown, "n_unmatchable": None if found is None else 0, "n_duplicates": found,
        "duplicate_share": None if found is None else found / exams, "is_masked": found is None,
    }  # fmt: skip


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    return take_snapshot(
        weblake.copy_of(
            ref_hospital=[
                {"hospital_id": h, "name_zh": "医院", "name_en": "Hospital", "region_code": place,
                 "hospital_level": "3A", "storage_policy": "central"}
                for h, place in PLACES.items()
            ],
            stats_exam_volume=[volume(h, 10) for h in SHOWN],
            stats_duplicate_exam=[duplicate("all", 300, 30), *(duplicate(h, *n) for h, n in SHOWN.items())],
        )
    )  # fmt: skip


def counts(snapshot: Snapshot, view: View) -> dict:
    return {row[0]: tuple(row[1:4]) for row in duplicates.by_region(snapshot, view).rows}


def test_each_level_is_the_sum_of_its_hospitals_and_a_lower_limit_where_one_is_withheld(snapshot: Snapshot) -> None:
    assert counts(snapshot, View(window="30")) == {
        "320100": (AtLeast(160), AtLeast(16), MASKED),
        "320300": (30, 3, 0.1),
        "UNKNOWN": (70, 7, 0.1),
    }
    assert counts(snapshot, View(window="30", region="320100")) == {
        "320100": (100, 10, 0.1),
        "320102": (AtLeast(60), AtLeast(6), MASKED),
    }
    assert counts(snapshot, View(window="30", region="320102")) == {"320102": (AtLeast(60), AtLeast(6), MASKED)}


def test_region_of_one_withheld_hospital_is_withheld() -> None:
    alone = take_snapshot(
        weblake.copy_of(
            ref_hospital=[{"hospital_id": "h2", "name_zh": "医", "name_en": "H", "region_code": "320102",
                           "hospital_level": "3A", "storage_policy": "central"}],
            stats_exam_volume=[volume("h2", None)],
            stats_duplicate_exam=[duplicate("all", 300, 30), duplicate("h2", 40, None)],
        )
    )  # fmt: skip
    assert counts(alone, View(window="30")) == {"320100": (MASKED, MASKED, MASKED)}
    assert duplicates.total(alone, View(region="320102"), window="30")["n_duplicates"] is MASKED


def test_view_of_a_region_holds_its_hospitals_and_no_other(snapshot: Snapshot) -> None:
    view = View(region="320100", window="30")
    rows = {row[0]: row[1] for row in duplicates.by_hospital(snapshot, view).rows}
    assert rows == {"h1": 100, "h2": MASKED, "h3": 60}
    assert duplicates.total(snapshot, view, window="30")["n_exams"] == AtLeast(160)
    assert duplicates.total(snapshot, View(region="320100", hospital="h1"), window="30")["n_exams"] == 100
    assert duplicates.total(snapshot, View(region="320300", hospital="h1"), window="30") == {}
    assert {row[0] for row in harvest.board(snapshot, View(region="320102")).rows} == {"h2", "h3"}
    assert harvest.total(snapshot, View(region="UNKNOWN"))["n_registered"] == 1


def test_nothing_that_is_published_ready_made_is_added_up(snapshot: Snapshot) -> None:
    found = read_cube(
        snapshot, "stats.duplicate_exam", ("n_exams",), by=(), view=View(region="UNKNOWN"), told=("duplicate_share",),
    )  # fmt: skip
    assert found == {(): {"n_exams": 70, "duplicate_share": None}}


def test_regions_come_from_the_link_and_others_are_refused(snapshot: Snapshot) -> None:
    assert snapshot.places == ("320100", "320102", "320300", "UNKNOWN")
    view = View.from_query({"region": "320102", "hospital": "h2"}, snapshot=snapshot)
    assert view.query() == "region=320102&hospital=h2"
    for wrong in ("320000", "320103", "32", "%"):
        with pytest.raises(ViewInvalid):
            View.from_query({"region": wrong}, snapshot=snapshot)


def test_trail_leads_from_all_regions_to_the_hospital(snapshot: Snapshot) -> None:
    assert [code for code, _, _ in _trail(snapshot, View(hospital="h2"))] == ["all", "320100", "320102", "h2"]
    assert [code for code, _, _ in _trail(snapshot, View(region="320100"))] == ["all", "320100"]
    assert [code for code, _, _ in _trail(snapshot, View(hospital="h6"))] == ["all", "UNKNOWN", "h6"]
    assert _trail(snapshot, View()) == []


def test_sum_of_a_region_has_no_name_and_counts_of_a_hospital_lead_to_their_exams() -> None:
    fixed = {"hospital_id": "", "modality_group": "CT"}
    row, column = ("CT", 3), duplicates._columns(["30"])[0]
    of_region = names_of("stats.x", by="modality_group", fixed=fixed, view=View(region="320100"))
    of_all = names_of("stats.x", by="modality_group", fixed=fixed, view=View())
    assert of_region(row, column) is None
    assert of_all(row, column) == "stats.x/modality_group=CT/n_exams_30"
    assert _leads_to_exams("stats.x/hospital_id=h1/window_days=30/n_duplicates")
    assert not _leads_to_exams("stats.x/hospital_id=h1/exam_month=2026-03/n_duplicates")
    assert not _leads_to_exams("stats.x/modality_group=CT/n_duplicates")
    assert not _leads_to_exams("stats.x/hospital_id=h1/duplicate_share")
