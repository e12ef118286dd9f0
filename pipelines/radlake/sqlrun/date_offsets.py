"""The true calendar: by how much the times of each person were moved, put into a connection for as long as it lives.

It is derived from the key and never stored (docs/adr/0003-true-calendar-in-the-restricted-zone.md).
"""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import numpy as np
import pyarrow as pa

__all__ = ["DATE_OFFSET_DDL", "LINKS", "PERSONS", "DateOffsets", "register_date_offsets", "register_offsets"]

# Persons -> seconds by which the times of each were moved.
DateOffsets = Callable[[np.ndarray], np.ndarray]
PERSONS = ("dicom.study", "core.exam")  # who has a date offset
LINKS = "core.person_link"
# With each pseudonym the person who has it: core.person_link, or itself.
DATE_OFFSET_DDL = (
    "CREATE TABLE restricted.date_offset (patient_key BIGINT, date_offset_seconds BIGINT, person_key BIGINT)"
)


def register_date_offsets(connection: duckdb.DuckDBPyConnection, date_offsets: DateOffsets) -> None:
    """Put `restricted.date_offset` into a connection: the shift of each pseudonym, and the person who has it."""
    every = " UNION ALL ".join(f"SELECT patient_key FROM {name}" for name in PERSONS)
    register_offsets(connection, date_offsets, persons=f"({every})")
    connection.execute("CREATE SCHEMA IF NOT EXISTS restricted")
    connection.execute(DATE_OFFSET_DDL)
    connection.execute(
        "INSERT INTO restricted.date_offset"
        " SELECT patient_key, seconds, coalesce(link.person_key, patient_key)"
        f" FROM offsets LEFT JOIN {LINKS} AS link USING (patient_key)"
    )
    connection.unregister("offsets")


def register_offsets(connection: duckdb.DuckDBPyConnection, date_offsets: DateOffsets, *, persons: str) -> None:
    """Register `offsets` (patient_key, seconds): the shift of the pseudonyms of a relation, and of nobody else."""
    keys = connection.sql(f"SELECT DISTINCT patient_key FROM {persons} ORDER BY patient_key").to_arrow_table()
    numbers = keys["patient_key"].to_numpy()
    seconds = np.asarray(date_offsets(numbers), dtype=np.int64)
    connection.register("offsets", pa.table({"patient_key": numbers, "seconds": seconds}))
