from __future__ import annotations

import random
from collections import Counter
from datetime import date

import pytest

from radlake.synth.persons import Person, make_person, national_id

TODAY = date(2025, 1, 1)


@pytest.fixture(scope="module")
def persons() -> list[Person]:
    return [make_person(number, rng=random.Random(number), today=TODAY) for number in range(1, 2001)]


@pytest.mark.parametrize("known", ["11010519491231002X", "440524188001010014"])
def test_check_digit_of_published_examples(known: str) -> None:
    assert national_id(known[:17]) == known


def test_every_identity_number_passes_the_check_of_iso_7064(persons: list[Person]) -> None:
    """The check itself, which is not how the digit is made: the weighted sum of all 18 is 1 modulo 11."""
    weights = [2**place % 11 for place in range(17, -1, -1)]
    for person in persons:
        digits = [10 if character == "X" else int(character) for character in person.national_id]
        assert sum(digit * weight for digit, weight in zip(digits, weights, strict=True)) % 11 == 1


def test_identity_number_tells_birth_date_and_sex_and_an_unassigned_region(persons: list[Person]) -> None:
    for person in persons:
        assert person.national_id[:4] == "3299"
        assert person.national_id[6:14] == f"{person.birth_date:%Y%m%d}"
        assert int(person.national_id[16]) % 2 == (person.sex == "M")


def test_nobody_shares_an_identity_number_or_a_telephone_number(persons: list[Person]) -> None:
    assert len({person.national_id for person in persons}) == len(persons)
    assert len({person.phone for person in persons}) == len(persons)
    assert {person.phone[:3] for person in persons} == {"141"}
    assert {len(person.phone) for person in persons} == {11}


def test_nobody_of_a_million_has_region_and_sequence_of_another() -> None:
    """Of 50,000 apart both repeat within a prefecture: two who were born on one day would share their number."""
    numbers = [7, 50_007, 100_007, 3_450_007]
    persons = [make_person(number, rng=random.Random(1), today=TODAY) for number in numbers]
    assert [person.national_id[:6] for person in persons] == ["329900", "329800", "329700", "323000"]
    assert {person.birth_date for person in persons} == {persons[0].birth_date}


def test_names_have_a_spelled_and_a_written_group_with_both_components(persons: list[Person]) -> None:
    for person in persons:
        spelled, written = person.name.split("=")
        assert all(part.isascii() and part.isalpha() for part in spelled.split("^"))
        assert all(part and not part.isascii() for part in written.split("^"))
        assert person.name_spelled == spelled
        assert person.name_zh == written.replace("^", "")
    assert any(ord(character) > 0xFFFF for person in persons for character in person.name)


def test_ages_are_those_of_hospital_patients(persons: list[Person]) -> None:
    decades = Counter((TODAY - person.birth_date).days // 3653 for person in persons)
    assert decades[6] > decades[2] > decades[0] > 0
    assert all(person.birth_date <= TODAY for person in persons)
