from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import date
from itertools import pairwise

import pytest

from radlake.synth.datasets import instances_of
from radlake.synth.province import PREFECTURES, Province, make_hospitals, make_province

START, END = date(2025, 3, 1), date(2025, 8, 31)


@pytest.fixture(scope="module")
def province() -> Province:
    return make_province(seed=11, n_exams=500, start=START, end=END)


def digest_of(seed: int) -> str:
    """Digest of every byte of a small province."""
    province = make_province(seed=seed, n_exams=4)
    digest = hashlib.sha256()
    for exam in province.exams:
        for instance in instances_of(province, exam):
            digest.update(instance.content)
    return digest.hexdigest()


def test_the_same_seed_gives_the_same_bytes_in_another_process() -> None:
    """Another hash seed would show any order that hangs on a set or on hash()."""
    code = "from unit.synth.test_province import digest_of; print(digest_of(3))"
    environment = os.environ | {"PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert run.stdout.strip() == digest_of(3)


def test_another_seed_gives_another_province() -> None:
    assert digest_of(3) != digest_of(4)


def test_the_number_of_exams_is_exact_and_larger_hospitals_have_more(province: Province) -> None:
    counts = Counter(exam.hospital_id for exam in province.exams)
    assert counts.total() == 3 * 500
    assert counts["jsa-provincial"] > counts["sza-municipal"] > counts["xzb-county"]
    assert {key: len(province.exams_of(key)) for key in counts} == counts


def test_exams_lie_in_the_period_and_in_the_order_of_their_numbers(province: Province) -> None:
    for hospital in province.hospitals:
        exams = province.exams_of(hospital.hospital_id)
        assert all(START <= exam.day <= END for exam in exams)
        assert all(one.started_at <= other.started_at for one, other in pairwise(exams))
        assert len({exam.accession_number for exam in exams}) == len(exams)
        assert all(exam.person.birth_date <= exam.day for exam in exams)


def test_uids_are_unique_and_below_the_root_of_their_hospital(province: Province) -> None:
    uids = []
    for exam in province.exams:
        root = province.hospital(exam.hospital_id).uid_root
        for study in exam.studies:
            uids += [study.study_instance_uid, *(series.series_instance_uid for series in study.series)]
            assert study.study_instance_uid.startswith(f"{root}.")
    assert len(set(uids)) == len(uids)


def test_a_person_has_one_number_in_each_hospital_and_none_in_common(province: Province) -> None:
    numbers = defaultdict(set)
    owners = defaultdict(set)
    for exam in province.exams:
        if exam.patient_id:
            numbers[exam.hospital_id, exam.person.person_id].add(exam.patient_id)
            owners[exam.hospital_id, exam.patient_id].add(exam.person.person_id)
    assert all(len(found) == 1 for found in numbers.values())
    assert all(len(found) == 1 for found in owners.values())
    visited = Counter(person_id for _, person_id in numbers)
    assert sum(count > 1 for count in visited.values()) > 50


def test_most_visits_but_not_all_carry_the_national_identity_number(province: Province) -> None:
    share = sum(exam.has_national_id for exam in province.exams) / len(province.exams)
    assert 0.88 < share < 0.95
    assert any(not exam.patient_id for exam in province.exams)


def test_the_mix_is_that_of_a_general_hospital(province: Province) -> None:
    modality = Counter(exam.protocol.modality for exam in province.exams)
    assert set(modality) == {"CT", "DX", "MR", "MG", "US"}
    assert modality["CT"] > modality["DX"] > modality["MR"] > modality["US"]
    assert sum(modality[key] for key in ("CT", "DX", "MR")) > 0.9 * modality.total()
    weekday = Counter(exam.day.weekday() for exam in province.exams)
    assert weekday[0] > weekday[5] > 0
    exams_per_person = Counter(Counter(exam.person.person_id for exam in province.exams).values())
    assert exams_per_person[1] > exams_per_person[2] > exams_per_person[5]
    assert any(len(exam.studies) == 2 for exam in province.exams)
    kinds = Counter(series.plan.kind for exam in province.exams for study in exam.studies for series in study.series)
    assert kinds["SR"] > 100
    assert kinds["SC"] > 10


def test_mammography_is_of_women_from_forty() -> None:
    province = make_province(seed=1, n_exams=1000)
    screened = [exam for exam in province.exams if exam.protocol.modality == "MG"]
    assert len(screened) > 20
    assert {exam.person.sex for exam in screened} == {"F"}
    assert all((exam.day - exam.person.birth_date).days > 39 * 365 for exam in screened)


def test_hospitals_scale_to_a_whole_province() -> None:
    hospitals = make_hospitals(1578)
    for name in ("hospital_id", "ae_title", "uid_root", "name_zh"):
        assert len({getattr(hospital, name) for hospital in hospitals}) == 1578
    assert {hospital.region_code for hospital in hospitals} == set(PREFECTURES)
    assert all(len(hospital.ae_title) <= 16 for hospital in hospitals)
    assert hospitals[:3] == make_hospitals(3)
    assert [(hospital.region_code, hospital.level) for hospital in hospitals[:3]] == [
        ("320100", "3A"),
        ("320500", "3A"),
        ("320300", "2A"),
    ]
