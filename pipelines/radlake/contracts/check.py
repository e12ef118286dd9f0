"""Compare rows with a contract, column by column, in Arrow's compiled kernels.

A problem names the column, how many rows break it and the first such row; never a value, which could identify.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from radlake.contracts.table import Column, Table

__all__ = ["compute", "problems"]

# pyarrow generates its compute functions at import: no type checker can see them.
compute: Any = pc


def problems(table: Table, data: pa.Table) -> list[str]:
    """Every way in which `data` breaks the contract: missing and extra columns, types, values, duplicate keys."""
    found = []
    present = data.column_names
    if missing := [name for name in table.column_names if name not in present]:
        found.append(f"missing columns: {', '.join(missing)}")
    if extra := [name for name in present if name not in table.column_names]:
        found.append(f"columns that the contract does not have: {', '.join(extra)}")
    if twice := sorted({name for name in present if present.count(name) > 1}):
        return [*found, f"columns given twice: {', '.join(twice)}"]

    for column in table.columns:
        if column.name in present:
            found += _column_problems(column, data.column(column.name))
    if set(table.key) <= set(present):
        found += _key_problems(table.key, data)
    return found


def _column_problems(column: Column, values: pa.ChunkedArray) -> list[str]:
    wanted = column.arrow_field.type
    if not _is_same_type(values.type, wanted):
        return [f"{column.name}: type is {values.type}, must be {wanted} ({column.type})"]
    values = values.cast(wanted)
    broken: list[tuple[str, Any]] = []
    if column.required:
        broken.append(("NULL in a required column", compute.is_null(values)))
    if column.values is not None:
        allowed = pa.array(column.values, type=wanted)
        broken.append(
            (f"not one of {', '.join(map(str, column.values))}", compute.invert(compute.is_in(values, allowed)))
        )
    if column.pattern is not None:
        matched = compute.match_substring_regex(values, pattern=rf"\A(?:{column.pattern})\z")
        broken.append((f"does not match {column.pattern}", compute.invert(matched)))
    if column.minimum is not None:
        broken.append((f"below {column.minimum:g}", compute.less(values, column.minimum)))
    if column.maximum is not None:
        broken.append((f"above {column.maximum:g}", compute.greater(values, column.maximum)))
    if column.type == "DOUBLE":
        broken.append(("not a finite number", compute.invert(compute.is_finite(values))))

    found = []
    for sentence, mask in broken:
        if not sentence.startswith("NULL"):
            mask = compute.and_(compute.fill_null(mask, False), compute.is_valid(values))
        if count := compute.sum(mask).as_py():
            found.append(f"{column.name}: {sentence} in {_rows(count, first=compute.index(mask, True).as_py())}")
    return found


def _key_problems(key: tuple[str, ...], data: pa.Table) -> list[str]:
    groups = data.select(key).group_by(list(key)).aggregate([([], "count_all")])
    counts = groups.column("count_all")
    surplus = (compute.sum(counts).as_py() or 0) - len(counts)
    return [f"key ({', '.join(key)}): {surplus} rows repeat the key of another row"] if surplus else []


def _is_same_type(actual: pa.DataType, wanted: pa.DataType) -> bool:
    """Strings may come large, as a view, or dictionary-encoded: the stored bytes are the same."""
    if pa.types.is_dictionary(actual):
        actual = actual.value_type
    if pa.types.is_string(wanted):
        return pa.types.is_string(actual) or pa.types.is_large_string(actual) or pa.types.is_string_view(actual)
    return actual == wanted


def _rows(count: int, *, first: int) -> str:
    return f"row {first + 1}" if count == 1 else f"{count} rows, first in row {first + 1}"
