"""Numbers of persons: what checks is evidence, what does not is none."""

from __future__ import annotations

from datetime import date

import pytest

from radlake.linkage.identifiers import (
    birth_date_from_text,
    health_card_from_text,
    national_id_from_text,
    phone_from_text,
    sex_from_text,
    the_national_id,
)
from radlake.synth.persons import national_id

TODAY = date(2026, 11, 1)
ID = "11010519491231002X"
OTHER_ID = national_id("44052419800101001")


def test_a_national_id_tells_birth_date_and_sex() -> None:
    found = national_id_from_text(f"ID {ID.lower()} ", today=TODAY)
    assert found is not None
    assert (found.number, found.birth_date, found.sex, found.is_old_form) == (ID, date(1949, 12, 31), "F", False)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("110105194912310021", id="wrong check digit"),
        pytest.param("990105194912310020", id="no such check"),
        pytest.param("110105194913310026", id="month 13"),
        pytest.param("100105491231002", id="old form of a province that does not exist"),
        pytest.param("110105491331002", id="old form with month 13"),
        pytest.param("1101054912310", id="too short"),
        pytest.param("UNKNOWN", id="nobody"),
        pytest.param("", id="empty"),
        pytest.param(f"{ID} {OTHER_ID}", id="two persons"),
    ],
)
def test_what_does_not_check_is_no_national_id(text: str) -> None:
    assert national_id_from_text(text, today=TODAY) is None


def test_the_old_form_of_15_digits_is_the_number_that_it_became() -> None:
    old = national_id_from_text("110105491231002", today=TODAY)
    assert old is not None
    assert (old.number, old.is_old_form) == (ID, True)
    both = the_national_id(["110105491231002", ID], today=TODAY)
    assert both is not None
    assert both.number == ID


def test_two_numbers_are_nobodys() -> None:
    assert the_national_id([ID, OTHER_ID], today=TODAY) is None
    assert the_national_id([ID, "no number"], today=TODAY) == national_id_from_text(ID, today=TODAY)


def test_a_number_shows_nothing_of_itself() -> None:
    assert ID not in repr(national_id_from_text(ID, today=TODAY))


def test_full_width_digits_count() -> None:
    wide = "".join(chr(ord(char) + 0xFEE0) for char in ID)
    assert national_id_from_text(wide, today=TODAY) == national_id_from_text(ID, today=TODAY)


def test_a_number_of_the_future_is_none() -> None:
    assert national_id_from_text(ID, today=date(1949, 12, 30)) is None


@pytest.mark.parametrize(
    ("text", "issuer", "card"),
    [
        ("8015632000000014", "", ("801563", "8015632000000014")),
        ("8015-6320-0000-0014", "江苏省卫健委", ("江苏省卫健委", "8015632000000014")),
        ("8015632000000015", "", None),
        ("6222021234567890128", "", None),
        ("80", "", None),
    ],
    ids=["issuer from the number", "issuer told", "wrong check digit", "a bank card", "too short"],
)
def test_a_health_card_has_an_issuer_and_a_check_digit(text: str, issuer: str, card: tuple[str, str] | None) -> None:
    assert health_card_from_text(text, issuer=issuer) == card


@pytest.mark.parametrize("text", ["00000000000", "13800000000", "13333333333", "025-88886666", "1380013800", ""])
def test_what_staff_type_to_get_on_is_no_telephone(text: str) -> None:
    assert phone_from_text(text) is None


def test_a_mobile_number_is_told_with_and_without_country_code() -> None:
    assert phone_from_text("0086 138 0013 8001") == phone_from_text("13800138001") == "13800138001"


@pytest.mark.parametrize("text", ["19000101", "18991231", "20261102", "20200230", "2020", "UNKNOWN"])
def test_fillers_are_no_date_of_birth(text: str) -> None:
    assert birth_date_from_text(text, today=TODAY) is None


def test_a_sex_that_is_other_contradicts_nobody() -> None:
    assert [sex_from_text(text) for text in ("M", "女", "O", "")] == ["M", "F", None, None]
