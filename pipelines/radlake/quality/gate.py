"""The gate: which studies of a batch may not be published, and why.

The unit that is held back is the partition: one failing row holds back every study of the batch in the same
`study_month`, because a fault that shows in one row has rarely touched only that row, and because a month is
published as a whole or not at all. A failing row that belongs to no study of the batch holds back the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from radlake.contracts import load_table
from radlake.errors import ContractBroken
from radlake.quality.checks import Finding, checks_from_table
from radlake.quality.first_look import all_hold
from radlake.quality.frames import frames_from_tables
from radlake.quality.suites import validate

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["GateResult", "check_batch"]


@dataclass(frozen=True, eq=False)
class GateResult:
    """Outcome of the gate for one batch.

    Attributes
    ----------
    results : pa.Table
        One row per expectation, in the schema of `ops.quality`.
    blocked : dict
        `study_instance_uid` of each study that may not be published, with the reason in words.
        Publish only rows whose study is in `dicom.study` of the batch and not in here.
    """

    results: pa.Table
    blocked: dict[str, str]


def check_batch(tables: Mapping[str, pa.Table], *, batch_id: str, checked_at: datetime) -> GateResult:
    """Check the staged rows of a batch before they are published.

    Parameters
    ----------
    tables : mapping
        `dicom.study`, `dicom.series` and `dicom.instance` of the batch, in the schemas of their contracts.
    batch_id : str
        Goes into `ops.quality`.
    checked_at : datetime
        UTC instant that goes into `ops.quality`.

    Raises
    ------
    ContractBroken
        If a table has not the columns of its contract: that is a fault of the program, not of the data.
    """
    for name, table in tables.items():
        _require_columns(name, table.schema)
    studies = tables["dicom.study"]
    months = list(zip(studies["study_instance_uid"].to_pylist(), studies["study_month"].to_pylist(), strict=True))
    rows: list[dict[str, object]] = []
    held: dict[int | None, list[str]] = {month: [] for _, month in months}
    for name, frame in frames_from_tables(tables).items():
        for finding in _findings(name, frame):
            detail = _detail(name, finding)
            rows.append(_row(name, finding, detail) | {"batch_id": batch_id, "checked_at": checked_at})
            for month in () if finding.is_success else _months_held(frame, finding, set(held)):
                held[month].append(detail)
    blocked = {uid: f"month {month} is held back: {'; '.join(held[month])}" for uid, month in months if held[month]}
    return GateResult(pa.Table.from_pylist(rows, schema=load_table("ops.quality").arrow_schema()), blocked)


def _findings(table: str, frame: pd.DataFrame) -> list[Finding]:
    checks = checks_from_table(load_table(table))
    if all_hold(checks, frame):
        return [Finding(check, is_success=True, n_rows=len(frame), failed=()) for check in checks]
    return validate(table, frame)


def _require_columns(name: str, schema: pa.Schema) -> None:
    """The shape only: an empty table breaks a contract by its columns and types or not at all."""
    if problems := load_table(name).problems(schema.empty_table()):
        raise ContractBroken(table=name, problems=problems)


def _row(table: str, finding: Finding, detail: str) -> dict[str, object]:
    return {
        "checked_table": table,
        "expectation": finding.check.expectation,
        "checked_column": ", ".join(finding.check.columns),
        "is_success": finding.is_success,
        "n_rows": finding.n_rows,
        "n_failed": finding.n_rows if finding.failed is None else len(finding.failed),
        "detail": detail,
    }


def _detail(table: str, finding: Finding) -> str:
    if finding.is_success:
        return ""
    columns = finding.check.columns
    own = len(columns) == 1 and "." not in columns[0]
    where = f"{table}.{columns[0]}" if own else f"{table} ({', '.join(columns)})"
    if finding.failed is None:
        return f"{where}: could not be checked"
    return f"{where}: {len(finding.failed)} of {finding.n_rows} {finding.check.complaint}"


def _months_held(frame: pd.DataFrame, finding: Finding, months: set[Any]) -> set[Any]:
    """Months that a finding holds back: those of the failing rows and of their studies; all, if a row has none."""
    if finding.failed is None:
        return months
    named = frame.loc[list(finding.failed), [n for n in ("study_month", "study.study_month") if n in frame]]
    found = [months.intersection(row) for row in named.itertuples(index=False)]
    return set().union(*found) if all(found) else months
