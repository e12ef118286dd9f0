"""Who the patient is, in every hospital."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from radlake.deidentify import Person, identify_person
from radlake.deidentify.person import identity_conflict, national_ids
from support.deid import KEYS
from support.dicom import ct_study

NATIONAL = "11010519491231002X"  # the example number of GB 11643-1999
OTHER_NATIONAL = "440524188001010014"


def _person(*datasets: Dataset, hospital: str = "h1") -> Person:
    return identify_person(datasets, hospital_id=hospital, keys=KEYS)


def _ct(patient_id: str | None = "P1", **attributes: object) -> Dataset:
    return ct_study(1, **({"patient_id": patient_id} if patient_id is not None else {}), **attributes)[0]


def _other_id(number: str) -> list[Dataset]:
    item = Dataset()
    item.PatientID = number
    item.TypeOfPatientID = "TEXT"
    return [item]


def test_national_id_is_one_person_in_every_hospital() -> None:
    by_id = _person(_ct(NATIONAL), hospital="h1")
    assert _person(_ct(NATIONAL.lower()), hospital="h2") == by_id
    assert _person(_ct("A17", OtherPatientIDsSequence=_other_id(NATIONAL)), hospital="h3") == by_id
    retired = _ct("A18")
    retired.add_new(0x00101000, "LO", ["X1", NATIONAL])
    assert _person(retired, hospital="h4") == by_id
    assert _person(_ct(f"ID {NATIONAL}"), hospital="h5") == by_id


def test_wrong_checksum_is_only_a_hospital_number() -> None:
    wrong = "110105194912310021"
    assert _person(_ct(wrong), hospital="h1") != _person(_ct(wrong), hospital="h2")


def test_hospital_number_is_a_person_of_that_hospital_and_issuer() -> None:
    assert _person(_ct("P1")) == _person(_ct(" P1 "))
    assert _person(_ct("P1")) != _person(_ct("P1"), hospital="h2")
    assert _person(_ct("P1")) != _person(_ct("P1", IssuerOfPatientID="RIS"))


def test_own_number_wins_over_another_persons() -> None:
    ds = _ct(NATIONAL, OtherPatientIDsSequence=_other_id(OTHER_NATIONAL))
    assert _person(ds) == _person(_ct(NATIONAL))


def test_two_national_numbers_beside_a_hospital_number_decide_nothing() -> None:
    ds = _ct("P1", OtherPatientIDsSequence=[*_other_id(NATIONAL), *_other_id(OTHER_NATIONAL)])
    assert _person(ds) == _person(_ct("P1"))


@pytest.mark.parametrize("patient_id", ["", "0", "000000", "UNKNOWN", "anonymous", "匿名", "----", "无名氏12"])
def test_nobody_is_a_person_of_the_study(patient_id: str) -> None:
    one, two = _ct(patient_id, study=1), _ct(patient_id, study=2)
    assert not _person(one).is_known
    assert _person(one) != _person(two)
    assert _person(one) == _person(one)


def test_missing_patient_id() -> None:
    ds = _ct()
    del ds.PatientID
    assert not _person(ds).is_known


def test_order_of_instances_does_not_matter() -> None:
    datasets = [_ct("P1"), _ct("P2"), _ct("P2"), _ct("")]
    assert _person(*datasets) == _person(*reversed(datasets)) == _person(_ct("P2"))


def test_national_ids_need_checksum_date_and_room() -> None:
    assert national_ids(f"a {NATIONAL}, {OTHER_NATIONAL}") == [NATIONAL, OTHER_NATIONAL]
    assert national_ids(f"1{NATIONAL}") == []
    assert national_ids("110105194913310021") == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_ct("ZY0012736053"), _ct("12736053", patient="Other^Name")),
        (_ct("P1"), _ct("")),
        (_ct("P1"), _ct("UNKNOWN", patient="Other^Name")),
        (_ct("P1", patient="Wang^Xiulan=王^秀兰"), _ct("M7", patient="王秀兰")),
        (_ct("P1", OtherPatientIDsSequence=_other_id("M7")), _ct("M7", patient="Other^Name")),
    ],
    ids=["letters and zeros", "no number", "nobody", "same name and birth", "other number"],
)
def test_one_study_of_one_person_with_two_numbers(one: Dataset, other: Dataset) -> None:
    assert identity_conflict([one, other, one]) is None


@pytest.mark.parametrize(
    "other",
    [_ct("P2", patient="Li^Lei"), _ct("P2", birth_date="19500101"), _ct("P2", birth_date=""), _ct("P2", patient="")],
    ids=["name", "birth", "no birth", "no name"],
)
def test_one_study_of_two_persons(other: Dataset) -> None:
    one = _ct("P1")
    found = identity_conflict([one, other])
    assert found == "2 persons by Patient ID, name and date of birth"
    assert identity_conflict([other, one]) == found


def test_persons_that_a_third_header_joins_are_one() -> None:
    apart = [_ct("P1", patient="Li^Lei"), _ct("P2", patient="Wang^Fang")]
    joining = _ct("P1", patient="Li^Lei", OtherPatientIDsSequence=_other_id("P2"))
    assert identity_conflict(apart)
    assert identity_conflict([*apart, joining]) is None
