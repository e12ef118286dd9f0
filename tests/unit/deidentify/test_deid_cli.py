"""`radlake profile`: what an ethics board reads."""

from __future__ import annotations

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
    assert ["(0008,0020)", "StudyDate", "Z", "empty", "shift"] in lines
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


def test_explain_an_unknown_name() -> None:
    with pytest.raises(QueryInvalid, match="neither a tag nor the keyword"):
        _told("explain", "PatientShoeSize")
