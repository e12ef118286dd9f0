"""The whole state of a page is in its URL and comes back from it."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radlake.web.snapshot import Snapshot, take_snapshot
from radlake.web.view import View, ViewInvalid
from support import weblake

ROW = {"n_exams": 12, "n_patients": 12, "n_instances": 12, "exam_bytes": 12, "is_masked": False}
SNAPSHOT: Snapshot = take_snapshot(
    weblake.copy_of(
        stats_exam_volume=[
            {"exam_month": month, "hospital_id": hospital, "modality_group": modality, **ROW}
            for month in ("2026-01", "2026-02", "all")
            for hospital in ("h1", "h2", "all")
            for modality in ("CT", "MR", "all")
        ]
    )
)
MONTHS = st.sampled_from(["", "2025-12", "2026-01", "2026-02"])
VIEWS = st.builds(
    View,
    hospital=st.sampled_from(["", "h1", "h2"]),
    first=MONTHS,
    last=MONTHS,
    modality=st.sampled_from(["", "CT", "MR"]),
    window=st.sampled_from(["", "30", "90"]),
    rows=st.sampled_from(["", "all"]),
).filter(lambda view: not (view.first and view.last) or view.first <= view.last)


@given(VIEWS)
def test_view_comes_back_from_its_link(view: View) -> None:
    assert View.from_query(dict(parse_qsl(view.query(lang="en"))), snapshot=SNAPSHOT) == view


@pytest.mark.parametrize(
    "query",
    [
        {"hospital": "h3"},
        {"hospital": "all"},
        {"modality": "<script>"},
        {"window": "45"},
        {"from": "2026-13"},
        {"from": "2026-1"},
        {"to": "unknown"},
        {"from": "2026-02", "to": "2026-01"},
        {"rows": "some"},
        {"year": "2026"},
    ],
    ids=str,
)
def test_unknown_value_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(ViewInvalid) as refused:
        View.from_query(query, snapshot=SNAPSHOT)
    assert (refused.value.parameter, refused.value.value) in query.items()


def test_foreign_parameters_are_left_alone() -> None:
    assert View.from_query({"utm_source": "mail", "lang": "en"}, snapshot=SNAPSHOT) == View()


def test_period_of_a_file_name() -> None:
    assert View().period == ""
    assert View(first="2026-01", last="2026-02").period == "2026-01_2026-02"
    assert View(last="2026-02").period == "2026-02"
    assert View(year="2026").period == "2026"
