"""`radlake profile`: what an ethics board reads."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from radlake.cli.profile import app
from radlake.config import Settings
from radlake.errors import QueryInvalid


def _told(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), obj=Settings(lake="/nowhere/lake"))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_show_names_options_decisions_and_reasons() -> None:
    told = _told("show")
    assert "default v1" in told
    assert "113107" in told
    assert "DICOM PS3.15 2026c" in told
    assert "EthnicGroup" in told
    assert "私有属性" in told
    assert "StudyDate " not in told
    assert "StudyDate " in _told("show", "--all")


def test_diff_names_what_changes() -> None:
    told = _told("diff", "basic", "default")
    assert "+ clean_descriptors" in told
    lines = [line.split() for line in told.splitlines()]
    assert ["(0008,0020)", "StudyDate", "Z", "empty", "shift"] in [line[:5] for line in lines]
    assert "intervals survive" in told
    assert "日期平移" not in _told("diff", "basic", "default", "--lang", "en")
    assert "No attribute is treated differently." in _told("diff", "default", "default")


@pytest.mark.parametrize(
    ("attribute", "told"),
    [
        ("PatientName", "replaced by the person's pseudonym"),
        ("(0008,0020)", "shifted by the person's constant"),
        ("00181030", "reduced to vocabulary words"),
        ("EthnicGroups", "removed"),
        ("BodyPartExamined", "terms of the vocabulary body_part"),
        ("Laterality", "B, L, R, U"),
        ("00091001", "Private attributes"),
        ("60023000", "Overlays"),
        ("0008FFF1", "does not know"),
    ],
)
def test_explain_tells_what_happens(attribute: str, told: str) -> None:
    assert told in _told("explain", attribute)


def test_explain_another_profile() -> None:
    assert "emptied" in _told("explain", "StudyDate", "--profile", "basic")


def test_explain_shows_what_becomes_of_an_example() -> None:
    assert "胸部平扫 王秀兰 12床  →  胸部平扫" in _told("explain", "StudyDescription")
    assert "→  UIH" in _told("explain", "Manufacturer")
    assert "→  (removed)" in _told("explain", "OtherPatientIDs")
    assert r"→  ORIGINAL\PRIMARY" in _told("explain", "0008,0008")
    assert "王秀兰" not in _told("explain", "PatientName", "--lang", "en").split("→")[1]


def test_explain_a_private_attribute() -> None:
    asked = ("explain", "(0019,xx0C)", "--creator", "SIEMENS MR HEADER")
    assert "Diffusion b-value" in _told(*asked, "--profile", "research")
    assert "are removed" in _told(*asked)


def test_answers_are_json_when_asked() -> None:
    facts = json.loads(_told("explain", "StudyDate", "--json"))
    assert (facts["keyword"], facts["action"], facts["table"]) == ("StudyDate", "shift", "Z")
    assert facts["example"]["before"] == "20260301"
    assert json.loads(_told("show", "--json"))["options"]["retain_modified_dates"] == "113107"
    assert json.loads(_told("diff", "default", "research", "--json"))["options"] == {
        "removed": [],
        "added": ["retain_safe_private"],
    }


def test_explain_an_unknown_name() -> None:
    with pytest.raises(QueryInvalid, match=r"neither a tag nor the keyword.*did you mean PatientName"):
        _told("explain", "patientname")
    with pytest.raises(QueryInvalid, match="neither a tag nor the keyword"):
        _told("explain", "PatientShoeSize")
