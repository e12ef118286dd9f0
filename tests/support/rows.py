"""Rows of tables for tests: say what matters, the rest is filled in so that the contract holds.

rows("core.exam", {"exam_pseudo_id": "e1", "study_month": 202603}, {"exam_pseudo_id": "e2"})
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pyarrow as pa

from radlake.contracts import Column, load_table

__all__ = ["rows"]

_DIGITS = {"[0-9.]{1,64}": "1.2.3", "[0-9a-f]{16}": "0" * 16, "[0-9a-f]{32}": "0" * 32, "[0-9a-f]{64}": "0" * 64}
_ANY: dict[str, Any] = {
    "BOOLEAN": True,
    "DOUBLE": 1.0,
    "VARCHAR": "x",
    "DATE": date(2026, 3, 1),
    "TIMESTAMP": datetime(2026, 3, 1, 8),
}


def rows(table: str, *given: dict[str, Any]) -> pa.Table:
    """One row for each mapping; columns that it does not name hold a value that the contract allows, or NULL."""
    contract = load_table(table)
    if unknown := {name for row in given for name in row} - set(contract.column_names):
        raise KeyError(f"{table} has no column {sorted(unknown)}")
    filled = [{column.name: row.get(column.name, _default(column)) for column in contract.columns} for row in given]
    return pa.Table.from_pylist(filled, schema=contract.arrow_schema())


def _default(column: Column) -> Any:
    if not column.required:
        return None
    if column.default is not None:
        return column.default
    if column.values:
        return column.values[0]
    if column.pattern:
        return _DIGITS[column.pattern]
    if column.unit == "yyyymm":
        return 202603
    return _ANY.get(column.type, max(1, int(column.minimum or 0)))
