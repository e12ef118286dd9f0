"""Rows are compared with their contract; what breaks it is told by column and row, never by value."""

from __future__ import annotations

import pyarrow as pa
import pytest

from radlake.contracts import load_table, load_tables
from support.rows import rows

STUDY = load_table("dicom.study")


def changed(column: str, values: list[object], *, kind: pa.DataType | None = None) -> pa.Table:
    data = rows("dicom.study", *({"study_instance_uid": f"1.{i}"} for i in range(len(values))))
    index = data.column_names.index(column)
    return data.set_column(index, column, pa.array(values, type=kind or data.schema.field(column).type))


@pytest.mark.parametrize("name", load_tables())
def test_filled_rows_keep_every_contract(name: str):
    assert load_table(name).problems(rows(name, {})) == []


def test_no_rows_keep_the_contract():
    assert STUDY.problems(STUDY.arrow_schema().empty_table()) == []


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (changed("patient_sex", ["F", "W", "X"]), "patient_sex: not one of F, M, O, UNKNOWN in 2 rows, first in row 2"),
        (changed("patient_sex", ["F", None]), "patient_sex: NULL in a required column in row 2"),
        (changed("patient_age_years", [90, 91]), "patient_age_years: above 90 in row 2"),
        (changed("patient_age_years", [-1, 0]), "patient_age_years: below 0 in row 1"),
        (changed("patient_key", [-1, 2**63 - 1]), "patient_key: below 0 in row 1"),
        (
            changed("study_instance_uid", ["1.2", "1.2\n"]),
            "study_instance_uid: does not match [0-9.]{1,64} in row 2",
        ),
        (
            changed("study_instance_uid", ["1.2", "1.3", "1.2"]),
            "key (hospital_id, study_instance_uid): 1 rows repeat the key of another row",
        ),
        (
            changed("n_series", [1], kind=pa.int64()),
            "n_series: type is int64, must be int32 (INTEGER)",
        ),
        (
            changed("patient_key", [1], kind=pa.uint64()),
            "patient_key: type is uint64, must be int64 (BIGINT)",
        ),
        (
            changed("study_at", [None], kind=pa.timestamp("us", tz="UTC")),
            "study_at: type is timestamp[us, tz=UTC], must be timestamp[us] (TIMESTAMP)",
        ),
    ],
)
def test_what_breaks_the_contract_is_told(data: pa.Table, problem: str):
    assert STUDY.problems(data) == [problem]


def test_missing_extra_and_doubled_columns_are_told():
    data = rows("dicom.study", {})
    assert STUDY.problems(data.drop_columns(["patient_key", "n_series"])) == ["missing columns: patient_key, n_series"]
    with_more = data.append_column("patient_name", pa.array(["x"]))
    assert STUDY.problems(with_more) == ["columns that the contract does not have: patient_name"]
    twice = data.append_column("n_series", pa.array([1], pa.int32()))
    assert STUDY.problems(twice) == ["columns given twice: n_series"]


def test_a_number_that_is_not_finite_is_told():
    share = load_table("stats.duplicate_exam")
    data = rows("stats.duplicate_exam", {"duplicate_share": float("nan")})
    assert share.problems(data) == ["duplicate_share: not a finite number in row 1"]


def test_values_are_not_in_the_message():
    data = changed("patient_sex", ["王^小东"])
    assert "王" not in str(STUDY.problems(data))


def test_strings_may_be_encoded_in_any_way():
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        data = changed("patient_sex", ["F", "M", "F"], kind=kind)
        assert STUDY.problems(data) == []
    broken = changed("patient_sex", ["F", "W"], kind=pa.dictionary(pa.int32(), pa.string()))
    assert STUDY.problems(broken) == ["patient_sex: not one of F, M, O, UNKNOWN in row 2"]
