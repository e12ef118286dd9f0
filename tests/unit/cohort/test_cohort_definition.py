"""Definitions of cohorts: what is read, and every problem of a file at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from radlake.cli.cohort import app
from radlake.cohort.definition import (
    Exclusion,
    FollowUp,
    Known,
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
snapshot: {core.exm: 3, core.exam: -1}
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
        "line 14: snapshot.core.exam is -1, must be a version: a whole number from 0",
        "line 14: snapshot.core.exm is no table that a cohort is built from. Did you mean core.exam?",
    ]


def test_what_a_lake_does_not_have_is_told_with_the_rest() -> None:
    known = Known({"core.exam": 7}, {"hospital": {"jsph", "h1"}, "region": {"320100", "320200"}})
    text = """cohort: chest
version: 1
title: {zh: a, en: b}
include: {hospital: [jsp, h1], region: "320109", modality: CTT}
exclude:
  - {hospital: jhsp}
snapshot:
  core.exam: 8
  dicom.study: 0
"""
    with pytest.raises(ConfigInvalid) as caught:
        cohort_from_yaml(text, known=known)
    assert caught.value.facts["problems"] == [
        "line 4: include.hospital has 'jsp'. Did you mean jsph?",
        "line 4: include.modality has 'CTT'. Did you mean CT?",
        "line 4: include.region has '320109'. Did you mean 320100 or 320200?",
        "line 6: exclude[1].hospital has 'jhsp'. Did you mean jsph?",
        "line 8: snapshot.core.exam has no version 8; its latest is 7",
        "line 9: snapshot.dicom.study: this lake does not have that table",
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("years: 2026-13-45", "years cannot be read: month must be in 1..12"),
        ("sample: {persons: 5, seed: !!python/name:os.system }", "sample cannot be read: could not determine a "
         "constructor for the tag 'tag:yaml.org,2002:python/name:os.system'"),
        ("exclude: [{sex: F}, 3, {sex: X}]", "exclude[2] must be a mapping of fields"),
        ("exclude: [{age: 3}]", "exclude[1].age must be a mapping of fields"),
    ],
)  # fmt: skip
def test_what_yaml_makes_nothing_of_has_its_line(line: str, told: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        cohort_from_yaml("cohort: a\nversion: 1\ntitle: {zh: a, en: b}\ninclude: {sexx: F}\n" + line)
    assert [f"line 5: {told}", "line 4: unknown field include.sexx. Did you mean sex?"] == [
        one for one in caught.value.facts["problems"][::-1] if told in one or "line 4" in one
    ]


def test_a_snapshot_is_no_part_of_what_is_defined() -> None:
    """Told in the file or on the command line, it is the same cohort."""
    told = cohort_from_yaml(GOOD + "snapshot: {core.exam: 3}\n")
    assert told.snapshot == {"core.exam": 3}
    assert told.cohort_id({"core.exam": 3}) == cohort_from_yaml(GOOD).cohort_id({"core.exam": 3})


def test_every_file_is_checked(tmp_path: Path) -> None:
    for name, text in (("a", GOOD), ("b", "cohort: B"), ("c", "- 1")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["check", *(str(tmp_path / name) for name in ("b", "a", "none", "c"))])
    assert result.exit_code == 1
    assert result.stdout == "chest version 2 is valid\n"
    assert all(f"{tmp_path / name} " in result.stderr for name in ("b", "none", "c"))
