"""Definitions of cohorts: what is read, and every problem of a file at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlake.cohort.definition import (
    Exclusion,
    FollowUp,
    Sample,
    SeriesWanted,
    cohort_from_yaml,
    load_cohort,
    shipped_cohorts,
)
from radlake.errors import ConfigInvalid

GOOD = """
cohort: chest
version: 2
title: {zh: 胸部, en: Chest}
years: 2024-2025
include: {modality: [CT], age: {from: 51}}
exclude:
  - {of: person, finding: {code: thyroid_nodule}}
  - {sex: UNKNOWN}
index: first
follow_up: {from_days: 2, to_days: 365, modality: CT}
sample: {persons: 10, seed: 3}
series: {modality: CT, at_least_instances: 20, slice_thickness_mm: {to: 1.5}, largest: true}
"""


def test_a_definition_is_read() -> None:
    cohort = cohort_from_yaml(GOOD)
    assert (cohort.name, cohort.version, cohort.years, cohort.index) == ("chest", 2, (2024, 2025), "first")
    assert cohort.include == {"modality_group": ("CT",), "age": (51, 200)}
    assert cohort.exclude == (
        Exclusion("person", {"finding": ("thyroid_nodule", ("PRESENT",))}),
        Exclusion("exam", {"patient_sex": ("UNKNOWN",)}),
    )
    assert cohort.follow_up == FollowUp(filters={"modality_group": ("CT",)}, from_days=2, to_days=365, at_least=1)
    assert cohort.sample == Sample(10, 3)
    assert cohort.series == SeriesWanted(
        modalities=("CT",), at_least_instances=20, slice_thickness_mm=(0.0, 1.5), is_largest=True
    )


def test_the_id_follows_from_what_is_defined_and_the_snapshot_alone() -> None:
    cohort = cohort_from_yaml(GOOD)
    laid_out_otherwise = cohort_from_yaml(GOOD.replace("include: {modality: [CT], age: {from: 51}}", "include:\n  age: {from: 51}\n  modality: [CT]"))  # fmt: skip  # noqa: E501
    seed = cohort_from_yaml(GOOD.replace("seed: 3", "seed: 4"))
    snapshot = {"core.exam": 3}
    assert laid_out_otherwise.cohort_id(snapshot) == cohort.cohort_id(snapshot)
    assert len({cohort.cohort_id(snapshot), seed.cohort_id(snapshot), cohort.cohort_id({"core.exam": 4})}) == 3
    assert cohort.cohort_id(snapshot).startswith("chest.v2.")


@pytest.mark.parametrize("name", sorted(shipped_cohorts()))
def test_cohorts_that_come_with_radlake_are_valid(name: str) -> None:
    assert load_cohort(shipped_cohorts()[name]).name == name


def test_the_example_of_the_documentation_is_valid() -> None:
    text = (Path(__file__).parents[3] / "docs" / "how-to" / "define-a-cohort.md").read_text(encoding="utf-8")
    cohort = cohort_from_yaml(text.partition("```yaml\n")[2].partition("```")[0])
    assert set(cohort.content) == {"cohort", "version", "title", "years", "include", "exclude", "index", "follow_up",
                                   "sample", "controls", "series"}  # fmt: skip


def test_all_problems_are_told_at_once_with_line_and_nearest_names() -> None:
    text = """cohort: X y
version: 0
title: {zh: a}
yeers: 2024
include: {modality: CTT, body_part: CHESTT, age: {from: 90, to: 10}}
exclude:
  - {of: persons, modality: MR}
  - {of: exam}
index: firs
follow_up: {from_days: 10}
series: {modality: [MGG], slice_thickness_mm: {from: 3, to: 1}}
sample: {persons: 5}
controls: {per_case: 0, match: [sexx], modality: MR}
"""
    with pytest.raises(ConfigInvalid) as caught:
        cohort_from_yaml(text)
    assert caught.value.facts["problems"] == [
        "line 1: cohort is 'X y', must be a snake_case name of up to 40 characters",
        "line 2: version is 0, must be a whole number from 1",
        "line 3: title.en is missing",
        "line 4: unknown field yeers. Did you mean years?",
        "line 5: include.age.from is above include.age.to",
        "line 5: include.body_part has 'CHESTT'. Did you mean CHEST?",
        "line 5: include.modality has 'CTT'. Did you mean CT?",
        "line 7: exclude[1].of is 'persons'. Did you mean person?",
        "line 8: exclude[2] has no filter: it would leave out everything",
        "line 9: index is 'firs'. Did you mean first?",
        "line 10: follow_up.to_days is missing",
        "line 11: series.modality has 'MGG'. Did you mean MG or EMG?",
        "line 11: series.slice_thickness_mm.from is above series.slice_thickness_mm.to",
        "line 12: sample.seed is missing",
        "line 13: controls.match has 'sexx'. Did you mean sex?",
        "line 13: controls.per_case is 0, must be a whole number from 1",
        "line 13: controls.seed is missing",
    ]
