"""Reference tables: what the SQL needs and no DICOM object says, read from CSV files and checked like any table.

Regions, prices, dose factors and reference levels have defaults in schemas/ref/defaults/; population and the film
printers' ledger come from the province.
"""

from __future__ import annotations

import csv
import hashlib
import io
from datetime import date
from math import isfinite
from pathlib import Path
from typing import Any

import pyarrow as pa

from radlake.contracts import Column, Table, load_table
from radlake.errors import ConfigInvalid, SourceMissing
from radlake.lake import Lake
from radlake.resources import schemas_root

__all__ = ["REFERENCE_TABLES", "content_id", "load_defaults", "load_reference", "read_csv"]

# ref.hospital is not here: every harvest publishes it from the hospitals' YAML.
REFERENCE_TABLES = (
    "ref.dose_factor",
    "ref.drl",
    "ref.film_demand",
    "ref.film_ledger",
    "ref.population",
    "ref.price",
    "ref.region",
    "ref.roll_out",
)
DEFAULTS = ("ref.dose_factor", "ref.drl", "ref.price", "ref.region")


def load_reference(lake: Lake, name: str, data: pa.Table, *, batch_id: str) -> bool:
    """Add rows to a reference table; rows of the same key are replaced. Once for a batch id.

    Raises
    ------
    ContractBroken
        With all problems of the rows; nothing is loaded then.
    """
    table = load_table(name)
    keys = data.select(table.key) if set(table.key) <= set(data.column_names) else None
    return lake.tables.commit_batch(table, data, batch_id=batch_id, replace=keys)


def load_defaults(lake: Lake, *, batch_id: str) -> list[str]:
    """Load the defaults into tables that do not exist yet; names of the tables loaded."""
    loaded = []
    for name in DEFAULTS:
        if not lake.tables.exists(name):
            data = read_csv(schemas_root() / "ref" / "defaults" / f"{name.removeprefix('ref.')}.csv", name=name)
            load_reference(lake, name, data, batch_id=batch_id)
            loaded.append(name)
    return loaded


def read_csv(path: Path, *, name: str) -> pa.Table:
    """Rows of a UTF-8 CSV file (a byte order mark is allowed); an empty cell is NULL.

    A column that the contract gives a default may be empty or missing, so that files from before it can be read.

    Raises
    ------
    SourceMissing
        If the file cannot be read.
    ConfigInvalid
        With all problems, each with its line: columns, values that are not of the column's type, broken contract.
    """
    if name not in REFERENCE_TABLES:
        raise ConfigInvalid(path=name, problems=[f"is not one of {', '.join(REFERENCE_TABLES)}"])
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as exc:
        raise SourceMissing(path=path) from exc
    except UnicodeDecodeError as exc:
        raise ConfigInvalid(path=path, problems=["is not UTF-8; save it as “CSV UTF-8”"]) from exc
    data, problems = _table_from_csv(text, table=load_table(name))
    if data is not None:
        broken = load_table(name).problems(data)
        problems += [problem for problem in broken if not (problems and "NULL in a required column" in problem)]
    if data is None or problems:
        raise ConfigInvalid(path=path, problems=problems)
    return data


def content_id(lake: Lake, name: str, data: pa.Table) -> str:
    """A batch id for these rows on this version of the table: the same command again does nothing twice."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, data.schema) as stream:
        stream.write_table(data)
    digest = hashlib.sha256(sink.getvalue() + str(lake.tables.version(name)).encode())
    return f"ref-{digest.hexdigest()[:32]}"


def _table_from_csv(text: str, *, table: Table) -> tuple[pa.Table | None, list[str]]:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header, *rows = [line for line in lines if line] or [[]]
    except csv.Error as exc:
        return None, [f"line {lines.line_num}: {exc}"]
    defaults = {column.name: column.default for column in table.columns if column.default is not None}
    problems = [
        f"column {column} is missing"
        for column in table.column_names
        if column not in header and column not in defaults
    ]
    problems += [
        f"column {name!r} is not in the contract of {table.view_name}"
        for name in header
        if name not in table.column_names
    ]
    if problems or len(set(header)) != len(header):
        return None, problems or ["a column is given twice"]
    columns: dict[str, list[Any]] = {name: [] for name in table.column_names}
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            problems.append(f"line {number}: {len(row)} cells, the header has {len(header)}")
            continue
        for name, cell in zip(header, row, strict=True):
            try:
                columns[name].append(_value(cell.strip(), column=table.column(name)))
            except (ValueError, KeyError):
                columns[name].append(None)
                kind = _KINDS.get(table.column(name).type, "a whole number that fits")
                problems.append(f"line {number}, {name}: {cell!r} is not {kind}")
    columns |= {name: [value] * len(columns[header[0]]) for name, value in defaults.items() if name not in header}
    return pa.table(columns, schema=table.arrow_schema()), problems


_KINDS = {"DATE": "a date like 2026-03-01", "DOUBLE": "a number", "BOOLEAN": "true or false"}
_BITS = {"SMALLINT": 15, "INTEGER": 31, "BIGINT": 63}


def _value(cell: str, *, column: Column) -> Any:
    if cell == "":
        return column.default
    if column.type == "DATE":
        return date.fromisoformat(cell)
    if column.type == "DOUBLE":
        number = float(cell)
        if not isfinite(number):
            raise ValueError
        return number
    if column.type == "BOOLEAN":
        return {"true": True, "false": False}[cell.lower()]
    if column.type not in _BITS:
        return cell
    number = int(cell)
    if abs(number) >= 2 ** _BITS[column.type]:
        raise ValueError
    return number
