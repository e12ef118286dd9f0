"""Definitions of measures: valid ones have an id, invalid ones tell all problems with line and nearest names."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlake.epidemiology.definition import load_measure, measure_from_yaml, shipped_measures
from radlake.errors import ConfigInvalid, SourceMissing

VALID = """
measure: ct
version: 1
title: {zh: 甲, en: A}
formula: {zh: 乙, en: B}
numerator: {count: persons, modality: [CT]}
years: 2024-2026
group_by: [region, year]
rate: {kind: standardised, standard: who_2000}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as told:
        measure_from_yaml(text)
    return told.value.facts["problems"]


@pytest.mark.parametrize("path", shipped_measures().values(), ids=lambda path: path.stem)
def test_measures_that_come_with_radlake_are_valid(path: Path) -> None:
    measure = load_measure(path)
    assert measure.name == path.stem
    assert all(measure.title[language] and measure.formula[language] for language in ("zh", "en"))


def test_a_valid_definition() -> None:
    measure = measure_from_yaml(VALID)
    assert measure.years == (2024, 2025, 2026)
    assert measure.group_by == ("year", "region")
    assert measure.limits == "dobson"
    assert measure.filters == {"modality_group": ("CT",)}


def test_the_id_is_of_what_is_defined_not_of_how_it_is_written() -> None:
    again = "# a comment\n" + VALID.replace("{kind: standardised, standard: who_2000}", "\n  standard: who_2000\n  kind: standardised")  # fmt: skip  # noqa: E501
    assert measure_from_yaml(again).measure_id == measure_from_yaml(VALID).measure_id
    assert measure_from_yaml(VALID.replace("CT]", "MR]")).measure_id != measure_from_yaml(VALID).measure_id
    assert measure_from_yaml(measure_from_yaml(VALID).definition).measure_id == measure_from_yaml(VALID).measure_id


def test_all_problems_are_told_at_once_with_line_and_nearest_names() -> None:
    text = """measure: Bad Name
version: 0
title: {zh: x}
formula: {zh: a, en: b}
numerator:
  count: person
  modality: [CTT]
  age: {from: 60, to: 20}
  sexx: F
years: 2026-2024
group_by: [yeer, region]
rate: {kind: standardised, per: -1, limits: byar}
filter: x
"""
    assert problems(text) == [
        "line 1: measure is 'Bad Name', must be a snake_case name",
        "line 2: version is 0, must be a whole number from 1",
        "line 3: title.en is missing",
        "line 6: numerator.count is 'person'. Did you mean persons?",
        "line 7: numerator.modality has 'CTT'. Did you mean CT?",
        "line 8: numerator.age.from is above numerator.age.to",
        "line 9: unknown field numerator.sexx. Did you mean sex?",
        "line 10: years is '2026-2024', must be a year like 2026, a range like 2024-2026, or a list of years",
        "line 11: group_by has 'yeer'. Did you mean year?",
        "line 12: rate.limits is 'byar'. There are dobson, fay_feuer.",
        "line 12: rate.per is -1, must be a number above 0",
        "line 12: rate.standard is missing; there are china_2000, esp_2013, segi_1960, who_2000",
        "line 13: unknown field filter. There are formula, group_by, measure, numerator, rate, region_level, title, "
        "version, years.",
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("standardised, standard: who_2000", "crude, standard: who_2000", "this one is crude"),
        ("standardised, standard: who_2000", "standardised, standard: who_2020", "Did you mean who_2000"),
        ("[region, year]", "[age, year]", "takes the ages together"),
        ("who_2000}", "who_2000, smooth: true}", "rate.smooth smooths crude rates"),
        ("2024-2026", "2024", "needs two years"),
        ("modality: [CT]", "region: ['320583']", "is not a 6-digit code of a prefecture or above"),
        ("modality: [CT]", "region: [320500]", "must be text in quotes"),
        ("modality: [CT]", "hospital: []", "is empty"),
        ("persons, modality: [CT]", "exams, contrast: maybe", "must be true or false"),
        ("version: 1", "version: 1\nversion: 2", "given twice"),
        ("version: 1", "version: [", "line"),
        ("standard: who_2000", "standard: [who_2000]", "rate.standard is ['who_2000']"),
        ("modality: [CT]", "modality: [[CT]]", "numerator.modality has ['CT']"),
    ],
)
def test_what_cannot_be(old: str, new: str, told: str) -> None:
    text = VALID.replace("who_2000}", "who_2000, trend: true}") if "2024" in old else VALID
    assert told in "\n".join(problems(text.replace(old, new)))


def test_exact_limits_are_not_for_exams() -> None:
    text = VALID.replace("persons", "exams").replace("standardised, standard: who_2000", "crude, limits: exact")
    assert "count persons" in problems(text)[0]


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(SourceMissing):
        load_measure(Path("nowhere.yaml"))
