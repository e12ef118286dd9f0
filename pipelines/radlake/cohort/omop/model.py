"""Tables of OMOP CDM 5.4 and MI-CDM 1.0, read from schemas/omop/tables.yaml: Arrow schemas and DDL. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import pyarrow as pa
import yaml

from radlake.resources import schemas_root

__all__ = ["Column", "Table", "ddl", "tables"]

_ARROW = {"integer": pa.int32(), "numeric": pa.float64(), "date": pa.date32(), "timestamp": pa.timestamp("us"),
          "text": pa.string()}  # fmt: skip
_VARCHAR = re.compile(r"varchar\((\d+)\)")


@dataclass(frozen=True)
class Column:
    """A column: its SQL type, and what must hold of it.

    Attributes
    ----------
    references : str
        Table that its values are keys of; empty when they are none, or of a table that an export does not have.
    """

    name: str
    type: str
    is_key: bool
    is_required: bool
    references: str

    @property
    def arrow(self) -> pa.Field:
        return pa.field(self.name, _ARROW.get(self.type, pa.string()), nullable=not self.is_required)

    @property
    def longest(self) -> int | None:
        """Most characters of a varchar."""
        match = _VARCHAR.fullmatch(self.type)
        return int(match[1]) if match else None


@dataclass(frozen=True)
class Table:
    name: str
    columns: tuple[Column, ...]

    @property
    def arrow(self) -> pa.Schema:
        return pa.schema([column.arrow for column in self.columns])


@cache
def tables() -> Mapping[str, Table]:
    """Every table of an export, those first that others name."""
    content: dict[str, str] = yaml.safe_load((schemas_root() / "omop" / "tables.yaml").read_text(encoding="utf-8"))
    lines = {name: [line.split() for line in text.splitlines()] for name, text in content.items()}
    keys = {column: name for name, rows in lines.items() for column, _, *rest in rows if rest == ["key"]}
    return {name: Table(name, tuple(_column(row, keys) for row in rows)) for name, rows in lines.items()}


def ddl() -> str:
    """The tables in SQL that PostgreSQL and DuckDB take, with keys; `concept` has to be there."""
    return "\n".join(_create(table) for table in tables().values())


def _column(row: list[str], keys: Mapping[str, str]) -> Column:
    name, kind, *rest = row
    is_key = rest == ["key"]
    if is_key:
        references = ""
    elif name.endswith("_concept_id"):
        references = "concept"
    else:
        references = next((table for key, table in keys.items() if name == key or name.endswith(f"_{key}")), "")
    return Column(name, kind, is_key, is_key or rest == ["required"], references)


def _create(table: Table) -> str:
    lines = [f"  {column.name} {column.type}{' NOT NULL' if column.is_required else ''}" for column in table.columns]
    lines += [f"  PRIMARY KEY ({column.name})" for column in table.columns if column.is_key]
    lines += [
        f"  FOREIGN KEY ({column.name}) REFERENCES {column.references} ({column.references}_id)"
        for column in table.columns
        if column.references
    ]
    return f"CREATE TABLE {table.name} (\n" + ",\n".join(lines) + "\n);"
