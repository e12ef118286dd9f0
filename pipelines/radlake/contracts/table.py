"""A table contract as a value: columns, key, partition, sort order, and what follows from them.

Reading the YAML is in `load`, comparing rows with the contract in `check`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from radlake.contracts import check
from radlake.contracts.types import ARROW_TYPES

__all__ = ["Column", "Disclosure", "Table", "quoted"]


def quoted(name: str) -> str:
    """An SQL identifier in double quotes: `rows` and `columns` are DICOM keywords and SQL words."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    name, type : str
        Column name and DuckDB type.
    required : bool
        NULL is not allowed.
    privacy : str
        Privacy class; what may leave the restricted zone is decided by class.
    keyword : str or None
        DICOM keyword (PS3.6) whose value the column holds.
    values, pattern, minimum, maximum
        What a value may be; `pattern` is an RE2 expression for the whole value.
    default : str, int or None
        Of a column that was added to a table which lakes have already: what rows that are older than it hold.
    """

    name: str
    type: str
    required: bool
    privacy: str
    description: str
    unit: str | None = None
    keyword: str | None = None
    values: tuple[str | int, ...] | None = None
    pattern: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    default: str | int | None = None

    @property
    def arrow_field(self) -> pa.Field:
        return pa.field(self.name, ARROW_TYPES[self.type], nullable=not self.required)


@dataclass(frozen=True, kw_only=True)
class Disclosure:
    """Which columns of a statistic disclosure control sees as dimensions, as counts, and as derived from counts.

    Attributes
    ----------
    is_coarse : bool
        The first count is the number of exams or persons of a row; all numbers are released coarsely
        (`radlake.stats.coarse`), for a service is judged by shares and not by single exams.
    hidden : tuple of str
        Columns of a coarse release that stay in the restricted zone: NULL in the lake. With any, rows of few are left
        out of it.
    """

    dimensions: tuple[str, ...]
    counts: tuple[str, ...]
    dependent: tuple[str, ...]
    is_coarse: bool = False
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Table:
    """The contract of one version of one table: `schemas/<layer>/<name>_v<version>.yaml`."""

    layer: str
    name: str
    version: int
    zone: Literal["lake", "restricted"]
    grain: str
    description: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    sort: tuple[str, ...]
    partition: str | None = None
    disclosure: Disclosure | None = None

    @property
    def full_name(self) -> str:
        """`layer.name_v1`: the versioned name; its folder is the same with a slash."""
        return f"{self.layer}.{self.name}_v{self.version}"

    @property
    def view_name(self) -> str:
        """`layer.name`: what people query; always the latest version."""
        return f"{self.layer}.{self.name}"

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def arrow_schema(self) -> pa.Schema:
        """Arrow schema in the order of the contract; TIMESTAMP is local wall clock in microseconds, without a zone."""
        return pa.schema([column.arrow_field for column in self.columns])

    def ddl(self) -> str:
        """`CREATE TABLE` in DuckDB's dialect, for type checks and tests."""
        layer, name = quoted(self.layer), quoted(f"{self.name}_v{self.version}")
        lines = [f"  {quoted(c.name)} {c.type}{_constraint(c)}" for c in self.columns]
        lines.append(f"  PRIMARY KEY ({', '.join(map(quoted, self.key))})")
        return f"CREATE TABLE {layer}.{name} (\n" + ",\n".join(lines) + "\n)"

    def problems(self, data: pa.Table) -> list[str]:
        """Every way in which `data` breaks this contract, as readable lines without values; empty when it holds."""
        return check.problems(self, data)


def _constraint(column: Column) -> str:
    required = " NOT NULL" if column.required else ""
    if column.default is None:
        return required
    value = str(column.default).replace("'", "''")
    return f"{required} DEFAULT '{value}'"
