"""Run the SQL of `sql/`: order, type-check, build, check, publish. Statistics are decided in SQL, not here."""

from __future__ import annotations

from radlake.sqlrun.build import BuiltTable, build
from radlake.sqlrun.queries import load_queries
from radlake.sqlrun.type_check import type_check

__all__ = ["BuiltTable", "build", "load_queries", "type_check"]
