"""Rows of a table as Arrow data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from radlake.contracts.table import Table
from radlake.errors import ContractBroken

__all__ = ["arrow_rows"]


def arrow_rows(table: Table, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows as an Arrow table of the contract's schema; a value that a row has not is NULL.

    Raises
    ------
    ContractBroken
        If a row has a value that the type cannot hold.
    """
    schema = table.arrow_schema()
    try:
        columns = [pa.array([row.get(column.name) for row in rows], type=column.type) for column in schema]
        return pa.Table.from_arrays(columns, schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as exc:
        raise ContractBroken(table=table.full_name, problems=[type(exc).__name__]) from exc
