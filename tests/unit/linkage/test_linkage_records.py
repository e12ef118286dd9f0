"""One record of each pseudonym: who contradicts himself is several persons."""

from __future__ import annotations

from datetime import date

import pytest

from radlake.linkage.records import Record, births_agree, record_from_identities
from radlake.synth.persons import national_id

TODAY = date(2026, 11, 1)
ID = "11010519491231002X"  # F, 1949-12-31


def _record(*identities: dict[str, list[str]]) -> Record:
    return record_from_identities(7, identities, today=TODAY)


def test_the_national_id_decides_sex_and_birth_date() -> None:
    told = {"patient_id": [ID], "patient_name": ["王芳"], "patient_sex": ["M"], "patient_birth_date": ["19491230"]}
    record = _record(told)
    assert (record.national_id, record.sex, record.birth_date) == (ID, "F", "19491231")


def test_a_mothers_number_on_her_newborn_contradicts_itself() -> None:
    child = {"patient_id": [ID], "patient_name": ["王芳之子"], "patient_birth_date": ["20261001"]}
    mother = {"patient_id": [ID], "patient_name": ["王芳"], "patient_birth_date": ["19491231"]}
    assert _record(child).is_contradictory
    assert _record(child).national_id is None
    assert _record(mother, child).is_contradictory


def test_two_national_ids_in_one_record_are_not_taken() -> None:
    both = f"{ID}\\{national_id('32010219800101001')}"
    assert _record({"other_patient_ids": [both], "patient_name": ["王芳"]}).national_id is None


def test_a_number_that_everybody_gets_is_nobodys() -> None:
    people = [{"patient_name": [name], "patient_birth_date": [born]}
              for name, born in (("王芳", "19800101"), ("李强", "19700203"), ("陈静", "20010405"))]  # fmt: skip
    assert _record(*people).is_contradictory
    assert not _record(*people).is_comparable


def test_what_most_studies_tell_counts() -> None:
    right, wrong = {"patient_name": ["王芳"], "patient_sex": ["F"]}, {"patient_name": ["王方"], "patient_sex": ["F"]}
    assert _record(right, wrong, right).zh == "王芳"


@pytest.mark.parametrize("identity", [{}, {"patient_name": [""]}, {"patient_name": ["UNKNOWN"], "patient_birth_date": ["19000101"]}])  # fmt: skip  # noqa: E501
def test_who_tells_nothing_is_compared_with_nobody(identity: dict[str, list[str]]) -> None:
    assert not _record(identity).is_comparable


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ("19640224", "19640224", True),
        ("19640224", "19640225", True),
        ("19640203", "19640302", True),
        ("19640224", "19640101", True),
        ("19640224", "19650325", False),
        ("19640224", "20250101", False),
    ],
)
def test_births_agree_when_one_may_be_a_mistyped_other(one: str, other: str, agree: bool) -> None:
    assert births_agree(one, other) is births_agree(other, one) is agree


def test_a_record_shows_nothing_of_itself() -> None:
    record = _record({"patient_name": ["王芳"], "patient_birth_date": ["19491231"]})
    assert "王芳" not in repr(record)
