"""Cohorts over a lake of rows: members against plain Python, the same bytes for the same snapshot, masked counts."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from radlake.cohort.build import Built, build_cohort, count_cohort, open_built
from radlake.cohort.definition import Cohort, cohort_from_yaml
from radlake.errors import ConfigInvalid, SourceMissing
from radlake.lake import Lake
from radlake.stats.policy import Policy
from support.lakes import settings_of
from support.rows import rows

POLICY = Policy(name="internal", threshold=5)


def offset(patient_key: int) -> timedelta:
    return timedelta(days=-1 - patient_key % 300, seconds=1 + patient_key % 59)


def people(seed: int, n: int) -> list[dict[str, Any]]:
    """Exams on the true calendar."""
    random = Random(seed)
    return [
        {
            "hospital_id": random.choice(["h1", "h2"]),
            "exam_pseudo_id": f"e{number}",
            "patient_key": random.randrange(n // 4),
            "region_code": "320500",
            "study_at": datetime(2024, 1, 1, 12) + timedelta(days=random.randrange(731)),
            "modality_group": random.choice(["CT", "CT", "MR"]),
            "body_part_code": random.choice(["CHEST", "ABDOMEN+CHEST", "HEAD"]),
            "patient_sex": random.choice("FM"),
            "patient_age_years": random.choice([None, 40, 60, 70]),
            "has_contrast": random.choice([None, True, False]),
        }
        for number in range(n)
    ]


def lake_of(folder: Path, exams: list[dict[str, Any]]) -> Lake:
    lake = Lake.from_settings(settings_of(folder / "lake"))
    add(lake, exams, batch_id="b1")
    return lake


def add(lake: Lake, exams: list[dict[str, Any]], *, batch_id: str) -> None:
    moved = [exam | {"study_at": exam["study_at"] + offset(exam["patient_key"])} for exam in exams]
    moved = [exam | {"study_month": exam["study_at"].year * 100 + exam["study_at"].month} for exam in moved]
    lake.tables.commit_batch("core.exam", rows("core.exam", *moved), batch_id=batch_id)
    names = ("hospital_id", "exam_pseudo_id", "patient_key", "study_month")
    studies = [{name: exam[name] for name in names} | {"study_instance_uid": f"1.{exam['exam_pseudo_id'][1:]}"} for exam in moved]  # fmt: skip  # noqa: E501
    lake.tables.commit_batch("dicom.study", rows("dicom.study", *studies), batch_id=batch_id)
    series = [
        {
            **{name: study[name] for name in ("hospital_id", "patient_key", "study_month", "study_instance_uid")},
            "series_instance_uid": f"{study['study_instance_uid']}.{n}",
            "object_path": f"{study['study_instance_uid']}.{n}.zip",
            "modality": exam["modality_group"],
            "n_instances": 10 * n,
        }
        for study, exam in zip(studies, moved, strict=True)
        for n in (1, 2)
    ]
    lake.tables.commit_batch("dicom.series", rows("dicom.series", *series), batch_id=batch_id)


def offsets():
    return nullcontext(lambda keys: np.array([int(offset(int(key)).total_seconds()) for key in keys]))


def cohort(**changes: Any) -> Cohort:
    content = {"cohort": "c", "version": 1, "title": {"zh": "甲", "en": "A"}, "include": {"modality": "CT"}}
    return cohort_from_yaml(json.dumps(content | changes))


def built(lake: Lake, **changes: Any) -> Built:
    return build_cohort(lake, cohort(**changes), date_offsets=offsets())


def ids(one: Built, role: str = "index") -> set[str]:
    return {row["exam_pseudo_id"] for row in pq.read_table(one.table("exam")).to_pylist() if row["role"] == role}


def test_members_are_those_of_plain_python(tmp_path: Path) -> None:
    exams = people(1, 800)
    found = built(
        lake_of(tmp_path, exams),
        years=2024,
        include={"modality": "CT", "body_part": "CHEST", "age": {"from": 51}},
        exclude=[{"contrast": True}, {"of": "person", "modality": "MR", "body_part": "HEAD"}],
        index="first",
        follow_up={"from_days": 2, "to_days": 200, "modality": "CT"},
    )
    heads = {e["patient_key"] for e in exams if e["modality_group"] == "MR" and e["body_part_code"] == "HEAD"}
    left = [
        exam
        for exam in exams
        if exam["study_at"].year == 2024
        and exam["modality_group"] == "CT"
        and "CHEST" in exam["body_part_code"]
        and (exam["patient_age_years"] or 0) > 50
        and exam["has_contrast"] is not True
        and exam["patient_key"] not in heads
    ]
    first: dict[int, dict[str, Any]] = {}
    for exam in sorted(left, key=lambda e: (e["study_at"], e["hospital_id"], e["exam_pseudo_id"])):
        first.setdefault(exam["patient_key"], exam)
    pairs = {
        (one["exam_pseudo_id"], later["exam_pseudo_id"], (later["study_at"] - one["study_at"]).days)
        for one in first.values()
        for later in exams
        if later["patient_key"] == one["patient_key"]
        and later["modality_group"] == "CT"
        and 2 <= (later["study_at"] - one["study_at"]).days <= 200
    }
    told = pq.read_table(found.table("follow_up")).to_pylist()
    assert {(r["index_exam_pseudo_id"], r["exam_pseudo_id"], r["days_after"]) for r in told} == pairs
    assert len(pairs) > 5
    assert ids(found) == {index for index, _, _ in pairs}
    assert ids(found, "follow_up") == {later for _, later, _ in pairs} - ids(found)
    n_exams = [step.n_exams for step in found.steps]
    assert n_exams[0] == 800
    assert n_exams[1] == sum(exam["study_at"].year == 2024 for exam in exams)
    assert n_exams[-2:] == [len(ids(found)), len(ids(found)) + len(ids(found, "follow_up"))]


def test_two_builds_of_one_definition_on_one_snapshot_have_the_same_bytes(tmp_path: Path) -> None:
    exams = people(2, 400)
    asked: dict[str, Any] = {"sample": {"persons": 20, "seed": 7}, "series": {"at_least_instances": 5}}
    one = built(lake_of(tmp_path / "a", exams), **asked)
    shuffled = list(exams)
    Random(9).shuffle(shuffled)
    twin = built(lake_of(tmp_path / "b", shuffled), **asked)
    assert one.digests == twin.digests
    assert (one.folder / "cohort.json").read_bytes() == (twin.folder / "cohort.json").read_bytes()
    assert len(set(pq.read_table(one.table("exam"))["person_key"].to_pylist())) == 20
    assert (
        built(lake_of(tmp_path / "c", exams), **asked | {"sample": {"persons": 20, "seed": 8}}).digests != one.digests
    )


def test_a_snapshot_stays_what_it_was_when_the_lake_grows(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, people(3, 200))
    before = built(lake)
    add(lake, [exam | {"exam_pseudo_id": f"e{1000 + n}"} for n, exam in enumerate(people(4, 50))], batch_id="b2")
    assert built(lake).cohort_id != before.cohort_id
    again = build_cohort(lake, cohort(), date_offsets=offsets(), snapshot=before.snapshot)
    assert (again.cohort_id, again.digests) == (before.cohort_id, before.digests)
    assert lake.tables.pins()[f"cohort-{before.cohort_id}"] == {f"{k}_v1": v for k, v in before.snapshot.items()}


def test_wanted_series_decide_which_exams_are_left(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, people(5, 100))
    every = pq.read_table(built(lake).table("series")).to_pylist()
    largest = pq.read_table(built(lake, series={"largest": True}).table("series")).to_pylist()
    assert len(every) == 2 * len(largest)
    assert {row["n_instances"] for row in largest} == {20}
    assert ids(built(lake, series={"at_least_instances": 21})) == set()
    assert ids(built(lake, series={"modality": "MR"})) == set()


def test_small_counts_are_masked_while_a_definition_is_written(tmp_path: Path) -> None:
    exams = people(6, 100)
    few = [exam | {"region_code": "320300"} for exam in exams[:2]] + exams[2:]
    lake = lake_of(tmp_path, few)
    steps = count_cohort(lake, cohort(include={"region": "320300"}), date_offsets=offsets(), policy=POLICY)
    assert [(step.name, shown, persons) for step, shown, persons in steps][-1] == ("region_code", None, None)
    assert steps[0][1] == 100


def test_a_table_or_version_that_is_not_there_is_told(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, people(7, 20))
    with pytest.raises(ConfigInvalid) as caught:
        count_cohort(lake, cohort(), date_offsets=offsets(), policy=POLICY, snapshot={"core.exams": 1, "core.exam": 99})
    assert [problem.split(";")[0] for problem in caught.value.facts["problems"]] == [
        "core.exams is no table that a cohort is built from. Did you mean core.exam?",
        "core.exam has no version 99",
    ]


def test_a_cohort_that_somebody_changed_is_refused(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, people(8, 50))
    found = built(lake)
    found.table("exam").write_bytes(found.table("follow_up").read_bytes())
    with pytest.raises(ConfigInvalid, match="not what was built"):
        open_built(lake, found.cohort_id)
    with pytest.raises(SourceMissing, match="built ones"):
        open_built(lake, "nobody")


CONTROLS: dict[str, Any] = {"per_case": 2, "match": ["sex", "age", "year"], "age_band": 10, "seed": 3, "modality": "MR"}


def test_controls_are_matched_persons_who_are_no_case_and_each_is_used_once(tmp_path: Path) -> None:
    exams = people(5, 1200)
    found = built(
        lake_of(tmp_path, exams),
        years=[2024, 2025],
        include={"modality": "CT", "body_part": "HEAD"},
        exclude=[{"of": "person", "contrast": True, "body_part": "ABDOMEN"}],
        index="first",
        controls=CONTROLS,
    )
    by_id = {exam["exam_pseudo_id"]: exam for exam in exams}
    cases_of = {e["patient_key"] for e in exams if e["modality_group"] == "CT" and e["body_part_code"] == "HEAD"}
    left_out = {e["patient_key"] for e in exams if e["has_contrast"] and "ABDOMEN" in e["body_part_code"]}

    def stratum(exam: dict[str, Any]) -> tuple[Any, ...]:
        return exam["patient_sex"], exam["patient_age_years"] // 10, exam["study_at"].year

    told = pq.read_table(found.table("control")).to_pylist()
    assert len(told) > 5
    controls = [by_id[row["exam_pseudo_id"]] for row in told]
    assert len({exam["patient_key"] for exam in controls}) == len(told)
    assert {exam["modality_group"] for exam in controls} == {"MR"}
    assert not {exam["patient_key"] for exam in controls} & (cases_of | left_out)
    assert [stratum(by_id[row["index_exam_pseudo_id"]]) for row in told] == list(map(stratum, controls))
    assert ids(found, "control") == {row["exam_pseudo_id"] for row in told}
    assert {row["index_exam_pseudo_id"] for row in told} <= ids(found)

    n_of = Counter(row["index_exam_pseudo_id"] for row in told)
    assert max(n_of.values()) <= 2
    offered = {e["patient_key"]: e for e in controls}
    for case in map(by_id.__getitem__, ids(found)):
        if case["patient_age_years"] is None:
            assert case["exam_pseudo_id"] not in n_of
            continue
        alike = [n_of[e] for e in ids(found) if by_id[e]["patient_age_years"] and stratum(by_id[e]) == stratum(case)]
        assert max(alike) - min(alike) <= 1, "a first control for all comes before a second for any"
    assert len(offered) == len(told)
    full = sum(n == 2 for n in n_of.values())
    assert [(step.name, step.n_exams) for step in found.steps[-2:]] == [
        ("index exams with 2 controls", full),
        ("controls", len(told)),
    ]


def test_controls_follow_from_the_seed_alone(tmp_path: Path) -> None:
    exams = people(6, 600)
    one, other = (lake_of(tmp_path / name, rows_) for name, rows_ in (("a", exams), ("b", exams[::-1])))
    asked: dict[str, Any] = {"include": {"modality": "CT", "body_part": "HEAD"}, "controls": CONTROLS}
    tables = [pq.read_table(built(lake, **asked).table("control")).to_pylist() for lake in (one, other)]
    assert tables[0] == tables[1]
    again = {**asked, "controls": {**CONTROLS, "seed": 4}}
    assert pq.read_table(built(one, **again).table("control")).to_pylist() != tables[0]


def test_a_cohort_without_controls_has_no_such_file(tmp_path: Path) -> None:
    assert sorted(built(lake_of(tmp_path, people(7, 40))).digests) == [
        "exam.parquet",
        "follow_up.parquet",
        "series.parquet",
    ]
