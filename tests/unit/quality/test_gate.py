"""The quality gate: what it holds back, why, and what it writes into ops.quality."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from radlake.contracts import load_table
from radlake.errors import ContractBroken
from radlake.quality import GateResult, check_batch, checks, suites
from radlake.quality.first_look import all_hold
from radlake.quality.frames import frames_from_tables

CHECKED_AT = datetime(2026, 11, 2, 18, 0, tzinfo=UTC)
TABLES = ("dicom.study", "dicom.series", "dicom.instance")
Rows = dict[str, list[dict[str, Any]]]
Edit = Callable[[Rows], object]


def study(study_uid: str, *, month: int | None) -> Rows:
    """A sound study of two series of two instances."""
    place = {"hospital_id": "h1", "study_instance_uid": study_uid, "patient_key": 7, "study_month": month}
    rows: Rows = {name: [] for name in TABLES}
    rows["dicom.study"].append(
        place
        | {"exam_pseudo_id": "e", "modality_group": "CT", "modalities_in_study": "CT", "body_part_code": "CHEST"}
        | {"body_part_source": "code", "laterality_code": "NONE", "patient_sex": "F", "patient_age_years": 40}
        | {"is_patient_known": True, "n_series": 2, "n_instances": 4, "study_bytes": 800, "profile_name": "default"}
        | {"contrast_code": "UNKNOWN", "mado_region_code": "67734004", "confidence_code": "HIGH"}
        | {"conflict_code": "NONE", "loinc_code": "NONE", "exam_evidence": "{}", "vocab_version": 1}
    )
    for series_uid in (f"{study_uid}.1", f"{study_uid}.2"):
        path = f"h1/{series_uid}.zip"
        rows["dicom.series"].append(
            place
            | {"series_instance_uid": series_uid, "modality": "CT", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2"}
            | {"n_instances": 2, "series_bytes": 400, "object_path": path, "object_bytes": 600, "residency": "central"}
        )
        rows["dicom.instance"] += [
            place
            | {"series_instance_uid": series_uid, "sop_instance_uid": f"{series_uid}.{number}", "modality": "CT"}
            | {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.2", "transfer_syntax_uid": "1.2.840.10008.1.2.1"}
            | {"rows": 512, "columns": 512, "n_frames": 1, "object_path": path, "object_offset": 300 * number}
            | {"instance_bytes": 200, "pixel_offset": 150, "digest": f"{number:032x}"}
            for number in (0, 1)
        ]
    return rows


def gate(*studies: Rows) -> GateResult:
    rows = {name: [row for each in studies for row in each[name]] for name in TABLES}
    tables = {name: pa.Table.from_pylist(rows[name], schema=load_table(name).arrow_schema()) for name in TABLES}
    return check_batch(tables, batch_id="b1", checked_at=CHECKED_AT)


def broken(rows: Rows, edit: Edit) -> Rows:
    edit(rows)
    return rows


def having(table: str, row: int = 0, **values: Any) -> Edit:
    return lambda rows: rows[table][row].update(values)


@pytest.fixture(scope="module")
def sound() -> GateResult:
    other_hospital = study("2.25.1", month=202603)
    for row in (row for table in other_hospital.values() for row in table):
        row["hospital_id"] = "h2"
    return gate(study("2.25.1", month=202603), study("2.25.2", month=202604), other_hospital)


@pytest.fixture(scope="module")
def one_bad_row() -> GateResult:
    """The first of two studies of March 2026 has a bad instance; one of April has none."""
    bad = broken(study("2.25.1", month=202603), having("dicom.instance", rows=-1))
    return gate(bad, study("2.25.2", month=202603), study("2.25.3", month=202604))


def test_a_sound_batch_passes(sound: GateResult) -> None:
    assert sound.blocked == {}
    assert set(sound.results["is_success"].to_pylist()) == {True}
    assert set(sound.results["detail"].to_pylist()) == {""}


def test_every_rule_of_the_contracts_is_checked(sound: GateResult) -> None:
    rows = sound.results.to_pylist()
    checked = {(row["checked_table"], row["checked_column"], row["expectation"]) for row in rows}
    for name in TABLES:
        table = load_table(name)
        wanted = {(name, ", ".join(table.key), "expect_compound_columns_to_be_unique")}
        for column in table.columns:
            rules = {
                "expect_column_values_to_not_be_null": column.required,
                "expect_column_values_to_match_regex": column.pattern,
                "expect_column_values_to_be_in_set": column.values,
                "expect_column_values_to_be_between": (column.minimum, column.maximum) != (None, None),
            }
            wanted |= {(name, column.name, expectation) for expectation, is_ruled in rules.items() if is_ruled}
        assert wanted <= checked


def test_a_failing_row_holds_back_its_month_and_no_other(one_bad_row: GateResult) -> None:
    reason = "month 202603 is held back: dicom.instance.rows: 1 of 12 values below 0"
    assert one_bad_row.blocked == {"2.25.1": reason, "2.25.2": reason}


def test_results_are_rows_of_ops_quality(one_bad_row: GateResult) -> None:
    contract = load_table("ops.quality")
    assert one_bad_row.results.schema.equals(contract.arrow_schema())
    assert contract.problems(one_bad_row.results) == []
    [failed] = [row for row in one_bad_row.results.to_pylist() if not row["is_success"]]
    assert failed == {
        "batch_id": "b1",
        "checked_table": "dicom.instance",
        "expectation": "expect_column_values_to_be_between",
        "checked_column": "rows",
        "is_success": False,
        "n_rows": 12,
        "n_failed": 1,
        "detail": "dicom.instance.rows: 1 of 12 values below 0",
        "checked_at": CHECKED_AT.replace(tzinfo=None),
    }


# One study and month for each: what is wrong with it, and every reason that must be told.
FAULTS: Mapping[str, tuple[Edit, list[str]]] = {
    "required value missing": (
        having("dicom.study", exam_pseudo_id=None),
        ["dicom.study.exam_pseudo_id: values missing"],
    ),
    "above the maximum": (
        having("dicom.study", patient_age_years=91),
        ["dicom.study.patient_age_years: values outside 0 to 90"],
    ),
    "not in the set": (
        having("dicom.study", patient_sex="X"),
        ["dicom.study.patient_sex: values not one of F, M, O, UNKNOWN"],
    ),
    "digest with a line feed": (
        having("dicom.instance", digest="0" * 32 + "\n"),
        ["dicom.instance.digest: values not of the form [0-9a-f]{32}"],
    ),
    "instance twice": (
        lambda rows: rows["dicom.instance"][1].update(sop_instance_uid=rows["dicom.instance"][0]["sop_instance_uid"]),
        ["dicom.instance (hospital_id, sop_instance_uid): rows repeat the key"],
    ),
    "instance lost": (
        lambda rows: rows["dicom.instance"].pop(),
        [
            "dicom.study (n_instances, n(dicom.instance)): rows differ from the instances in the batch",
            "dicom.series (n_instances, n(dicom.instance)): rows differ from the instances in the batch",
        ],
    ),
    "series lost": (
        lambda rows: rows["dicom.series"].pop(),
        [
            "dicom.study (n_series, n(dicom.series)): rows differ from the series in the batch",
            "dicom.instance (series.object_bytes): rows without their series object in the batch",
        ],
    ),
    "study lost": (
        having("dicom.study", study_instance_uid="2.25.99"),
        [
            "dicom.study (n_series, n(dicom.series)): rows differ from the series in the batch",
            "dicom.study (n_instances, n(dicom.instance)): rows differ from the instances in the batch",
            "dicom.series (study.study_month): rows without their study in the batch",
            "dicom.instance (study.study_month): rows without their study in the batch",
        ],
    ),
    "instance past the end of its object": (
        having("dicom.instance", 1, object_offset=401),
        ["dicom.instance (object_end, series.object_bytes): rows lie past the end of their series object"],
    ),
    "instance at the very end of its object": (having("dicom.instance", 1, object_offset=400), []),
    "pixels past the end of their instance": (
        having("dicom.instance", pixel_offset=201),
        ["dicom.instance (pixel_offset, instance_bytes): rows lie past the end of their instance"],
    ),
}


@pytest.fixture(scope="module")
def reasons_of_faults() -> dict[str, list[str]]:
    months = {202601 + number: fault for number, fault in enumerate(FAULTS)}
    result = gate(*(broken(study(f"2.25.{month}", month=month), FAULTS[months[month]][0]) for month in months))
    reasons: dict[str, list[str]] = {fault: [] for fault in FAULTS}
    for reason in result.blocked.values():
        month, _, details = reason.removeprefix("month ").partition(" is held back: ")
        reasons[months[int(month)]] = details.split("; ")
    return reasons


@pytest.mark.parametrize("fault", FAULTS)
def test_reasons(fault: str, reasons_of_faults: dict[str, list[str]]) -> None:
    without_counts = [
        f"{where}: {' '.join(words.split(' ')[3:])}"
        for where, words in (reason.split(": ") for reason in reasons_of_faults[fault])
    ]
    assert without_counts == FAULTS[fault][1]


def test_an_instance_in_another_month_than_its_study_holds_back_both_months() -> None:
    astray = broken(study("2.25.1", month=202603), having("dicom.instance", study_month=202604))
    blocked = gate(astray, study("2.25.2", month=202604), study("2.25.3", month=202605)).blocked
    reason = "dicom.instance (study_month, study.study_month): 1 of 12 rows differ from the month of their study"
    assert blocked == {
        "2.25.1": f"month 202603 is held back: {reason}",
        "2.25.2": f"month 202604 is held back: {reason}",
    }


@pytest.mark.parametrize("month", [199901, None])
def test_a_row_that_belongs_to_no_study_holds_back_the_whole_batch(month: int | None) -> None:
    astray = study("2.25.9", month=month)
    astray["dicom.study"].clear()
    assert set(gate(astray, study("2.25.1", month=202603), study("2.25.2", month=202604)).blocked) == {
        "2.25.1",
        "2.25.2",
    }


def test_a_study_without_a_month_holds_back_the_whole_batch() -> None:
    blocked = gate(study("2.25.1", month=None), study("2.25.2", month=202604)).blocked
    assert set(blocked) == {"2.25.1", "2.25.2"}


def test_an_empty_batch_passes() -> None:
    assert gate().blocked == {}


def test_a_table_of_another_shape_is_a_fault_of_the_program() -> None:
    tables = {name: load_table(name).arrow_schema().empty_table() for name in TABLES}
    tables["dicom.instance"] = tables["dicom.instance"].drop_columns(["digest"])
    with pytest.raises(ContractBroken, match=r"dicom\.instance breaks its contract:\n  - missing columns: digest"):
        check_batch(tables, batch_id="b1", checked_at=CHECKED_AT)


@pytest.fixture
def check_that_cannot_run(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    check = checks.Check("expect_column_values_to_not_be_null", ("no_such",), {"column": "no_such"}, "values missing")
    monkeypatch.setattr(checks, "RELATIONS", {"dicom.study": (check,)})
    suites._suites.cache_clear()
    yield
    suites._suites.cache_clear()


@pytest.mark.usefixtures("check_that_cannot_run")
def test_a_check_that_cannot_run_holds_back_the_whole_batch(capfd: pytest.CaptureFixture[str]) -> None:
    blocked = gate(study("2.25.1", month=202603)).blocked
    assert blocked == {"2.25.1": "month 202603 is held back: dicom.study.no_such: could not be checked"}
    assert capfd.readouterr() == ("", "")


VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "BOOLEAN": st.booleans(),
    "SMALLINT": st.integers(-1, 300),
    "INTEGER": st.integers(-1, 5) | st.sampled_from([202603, 202604]),
    "BIGINT": st.integers(-1, 700),
    "UBIGINT": st.integers(0, 9),
    "VARCHAR": st.sampled_from(["", "CT", "F", "h1", "2.25.1", "2.25.1.1", "0" * 32, "x\n", "central", "ö"]),
}


@st.composite
def strayed(draw: st.DrawFn) -> Rows:
    """A sound study of which some values are others, or missing."""
    rows = study("2.25.1", month=202603)
    for _ in range(draw(st.integers(0, 9))):
        name = draw(st.sampled_from(TABLES))
        column = draw(st.sampled_from([one for one in load_table(name).columns if one.type in VALUES]))
        draw(st.sampled_from(rows[name]))[column.name] = draw(st.none() | VALUES[column.type])
    return rows


@settings(max_examples=6, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(strayed())
def test_the_first_look_says_what_great_expectations_says(rows: Rows) -> None:
    tables = {name: pa.Table.from_pylist(rows[name], schema=load_table(name).arrow_schema()) for name in TABLES}
    for name, frame in frames_from_tables(tables).items():
        findings = suites.validate(name, frame)
        told = [all_hold([finding.check], frame) for finding in findings]
        assert told == [finding.is_success for finding in findings]


def test_a_sound_batch_does_not_import_great_expectations() -> None:
    code = "import sys, test_gate; test_gate.gate(test_gate.study('2.25.1', month=202603)); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, check=True, capture_output=True, text=True
    )
    imported = done.stdout.split()
    assert "pandas" in imported
    assert "great_expectations" not in imported
