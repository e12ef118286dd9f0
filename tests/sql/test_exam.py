"""core.exam: studies become exams."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any

import duckdb
import pytest

from radlake.contracts import load_table
from radlake.vocab.load import vocabulary
from support.rows import rows
from support.statistics import tables

COLUMNS = "exam_pseudo_id, modality_group, body_part_code, laterality_code, has_contrast, patient_sex, n_studies"


def study(**changes: Any) -> dict[str, Any]:
    return {
        "hospital_id": "h1",
        "exam_pseudo_id": "e1",
        "patient_key": 1,
        "study_at": datetime(2026, 3, 1, 9),
        "modality_group": "CT",
        "body_part_code": "CHEST",
        "laterality_code": "U",
        "patient_sex": "F",
        "n_series": 1,
        "n_instances": 10,
        "study_bytes": 1000,
    } | changes


def studies(*changes: dict[str, Any]):
    made = [study(study_instance_uid=f"2.25.{i}", **change) for i, change in enumerate(changes, 1)]
    hospital = rows("ref.hospital", {"hospital_id": "h1", "region_code": "320583"})
    return {"dicom.study": rows("dicom.study", *made), "ref.hospital": hospital}


def test_studies_of_one_accession_are_one_exam() -> None:
    given = studies(
        {"study_at": datetime(2026, 3, 1, 9), "patient_age_years": 39, "has_contrast": False},
        {"study_at": datetime(2026, 3, 1, 8), "patient_age_years": 40, "has_contrast": True, "n_instances": 5},
    )
    with tables(given) as db:
        db.build("core.exam")
        assert db.rows(
            "SELECT exam_pseudo_id, region_code, study_month, study_at, has_contrast, patient_age_years, n_studies,"
            " n_series, n_instances, exam_bytes FROM core.exam"
        ) == [("e1", "320583", 202603, datetime(2026, 3, 1, 8), True, 40, 2, 2, 15, 2000)]
        assert db.problems("core.exam") == []


@pytest.mark.parametrize(
    ("first", "second", "column", "expected"),
    [
        ({"modality_group": "CT"}, {"modality_group": "PT"}, "modality_group", "PT"),
        ({"modality_group": "UNKNOWN"}, {"modality_group": "US"}, "modality_group", "US"),
        ({"body_part_code": "CHEST"}, {"body_part_code": "ABDOMEN"}, "body_part_code", "ABDOMEN+CHEST"),
        ({"body_part_code": "CHEST+HEAD"}, {"body_part_code": "ABDOMEN+CHEST"}, "body_part_code", "ABDOMEN+CHEST+HEAD"),
        ({"body_part_code": "UNKNOWN"}, {"body_part_code": "ABDOMEN"}, "body_part_code", "ABDOMEN"),
        ({"body_part_code": "UNKNOWN"}, {"body_part_code": "UNKNOWN"}, "body_part_code", "UNKNOWN"),
        ({"laterality_code": "L"}, {"laterality_code": "R"}, "laterality_code", "B"),
        ({"laterality_code": "L"}, {"laterality_code": "NONE"}, "laterality_code", "L"),
        ({"laterality_code": "U"}, {"laterality_code": "NONE"}, "laterality_code", "U"),
        ({"laterality_code": "NONE"}, {"laterality_code": "NONE"}, "laterality_code", "NONE"),
        ({"laterality_code": "R"}, {"laterality_code": "U"}, "laterality_code", "R"),
        ({"has_contrast": None}, {"has_contrast": None}, "has_contrast", None),
        ({"has_contrast": None}, {"has_contrast": False}, "has_contrast", False),
        ({"patient_sex": "F"}, {"patient_sex": "UNKNOWN"}, "patient_sex", "F"),
        ({"patient_sex": "F"}, {"patient_sex": "M"}, "patient_sex", "UNKNOWN"),
        ({"study_at": None}, {"study_at": None}, "study_month", 190001),
        ({"is_patient_known": False}, {"is_patient_known": False}, "is_patient_known", False),
    ],
)
def test_what_two_studies_say_together(
    first: dict[str, Any], second: dict[str, Any], column: str, expected: object
) -> None:
    for pair in ((first, second), (second, first)):
        with tables(studies(*pair)) as db:
            db.build("core.exam")
            assert db.rows(f"SELECT {column} FROM core.exam") == [(expected,)]


def test_an_accession_number_of_two_persons_is_two_exams() -> None:
    with tables(studies({"patient_key": 1}, {"patient_key": 2})) as db:
        db.build("core.exam")
        assert db.rows("SELECT patient_key, n_studies FROM core.exam ORDER BY 1") == [(1, 1), (2, 1)]
        assert [(severity, n) for severity, _, n in db.problems("core.exam")] == [("warn", 1)]


def test_the_same_accession_number_in_two_hospitals_is_two_exams() -> None:
    with tables(studies({"hospital_id": "h1"}, {"hospital_id": "h2"})) as db:
        db.build("core.exam")
        found = db.rows("SELECT hospital_id, region_code FROM core.exam ORDER BY 1")
        assert found == [("h1", "320583"), ("h2", "UNKNOWN")]
        assert [severity for severity, _, _ in db.problems("core.exam")] == ["warn"]


def test_a_modality_group_that_sql_does_not_know_stops_the_build() -> None:
    with (
        tables(studies({"modality_group": "XY"})) as db,
        pytest.raises(duckdb.Error, match="Unmapped modality group: XY"),
    ):
        db.build("core.exam")


def test_sql_and_vocabulary_and_contract_have_the_same_modality_groups() -> None:
    precedence = [*vocabulary().group_precedence, "UNKNOWN"]
    assert list(load_table("core.exam").column("modality_group").values or ()) == precedence
    for leading, other in pairwise(precedence):
        with tables(studies({"modality_group": other}, {"modality_group": leading})) as db:
            db.build("core.exam")
            assert db.rows("SELECT modality_group FROM core.exam") == [(leading,)]


def test_a_lost_study_fails_the_check() -> None:
    with tables(studies({}, {"exam_pseudo_id": "e2"})) as db:
        db.build("core.exam")
        db.rows("DELETE FROM core.exam_v1 WHERE exam_pseudo_id = 'e2'")
        assert [severity for severity, _, _ in db.problems("core.exam")] == ["fail"]
