"""What statements of several tables of the ledger's database have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

__all__ = ["in_parts", "put_row"]

_AT_ONCE = 500  # parameters of one statement, rows of one transaction

T = TypeVar("T")


def in_parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Not more of them at a time than a statement bears, and others wait for."""
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]


def put_row(
    connection: sa.Connection,
    table: sa.Table,
    key: Mapping[str, Any],
    values: Mapping[str, Any],
    *,
    first: Mapping[str, Any] | None = None,
) -> None:
    """Change the row of a key, or make it (`first`: with these values)."""
    where = [table.c[name] == value for name, value in key.items()]
    if not connection.execute(table.update().where(*where).values(**values)).rowcount:
        connection.execute(table.insert().values(**key, **(first or values)))
