"""Run the queries of `pairs` over a file of the sequence: as its rows stream, and sorted if they came out of order."""

from __future__ import annotations

from typing import Protocol

import duckdb
import pyarrow as pa

from radlake.contracts.check import compute
from radlake.stats.duplicates.pairs import OUT_OF_ORDER

__all__ = ["Query", "in_order"]


class Query(Protocol):
    """The text of a query, for rows that come in order or for any."""

    def __call__(self, *, is_streamed: bool) -> str: ...


def in_order(connection: duckdb.DuckDBPyConnection, query: Query) -> pa.Table:
    """The answer of a query whose rows came in order."""
    found = connection.sql(query(is_streamed=True)).to_arrow_table()
    if compute.sum(found[OUT_OF_ORDER]).as_py():
        found = connection.sql(query(is_streamed=False)).to_arrow_table()
    return found
