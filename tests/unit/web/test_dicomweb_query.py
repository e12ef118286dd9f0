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
        ("charset", "gb18030"),
    ]
    with pytest.raises(BadRequest) as caught:
        search_from_url(Level.STUDY, asked)
    told = str(caught.value)
    assert [name for name, _ in asked if name in told] == [name for name, _ in asked]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("EthnicGroup", "x", "passed over: EthnicGroup"),
        ("SeriesNumber", "1", "passed over: SeriesNumber"),
        ("PatientNmae", "x", "passed over: PatientNmae"),
        ('na"me\r\n', "x", "passed over: na?me??"),
        ("fuzzymatching", "true", "Only literal matching has been performed."),
        ("emptyvaluematching", "true", "The emptyvaluematching parameter is not supported."),
        ("multiplevaluematching", "true", "The multiplevaluematching parameter is not supported."),
    ],
)
def test_what_is_not_supported_is_passed_over_and_told(name: str, value: str, told: str) -> None:
    """PS3.18 8.3: as if it were not there; a warning may tell it."""
    search = search_from_url(Level.STUDY, [(name, value)])
    assert search.conditions == ()
    [warning] = search.warnings
    assert told in warning


def test_of_many_that_are_not_supported_ten_are_told() -> None:
    [warning] = search_from_url(Level.STUDY, [(f"x{n}", "") for n in range(200)]).warnings
    assert warning.endswith("x9, and 190 more")
    with pytest.raises(BadRequest, match="at most 200 parameters"):
        search_from_url(Level.STUDY, [("PatientID", "a*")] * 201)


def test_numbers_are_ascii_digits() -> None:
    for wrong in ("٣", "1e3", "-0", "", "9" * 10):
        with pytest.raises(BadRequest, match="limit: give a number"):
            search_from_url(Level.STUDY, [("limit", wrong)])


def test_attributes_of_the_request_are_searched_for_and_never_match() -> None:
    """By keyword or tag, as Table 10.6.1-5 asks; no object of the lake has one."""
    for name in ("RequestAttributesSequence.RequestedProcedureID", "00400275.00400009"):
        search = search_from_url(Level.SERIES, [(name, "x")])
        assert ([one.sql for one in search.conditions], search.warnings) == (["false"], ())


def test_what_is_searched_for_is_returned() -> None:
    search = search_from_url(Level.SERIES, [("BodyPartExamined", "CHEST")], in_path=1)
    assert "BodyPartExamined" in {one.keyword for one in search.returned}


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
