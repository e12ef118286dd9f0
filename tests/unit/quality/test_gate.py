"""The quality gate: what it holds back, why, and what it writes into ops.quality."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from radlake.contracts import load_table
from radlake.errors import ContractBroken
from radlake.quality import GateResult, check_batch

CHECKED_AT = datetime(2026, 11, 2, 18, 0, tzinfo=UTC)
MONTHS = {"2.25.1": 202603, "2.25.2": 202603, "2.25.3": 202604}
Rows = dict[str, list[dict[str, Any]]]


def leave(rows: Rows) -> None:
    """Edit nothing."""


def batch(edit: Callable[[Rows], object] = leave) -> dict[str, pa.Table]:
    """Three studies in two months, each of two series of two instances; `edit` breaks it."""
    rows: Rows = {"dicom.study": [], "dicom.series": [], "dicom.instance": []}
    for study_uid, month in MONTHS.items():
        place = {"hospital_id": "h1", "study_instance_uid": study_uid, "patient_key": 7, "study_month": month}
        rows["dicom.study"].append(
            place
            | {"exam_pseudo_id": "e", "modality_group": "CT", "modalities_in_study": "CT", "body_part_code": "CHEST"}
            | {"body_part_source": "code", "laterality_code": "NONE", "patient_sex": "F", "patient_age_years": 40}
            | {"is_patient_known": True, "n_series": 2, "n_instances": 4, "study_bytes": 800, "profile_name": "default"}
        )
        for series_uid in (f"{study_uid}.1", f"{study_uid}.2"):
            path = f"h1/{series_uid}.zip"
            rows["dicom.series"].append(
                place
                | {"series_instance_uid": series_uid, "modality": "CT", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2"}
                | {"n_instances": 2, "series_bytes": 400, "object_path": path, "object_bytes": 600}
            )
            rows["dicom.instance"] += [
                place
                | {"series_instance_uid": series_uid, "sop_instance_uid": f"{series_uid}.{number}", "modality": "CT"}
                | {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.2", "transfer_syntax_uid": "1.2.840.10008.1.2.1"}
                | {"rows": 512, "columns": 512, "n_frames": 1, "object_path": path, "object_offset": 300 * number}
                | {"instance_bytes": 200, "pixel_offset": 150, "digest": f"{number:032x}"}
                for number in (0, 1)
            ]
    edit(rows)
    return {name: pa.Table.from_pylist(rows[name], schema=load_table(name).arrow_schema()) for name in rows}


def gate(edit: Callable[[Rows], object] = leave) -> GateResult:
    return check_batch(batch(edit), batch_id="b1", checked_at=CHECKED_AT)


def set_value(table: str, row: int, **values: Any) -> Callable[[Rows], object]:
    return lambda rows: rows[table][row].update(values)


@pytest.fixture(scope="module")
def sound() -> GateResult:
    return gate()


def test_a_sound_batch_passes(sound: GateResult) -> None:
    assert sound.blocked == {}
    assert set(sound.results["is_success"].to_pylist()) == {True}
    assert set(sound.results["detail"].to_pylist()) == {""}


def test_results_are_rows_of_ops_quality() -> None:
    results = gate(set_value("dicom.instance", 0, rows=-1)).results
    contract = load_table("ops.quality")
    assert results.schema.equals(contract.arrow_schema())
    assert contract.problems(results) == []
    [failed] = [row for row in results.to_pylist() if not row["is_success"]]
    assert failed == {
        "batch_id": "b1",
        "checked_table": "dicom.instance",
        "expectation": "ExpectColumnValuesToBeBetween",
        "checked_column": "rows",
        "is_success": False,
        "n_rows": 12,
        "n_failed": 1,
        "detail": "dicom.instance.rows: 1 of 12 values below 0",
        "checked_at": CHECKED_AT.replace(tzinfo=None),
    }


def test_every_rule_of_the_contracts_is_checked(sound: GateResult) -> None:
    rows = sound.results.to_pylist()
    checked = {(row["checked_table"], row["checked_column"], row["expectation"]) for row in rows}
    for name in ("dicom.study", "dicom.series", "dicom.instance"):
        table = load_table(name)
        wanted = {(name, ", ".join(table.key), "ExpectCompoundColumnsToBeUnique")}
        for column in table.columns:
            rules = {
                "ExpectColumnValuesToNotBeNull": column.required,
                "ExpectColumnValuesToMatchRegex": column.pattern,
                "ExpectColumnValuesToBeInSet": column.values,
                "ExpectColumnValuesToBeBetween": (column.minimum, column.maximum) != (None, None),
            }
            wanted |= {(name, column.name, expectation) for expectation, is_ruled in rules.items() if is_ruled}
        assert wanted <= checked


def test_a_failing_row_holds_back_its_month_and_no_other() -> None:
    blocked = gate(set_value("dicom.instance", 0, rows=-1)).blocked
    reason = "month 202603 is held back: dicom.instance.rows: 1 of 12 values below 0"
    assert blocked == {"2.25.1": reason, "2.25.2": reason}


def test_every_reason_is_told() -> None:
    def edit(rows: Rows) -> None:
        rows["dicom.study"][2]["patient_sex"] = "X"
        rows["dicom.instance"][11]["digest"] = "0" * 31 + "\n"

    assert gate(edit).blocked == {
        "2.25.3": "month 202604 is held back: "
        "dicom.study.patient_sex: 1 of 3 values not one of F, M, O, UNKNOWN; "
        "dicom.instance.digest: 1 of 12 values not of the form [0-9a-f]{32}"
    }


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        pytest.param(
            set_value("dicom.study", 2, exam_pseudo_id=None),
            "dicom.study.exam_pseudo_id: 1 of 3 values missing",
            id="required value missing",
        ),
        pytest.param(
            set_value("dicom.study", 2, patient_age_years=91),
            "dicom.study.patient_age_years: 1 of 3 values outside 0 to 90",
            id="above the maximum",
        ),
        pytest.param(
            set_value("dicom.instance", 8, study_instance_uid="2.25.3\n"),
            "dicom.study (n_instances, n(dicom.instance)): 1 of 3 rows differ from the instances in the batch; "
            "dicom.instance.study_instance_uid: 1 of 12 values not of the form [0-9.]{1,64}; "
            "dicom.instance (study.study_month): 1 of 12 rows without their study in the batch",
            id="UID with a line feed",
        ),
        pytest.param(
            set_value("dicom.instance", 9, sop_instance_uid="2.25.3.1.0"),
            "dicom.instance (hospital_id, sop_instance_uid): 2 of 12 rows repeat the key",
            id="instance twice",
        ),
        pytest.param(
            lambda rows: rows["dicom.instance"].pop(),
            "dicom.study (n_instances, n(dicom.instance)): 1 of 3 rows differ from the instances in the batch; "
            "dicom.series (n_instances, n(dicom.instance)): 1 of 6 rows differ from the instances in the batch",
            id="instance lost",
        ),
        pytest.param(
            lambda rows: rows["dicom.series"].pop(),
            "dicom.study (n_series, n(dicom.series)): 1 of 3 rows differ from the series in the batch; "
            "dicom.instance (series.object_bytes): 2 of 12 rows without their series object in the batch",
            id="series lost",
        ),
        pytest.param(
            set_value("dicom.instance", 11, object_offset=401),
            "dicom.instance (object_end, series.object_bytes): 1 of 12 rows lie past the end of their series object",
            id="instance past the end of its object",
        ),
        pytest.param(
            set_value("dicom.instance", 11, pixel_offset=201),
            "dicom.instance (pixel_offset, instance_bytes): 1 of 12 rows lie past the end of their instance",
            id="pixels past the end of their instance",
        ),
    ],
)
def test_reasons(edit: Callable[[Rows], object], reason: str) -> None:
    assert gate(edit).blocked == {"2.25.3": f"month 202604 is held back: {reason}"}


def test_an_instance_at_the_very_end_of_its_object_is_within_it() -> None:
    assert gate(set_value("dicom.instance", 11, object_offset=400)).blocked == {}


def test_an_instance_in_another_month_than_its_study_holds_back_both_months() -> None:
    assert set(gate(set_value("dicom.instance", 0, study_month=202604)).blocked) == set(MONTHS)


def test_an_instance_of_a_lost_study_in_a_known_month_holds_back_that_month() -> None:
    blocked = gate(lambda rows: rows["dicom.study"].pop(0)).blocked
    assert set(blocked) == {"2.25.2"}
    assert "4 of 12 rows without their study in the batch" in blocked["2.25.2"]


@pytest.mark.parametrize("month", [199901, None])
def test_a_row_that_belongs_to_no_study_holds_back_the_whole_batch(month: int | None) -> None:
    edit = set_value("dicom.instance", 0, study_instance_uid="2.25.9", study_month=month)
    assert set(gate(edit).blocked) == set(MONTHS)


def test_a_study_without_a_month_holds_back_the_whole_batch() -> None:
    assert set(gate(set_value("dicom.study", 0, study_month=None)).blocked) == set(MONTHS)


def test_two_hospitals_may_have_a_study_with_the_same_uid() -> None:
    def edit(rows: Rows) -> None:
        for table in rows.values():
            table += [row | {"hospital_id": "h2"} for row in table]

    assert gate(edit).blocked == {}


def test_an_empty_batch_passes() -> None:
    assert gate(lambda rows: [table.clear() for table in rows.values()]).blocked == {}


def test_a_table_of_another_shape_is_a_fault_of_the_program() -> None:
    tables = batch()
    tables["dicom.instance"] = tables["dicom.instance"].drop_columns(["digest"])
    with pytest.raises(ContractBroken, match=r"dicom\.instance breaks its contract:\n  - missing columns: digest"):
        check_batch(tables, batch_id="b1", checked_at=CHECKED_AT)


def test_the_gate_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    gate(set_value("dicom.instance", 0, rows=-1))
    assert capfd.readouterr() == ("", "")
