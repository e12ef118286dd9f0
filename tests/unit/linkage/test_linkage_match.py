"""Pairs by rule and by model, over synthetic persons whose truth is known."""

from __future__ import annotations

from datetime import date

import pytest

from radlake.lake.person_links import person_of
from radlake.linkage.clusters import join
from radlake.linkage.match import LinkageFailed, find_pairs
from radlake.linkage.policy import load_policy
from radlake.linkage.records import Record, record_from_identities, records_table
from radlake.synth.persons import national_id

TODAY = date(2026, 11, 1)
ID, OTHER_ID = "11010519491231002X", national_id("11010519491231006")


def _linked(*identities: dict[str, list[str]]) -> set[frozenset[int]]:
    """Persons of several records, numbered from 1."""
    records = [record_from_identities(n, [identity], today=TODAY) for n, identity in enumerate(identities, 1)]
    matches = find_pairs(records_table(records), policy=load_policy())
    pairs, _ = join(matches.pairs, records={record.patient_key: record for record in records})
    persons = person_of(pair.keys for pair in pairs)
    return {frozenset(key for key, of in persons.items() if of == root) for root in persons.values()}


def _identity(name: str, born: str = "19491231", sex: str = "F", phone: str = "", number: str = "") -> dict[str, list[str]]:  # fmt: skip  # noqa: E501
    told = {"patient_name": name, "patient_birth_date": born, "patient_sex": sex, "patient_telephone_numbers": phone}
    return {key: [value] for key, value in (told | {"patient_id": number}).items() if value}


def test_one_name_birth_date_and_telephone_are_one_person_in_any_spelling() -> None:
    phone = "13912345678"
    assert _linked(
        _identity("劉曉梅", phone=phone), _identity("LIU^XIAOMEI", phone=phone), _identity("Xiaomei Liu", phone=phone)
    ) == {frozenset({1, 2, 3})}


def test_the_old_form_of_a_number_is_the_new_one() -> None:
    told = _identity("王芳", number=ID), _identity("WANG FANG", number="110105491231002", born="")
    assert _linked(*told) == {frozenset({1, 2})}


def test_a_wrong_check_digit_proves_nothing() -> None:
    assert _linked(_identity("王芳", number=ID), _identity("李强", number="110105194912310021", sex="M")) == set()


def test_twins_stay_two() -> None:
    phone = "13912345678"
    assert _linked(_identity("王佳琪", "20200101", phone=phone), _identity("王佳怡", "20200101", phone=phone)) == set()


def test_mother_and_newborn_stay_two() -> None:
    phone = "13912345678"
    mother = _identity("王芳", phone=phone, number=ID)
    child = _identity("王芳之女", "20261001", phone=phone, number=ID)
    assert _linked(mother, child) == set()


def test_namesakes_of_one_day_with_numbers_of_their_own_stay_two_and_nobody_is_given_to_either() -> None:
    one = _identity("王芳", number=ID)
    other = _identity("王芳", number=OTHER_ID)
    assert _linked(one, other, _identity("王芳")) == set()


def test_nobody_is_linked_with_nobody() -> None:
    unknown = _identity("UNKNOWN", "19000101", number="0")
    assert _linked(unknown, unknown, _identity("无名氏"), _identity("")) == set()


def test_a_health_card_needs_the_name_and_birth_date_too() -> None:
    card = "8015632000000014"
    assert _linked(_identity("王芳", number=card), _identity("WangFang", number=card)) == {frozenset({1, 2})}
    assert _linked(_identity("王芳", number=card), _identity("李强", number=card, born="20100101")) == set()


def test_no_record_and_one_record_have_no_pairs() -> None:
    assert _linked() == set() == _linked(_identity("王芳"))


@pytest.mark.filterwarnings("error")
def test_a_failure_tells_nothing_of_what_the_records_say(monkeypatch: pytest.MonkeyPatch) -> None:
    import radlake.linkage.match as match

    monkeypatch.setattr(match, "_COMPARABLE", "CREATE TABLE comparable AS SELECT sound::INTEGER FROM given")
    with pytest.raises(LinkageFailed) as caught:
        find_pairs(records_table([Record(1, sound="fang wang")]), policy=load_policy())
    assert "fang" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
