"""Table contracts: what `schemas/` says about every table, as values.

`load` reads and checks the YAML, `table` holds the values, `rows` makes Arrow data, `check` compares them with the
values, `reference` writes docs/reference/tables.md. Nothing here reads or writes a table.
"""

from __future__ import annotations

from radlake.contracts.load import load_table, load_tables
from radlake.contracts.table import Column, Disclosure, Table

__all__ = ["Column", "Disclosure", "Table", "load_table", "load_tables"]
