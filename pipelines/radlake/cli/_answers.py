"""Answers of queries: shown to people, or written as CSV, JSON or Parquet, batch by batch."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from radlake.cli.tables import plain_table

if TYPE_CHECKING:
    import duckdb  # who exports a release has it not

__all__ = ["show", "show_table", "write", "write_file"]

_SHOWN = 100
_BATCH = 10_000


def show(relation: duckdb.DuckDBPyRelation) -> None:
    """The first rows, as a table; one block for each row when the screen is too narrow for that."""
    rows = relation.limit(_SHOWN + 1).fetchall()
    numbers = [_is_number(str(kind)) for kind in relation.types]
    show_table(rows[:_SHOWN], header=relation.columns, numbers=numbers)
    if len(rows) > _SHOWN:
        Console().print(Text(f"the first {_SHOWN} rows; -o FILE writes all", style="dim"))
    else:
        Console().print(Text(f"{len(rows)} row{'' if len(rows) == 1 else 's'}", style="dim"))


def show_table(rows: Sequence[Sequence[Any]], *, header: Sequence[str], numbers: Sequence[bool] = ()) -> None:
    """Rows as a table that fits the screen; a pipe is as wide as it needs to be."""
    console = Console()
    cells = [[_shown(value) for value in row] for row in rows]
    widths = [max(cell_len(name), *(cell_len(row[i]) for row in cells), 0) for i, name in enumerate(header)]
    needed = sum(widths) + 3 * len(widths) + 2
    if not console.is_terminal:
        console = Console(width=max(needed, 80))
    elif needed > console.width and len(header) > 6:
        _show_blocks(console, cells, header=header)
        return
    table = plain_table(*map(Text, header))
    for column, is_number in zip(table.columns, numbers, strict=False):
        column.justify = "right" if is_number else "left"
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def _show_blocks(console: Console, cells: list[list[str]], *, header: Sequence[str]) -> None:
    margin = max(map(cell_len, header))
    for number, row in enumerate(cells, 1):
        console.rule(f"row {number}", align="left", style="dim")
        for name, value in zip(header, row, strict=True):
            console.print(Text(" " * (margin - cell_len(name)) + name, style="bold"), Text(value), sep="  ")


def write_file(relation: duckdb.DuckDBPyRelation, path: Path, *, kind: str) -> int:
    """Write all rows to a file that appears whole or not at all; returns how many."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            if kind == "csv":
                file.write(b"\xef\xbb\xbf")
            n_rows = write(relation, file, kind=kind)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return n_rows


def write(relation: duckdb.DuckDBPyRelation, file: BinaryIO, *, kind: str) -> int:
    """Write all rows to an open file; returns how many."""
    reader = relation.to_arrow_reader(_BATCH)
    if kind == "parquet":
        n_rows = 0
        with pq.ParquetWriter(file, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)
                n_rows += batch.num_rows
        return n_rows
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    try:
        return _write_csv(reader, text) if kind == "csv" else _write_json(reader, text)
    finally:
        text.detach()


def _write_csv(reader: pa.RecordBatchReader, text: io.TextIOBase) -> int:
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(reader.schema.names)
    n_rows = 0
    for row in _rows(reader):
        writer.writerow(["" if value is None else _plain(value) for value in row])
        n_rows += 1
    return n_rows


def _write_json(reader: pa.RecordBatchReader, text: io.TextIOBase) -> int:
    names = reader.schema.names
    n_rows = 0
    text.write("[")
    for row in _rows(reader):
        item = json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False, default=_json)
        text.write(("\n" if n_rows == 0 else ",\n") + item)
        n_rows += 1
    text.write("\n]\n")
    return n_rows


def _rows(reader: pa.RecordBatchReader) -> Iterator[tuple[Any, ...]]:
    for batch in reader:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return value


def _json(value: Any) -> Any:
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)


def _shown(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".") if abs(value) >= 1e-4 or value == 0 else repr(value)
    return str(_plain(value))


def _is_number(kind: str) -> bool:
    return kind.startswith(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "DOUBLE", "FLOAT", "DECIMAL"))
