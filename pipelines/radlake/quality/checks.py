"""What must hold for a batch, as values: one `Check` is one expectation with the words for its failure.

The contract of a table says most of it. What no single row can tell (a study and its instances agree) is
`RELATIONS`, over the columns that `frames` adds. Nothing here imports Great Expectations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from radlake.contracts import Column, Table

__all__ = ["Check", "Finding", "checks_from_table"]


@dataclass(frozen=True)
class Check:
    """One expectation on one table.

    Attributes
    ----------
    expectation : str
        Type of the expectation in Great Expectations.
    columns : tuple of str
        The columns it judges; a dotted name or `n(...)` is one that `frames` added.
    arguments : mapping
        Keyword arguments of the expectation.
    complaint : str
        Ends the sentence "3 of 120 ...".
    """

    expectation: str
    columns: tuple[str, ...]
    arguments: Mapping[str, Any]
    complaint: str


@dataclass(frozen=True)
class Finding:
    """What one check found: the row numbers that failed, or `None` when the check itself could not run."""

    check: Check
    is_success: bool
    n_rows: int
    failed: tuple[int, ...] | None


def checks_from_table(table: Table) -> list[Check]:
    """Expectations that the contract implies for each row, then those across tables."""
    return [
        _unique(*table.key),
        *(check for column in table.columns for check in _checks_from_column(column)),
        *RELATIONS.get(table.view_name, ()),
    ]


def _checks_from_column(column: Column) -> list[Check]:
    checks: list[Check] = []

    def expect(expectation: str, complaint: str, **arguments: Any) -> None:
        checks.append(Check(expectation, (column.name,), {"column": column.name, **arguments}, complaint))

    if column.required:
        checks.append(_present(column.name, "values missing"))
    if column.pattern:
        # The whole value: `$` would let a trailing line feed pass.
        expect(
            "expect_column_values_to_match_regex",
            f"values not of the form {column.pattern}",
            regex=rf"\A(?:{column.pattern})\Z",
        )
    if column.values:
        expect(
            "expect_column_values_to_be_in_set",
            f"values not one of {', '.join(map(str, column.values))}",
            value_set=list(column.values),
        )
    if column.minimum is not None or column.maximum is not None:
        limits = {"min_value": column.minimum, "max_value": column.maximum}
        expect("expect_column_values_to_be_between", f"values {_outside(column.minimum, column.maximum)}", **limits)
    return checks


def _outside(minimum: float | None, maximum: float | None) -> str:
    if maximum is None:
        return f"below {minimum}"
    return f"above {maximum}" if minimum is None else f"outside {minimum} to {maximum}"


def _unique(*columns: str) -> Check:
    arguments = {"column_list": list(columns), "ignore_row_if": "any_value_is_missing"}
    return Check("expect_compound_columns_to_be_unique", columns, arguments, "rows repeat the key")


def _present(column: str, complaint: str) -> Check:
    return Check("expect_column_values_to_not_be_null", (column,), {"column": column}, complaint)


def _equal(column: str, other: str, complaint: str) -> Check:
    arguments = {"column_A": column, "column_B": other, "ignore_row_if": "either_value_is_missing"}
    return Check("expect_column_pair_values_to_be_equal", (column, other), arguments, complaint)


def _at_most(column: str, limit: str, complaint: str) -> Check:
    arguments = {"column_A": limit, "column_B": column, "or_equal": True, "ignore_row_if": "either_value_is_missing"}
    return Check("expect_column_pair_values_a_to_be_greater_than_b", (column, limit), arguments, complaint)


RELATIONS: Mapping[str, tuple[Check, ...]] = {
    "dicom.study": (
        _equal("n_series", "n(dicom.series)", "rows differ from the series in the batch"),
        _equal("n_instances", "n(dicom.instance)", "rows differ from the instances in the batch"),
    ),
    "dicom.series": (
        _present("study.study_month", "rows without their study in the batch"),
        _equal("study_month", "study.study_month", "rows differ from the month of their study"),
        _equal("n_instances", "n(dicom.instance)", "rows differ from the instances in the batch"),
    ),
    "dicom.instance": (
        _present("study.study_month", "rows without their study in the batch"),
        _equal("study_month", "study.study_month", "rows differ from the month of their study"),
        _present("series.object_bytes", "rows without their series object in the batch"),
        _at_most("object_end", "series.object_bytes", "rows lie past the end of their series object"),
        _at_most("pixel_offset", "instance_bytes", "rows lie past the end of their instance"),
    ),
}
