"""`radlake sql`: a question and its answer, in a terminal, a file or a small shell. The lake is only read."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import duckdb
import typer

from radlake.cli import _answers
from radlake.cli._lake import filled_lake
from radlake.contracts import Table, load_tables
from radlake.errors import QueryInvalid, SourceMissing
from radlake.lake import Lake, duck

app = typer.Typer()

_COMMANDS = """\
.tables            tables and what a row of them is
.describe TABLE    columns of a table
.refresh           see what was committed since the shell was started
.quit              leave (also Ctrl-D)
Anything else is SQL; a semicolon ends it."""

# DuckDB's own answer is a row with all columns and types of a table in it, and to SHOW TABLES nothing.
_LIST_OF_TABLES = re.compile(r"SHOW\s+(ALL\s+)?TABLES", re.IGNORECASE)


class Format(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class Zone(StrEnum):
    """Which tables are seen."""

    LAKE = "lake"
    RESTRICTED = "restricted"


@app.command()
def sql(
    ctx: typer.Context,
    query: Annotated[str | None, typer.Argument(help="One SELECT; without it a shell starts.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Read the query from a file; - is standard input.")
    ] = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="Default: by the ending of -o, else table.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write all rows to a file.")] = None,
    zone: Annotated[
        Zone, typer.Option(help="restricted: the exact statistics instead of the masked ones.")
    ] = Zone.LAKE,
) -> None:
    """Ask the lake a question in SQL (DuckDB's dialect).

    Tables are named layer.table: `SHOW ALL TABLES` lists them, `DESCRIBE dicom.study` their columns.
    A CSV file is UTF-8 with a byte order mark and CRLF, so that a spreadsheet shows Chinese text right.
    """
    if query is not None and file is not None:
        raise typer.BadParameter("give a query or --file, not both")
    kind = _format(format_, output)
    lake = filled_lake(ctx.obj)
    if query is None and file is None and sys.stdin.isatty():
        _shell(lake, zone=zone)
        return
    _answer(duck.connect(lake, zone=zone.value), query or _read(file), kind=kind, output=output)


def _format(given: Format | None, output: Path | None) -> Format:
    endings = {f".{member}": member for member in (Format.CSV, Format.JSON, Format.PARQUET)}
    kind = given or (endings.get(output.suffix.lower()) if output else Format.TABLE)
    if kind is None:
        raise typer.BadParameter(f"say --format, or let -o end in {', '.join(endings)}")
    if kind is Format.PARQUET and output is None:
        raise typer.BadParameter("--format parquet needs -o FILE")
    return kind


def _read(file: Path | None) -> str:
    if file is None or str(file) == "-":
        return sys.stdin.read()
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise SourceMissing(path=file) from exc


def _answer(connection: duckdb.DuckDBPyConnection, query: str, *, kind: Format, output: Path | None = None) -> None:
    query = query.strip().rstrip(";").rstrip()
    if kind is Format.TABLE and output is None and _LIST_OF_TABLES.fullmatch(query):
        _show_tables(_tables())
        return
    relation = duck.select(connection, query)
    with duck.readable_errors(query):
        if output is None and kind is Format.TABLE:
            _answers.show(relation)
        elif output is None:
            _answers.write(relation, sys.stdout.buffer, kind=kind.value)
        else:
            try:
                n_rows = _answers.write_file(relation, output, kind=kind.value)
            except OSError as exc:
                raise typer.BadParameter(f"{output}: {exc.strerror}") from exc
            typer.echo(f"{n_rows:,} rows in {output}", err=True)


def _shell(lake: Lake, *, zone: Zone) -> None:
    connection = duck.connect(lake, zone=zone.value)
    tables = _tables()
    _line_editing(tables)
    typer.echo(f"{lake.url}\n{_COMMANDS}")
    pending = ""
    while True:
        try:
            line = input("     ... " if pending else "radlake> ")
        except EOFError:
            break
        except KeyboardInterrupt:
            pending = ""
            typer.echo()
            continue
        word, _, rest = line.strip().partition(" ")
        if not pending and word in (".quit", ".exit"):
            break
        try:
            if not pending and word == ".refresh":
                connection = duck.connect(lake, zone=zone.value)
            elif not pending and word.startswith("."):
                _command(word, rest.strip(), tables)
            else:
                pending += line + "\n"
                if pending.rstrip().endswith(";") or not pending.strip():
                    query, pending = pending, ""
                    if query.strip():
                        _answer(connection, query, kind=Format.TABLE)
        except QueryInvalid as exc:
            typer.echo(f"error: {exc}", err=True)
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)


def _tables() -> dict[str, Table]:
    return {table.view_name: table for table in load_tables().values()}


def _show_tables(tables: dict[str, Table]) -> None:
    _answers.show_table([(table.view_name, table.grain) for table in tables.values()], header=("table", "rows are"))


def _command(word: str, name: str, tables: dict[str, Table]) -> None:
    if word == ".tables":
        _show_tables(tables)
    elif word == ".describe" and name in tables:
        columns = tables[name].columns
        _answers.show_table(
            [(c.name, c.type, "" if c.required else "NULL", c.unit or "", c.description) for c in columns],
            header=("column", "type", "", "unit", "description"),
        )
    else:
        typer.echo(_COMMANDS if word != ".describe" else f"there is no table {name}; .tables lists them", err=True)


def _line_editing(tables: dict[str, Table]) -> None:
    """History (in the user's state folder, readable by the user alone) and completion of names."""
    try:
        import readline
    except ImportError:
        return
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "radlake"
    history = state / "sql_history"
    with suppress(OSError):
        state.mkdir(parents=True, exist_ok=True)
        history.touch(mode=0o600)
        readline.read_history_file(history)
        import atexit

        readline.set_history_length(1000)
        atexit.register(readline.write_history_file, history)
    words = sorted({*tables, *(column for table in tables.values() for column in table.column_names)})
    readline.set_completer_delims(" \t\n,;()=<>")
    readline.parse_and_bind("tab: complete")
    readline.set_completer(lambda text, index: [*(word for word in words if word.startswith(text)), None][index])
