"""NHSA image indexes: what was written is read, what is not one is refused, and no part of one is ever told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from radlake.cli.nhsa import app
from radlake.errors import ConfigInvalid, SourceMissing
from radlake.vault.image_index import ImageIndex, ImageIndexInvalid, credit_code_check, image_index_from_text
from support.lakes import settings_of

EXAMPLE = "10000000000000000708463177-202411221430-000000000-0000000000000-123502004266007916"
CREDIT = "0123456789ABCDEFGHJKLMNPQRTUWXY"
CODES = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def text_of(alphabet: str, n: int) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=n, max_size=n)


ORGANISATIONS = text_of(CREDIT, 17).map(lambda first: first + credit_code_check(first))
INDEXES = st.builds(
    ImageIndex,
    person_code=text_of("0123456789", 26),
    examined_at=st.datetimes(min_value=datetime(1000, 1, 1)).map(lambda at: at.replace(second=0, microsecond=0)),
    organisation_code=ORGANISATIONS,
    body_part_code=text_of(CODES, 9),
    device_code=text_of(CODES, 13),
)


@given(INDEXES)
def test_what_was_written_is_read(index: ImageIndex) -> None:
    assert image_index_from_text(index.text) == index
    assert len(index.text) == 82
    assert index.person_code not in repr(index)


@given(INDEXES, st.integers(64, 81), st.sampled_from(CREDIT))
def test_any_one_wrong_character_of_the_organisation_is_found(index: ImageIndex, at: int, wrong: str) -> None:
    text = index.text
    assume(text[at] != wrong)
    with pytest.raises(ImageIndexInvalid, match="its check character"):
        image_index_from_text(text[:at] + wrong + text[at + 1 :])


@given(INDEXES, st.integers(64, 80))
def test_two_neighbours_of_the_organisation_that_changed_places_are_found(index: ImageIndex, at: int) -> None:
    text = index.text
    assume(text[at] != text[at + 1])
    with pytest.raises(ImageIndexInvalid, match="its check character"):
        image_index_from_text(text[:at] + text[at + 1] + text[at] + text[at + 2 :])


@given(st.one_of(st.text(), st.text("0123456789-ABCZ", min_size=60, max_size=90)))
def test_any_other_text_is_read_as_it_is_or_refused_without_telling_it(text: str) -> None:
    try:
        told = image_index_from_text(text).text
    except ImageIndexInvalid as exc:
        told = "" if text in str(exc) and len(text) > 12 else text
    assert told == text


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("10000000000000000708463177", "1000000000000000070846317", "person code: not 26 digits"),
        ("10000000000000000708463177", "1000000000000000070846317７", "person code: not 26 digits"),
        ("202411221430", "202411311430", "examined at: not a time"),
        ("202411221430", "202411222430", "examined at: not a time"),
        ("202411221430", "２02411221430", "examined at: not a time"),
        ("202411221430", "2024112214", "examined at: not a time"),
        ("-000000000-", "-00000000a-", "body part: not 9 digits"),
        ("-0000000000000-", "-000000000000-", "device: not 13 digits"),
        ("-0000000000000-", "-", "it has 4 parts"),
        ("123502004266007916", "12350200426600791I", "organisation: not 18 characters"),
        ("123502004266007916", "123502004266007919", "organisation: its check character (GB 32100) is wrong"),
        ("123502004266007916", "123502004266007916\n", "organisation: not 18 characters"),
    ],
)
def test_what_is_wrong_is_named_and_not_repeated(old: str, new: str, problem: str) -> None:
    text = EXAMPLE.replace(old, new)
    assert text != EXAMPLE
    with pytest.raises(ImageIndexInvalid) as refused:
        image_index_from_text(text)
    assert problem in str(refused.value)
    assert not [part for part in text.split("-") if len(part) > 4 and part in str(refused.value)]


@pytest.mark.parametrize(
    "at",
    [datetime(2024, 11, 22, 14, 30, 1), datetime(2024, 11, 22, 14, 30, tzinfo=UTC), datetime(999, 1, 1)],
    ids=["second", "zone", "year"],
)
def test_a_moment_that_it_cannot_hold_is_refused(at: datetime) -> None:
    with pytest.raises(ImageIndexInvalid, match="to the minute"):
        replace(image_index_from_text(EXAMPLE), examined_at=at)


def test_the_command_tells_lines_and_no_index(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "lake")
    settings.prepare_restricted()
    (tmp_path / "lake" / "tables").mkdir(exist_ok=True)
    file = Path(settings.restricted) / "indexes.txt"
    wrong = EXAMPLE.replace("7916", "7919")
    file.write_text(f"\ufeff{EXAMPLE}\r\n\r\n{wrong}\r\n", encoding="utf-8")
    told = CliRunner().invoke(app, [str(file)], obj=settings)
    assert told.exit_code == 1
    assert told.stdout.splitlines() == [
        "line 3: organisation: its check character (GB 32100) is wrong",
        "1 image indexes are valid, 1 are not",
    ]
    file.write_text(f"{EXAMPLE}\u2028{EXAMPLE}\n{wrong}\n", encoding="utf-8")
    numbers = [
        line.partition(":")[0] for line in CliRunner().invoke(app, [str(file)], obj=settings).stdout.splitlines()
    ]
    assert numbers[:-1] == ["line 1", "line 2"]  # those of every editor
    file.write_text(EXAMPLE, encoding="utf-8")
    assert CliRunner().invoke(app, [str(file)], obj=settings).exit_code == 0
    outside = tmp_path / "indexes.txt"
    outside.write_text(EXAMPLE)
    assert isinstance(CliRunner().invoke(app, [str(outside)], obj=settings).exception, ConfigInvalid)
    file.write_bytes(b"\xff\xfe\x00")
    assert isinstance(CliRunner().invoke(app, [str(file)], obj=settings).exception, ConfigInvalid)
    file.unlink()
    assert isinstance(CliRunner().invoke(app, [str(file)], obj=settings).exception, SourceMissing)
