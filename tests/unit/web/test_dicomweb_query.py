"""Searches as URLs ask for them: what is read, and what is refused before a table is touched."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radlake.web.dicomweb.attributes import ATTRIBUTES, Level
from radlake.web.dicomweb.query import search_from_url
from radlake.web.dicomweb.refusals import BadRequest


def test_dates_become_a_range_and_months() -> None:
    [condition] = search_from_url(Level.STUDY, [("00080020", "20260105-20260210")]).conditions
    assert condition.sql == (
        "study.study_at >= $p0a AND study.study_month >= 202601 AND "
        "CAST(study.study_at AS DATE) <= $p0b AND study.study_month <= 202602"
    )
    assert condition.parameters == {"p0a": date(2026, 1, 5), "p0b": date(2026, 2, 10)}


def test_the_last_day_of_all_may_be_asked_for() -> None:
    [condition] = search_from_url(Level.STUDY, [("StudyDate", "20200101-99991231")]).conditions
    assert condition.parameters["p0b"] == date(9999, 12, 31)


def test_wildcards_are_escaped_and_translated() -> None:
    [condition] = search_from_url(Level.STUDY, [("StudyDescription", r"胸_50%?\*")]).conditions
    assert condition.parameters == {"p0": r"胸\_50\%_\\%"}


@pytest.mark.parametrize("value", ["", "*"])
@pytest.mark.parametrize("keyword", [one.keyword for one in ATTRIBUTES.values() if one.level == Level.STUDY])
def test_universal_matching_is_no_condition(keyword: str, value: str) -> None:
    assert search_from_url(Level.STUDY, [(keyword, value)]).conditions == ()


def test_all_problems_at_once() -> None:
    asked = [
        ("StudyDate", "20261301"),
        ("StudyInstanceUID", "1.2'3"),
        ("limit", "-1"),
        ("fuzzymatching", "maybe"),
        ("includefield", "NoSuchKeyword"),
        ("EthnicGroup", "x"),
        ("SeriesNumber", "1"),
    ]
    with pytest.raises(BadRequest) as caught:
        search_from_url(Level.STUDY, asked)
    told = str(caught.value)
    assert [name for name, _ in asked if name in told] == [name for name, _ in asked]


def test_included_fields_come_in_the_order_of_their_tags() -> None:
    search = search_from_url(Level.SERIES, [("includefield", "00180015,PatientSex,00091001")], in_path=1)
    tags = [one.tag for one in search.returned]
    assert tags == sorted(tags)
    assert {"BodyPartExamined", "PatientSex", "StudyInstanceUID"} <= {one.keyword for one in search.returned}
    assert "PatientID" not in {one.keyword for one in search.returned}


def test_what_the_path_names_is_not_told_again() -> None:
    def returned(in_path: int) -> set[str]:
        return {one.keyword for one in search_from_url(Level.INSTANCE, [], in_path=in_path).returned}

    assert {"PatientID", "Modality", "InstanceNumber"} <= returned(0)
    assert {"StudyInstanceUID", "Modality", "InstanceNumber"} <= returned(1)
    assert "PatientID" not in returned(1)
    assert "Modality" not in returned(2)
    assert {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"} <= returned(2)


@given(st.sampled_from(sorted(ATTRIBUTES)), st.text(max_size=40))
def test_no_value_reaches_the_sql(keyword: str, value: str) -> None:
    """Values are parameters, or numbers that were read as such."""
    try:
        search = search_from_url(Level.INSTANCE, [(keyword, value)])
    except BadRequest:
        return
    known = search_from_url(Level.INSTANCE, []).conditions
    assert known == ()
    for condition in search.conditions:
        assert "'" not in condition.sql.replace("'%016x'", "").replace("'%H%M%S.%f'", "").replace(r"'\'", "").replace(
            "'UNKNOWN'", ""
        ).replace("'central'", "").replace("'ONLINE'", "").replace("'NEARLINE'", "")
