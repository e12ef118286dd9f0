"""The column types that a contract may use: DuckDB's name and Arrow's type.

No unsigned integers (Delta has none) and no zoned timestamps (one is seven times slower to truncate, and the time
zone of a hospital is a fact of the hospital, not of every row).
"""

from __future__ import annotations

import pyarrow as pa

__all__ = ["ARROW_TYPES", "NUMERIC_TYPES"]

ARROW_TYPES: dict[str, pa.DataType] = {
    "BOOLEAN": pa.bool_(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
}
NUMERIC_TYPES = frozenset({"SMALLINT", "INTEGER", "BIGINT", "DOUBLE"})
