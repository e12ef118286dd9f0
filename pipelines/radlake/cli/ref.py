"""`radlake ref`: load reference tables from CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radlake.cli._lake import existing_lake
from radlake.contracts import load_table
from radlake.lake import duck
from radlake.sqlrun.reference import REFERENCE_TABLES, content_id, load_defaults, load_reference, read_csv

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_tables(ctx: typer.Context) -> None:
    """The reference tables, their columns, and how many rows the lake has of each."""
    with duck.connect(existing_lake(ctx.obj), tables=REFERENCE_TABLES) as connection:
        for name in REFERENCE_TABLES:
            n_rows = connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]
            typer.echo(f"{name} ({n_rows:,} rows): {load_table(name).description}")
            typer.echo(f"  {','.join(load_table(name).column_names)}")


@app.command("load")
def load(
    ctx: typer.Context,
    table: Annotated[str, typer.Argument(help=f"One of {', '.join(REFERENCE_TABLES)}.")],
    file: Annotated[Path, typer.Argument(help="UTF-8 CSV file; its first line names the columns of the table.")],
) -> None:
    """Add the rows of a CSV file; rows of the same key are replaced. All problems of the file are told at once."""
    name = table if "." in table else f"ref.{table}"
    data = read_csv(file, name=name)
    lake = existing_lake(ctx.obj)
    load_reference(lake, name, data, batch_id=content_id(lake, name, data))
    typer.echo(f"{data.num_rows:,} rows of {file.name} are in {name}; `radlake build` computes with them")


@app.command("defaults")
def defaults(ctx: typer.Context) -> None:
    """Load default regions, prices, dose factors and reference levels into tables that do not exist yet."""
    loaded = load_defaults(existing_lake(ctx.obj), batch_id="defaults")
    typer.echo(f"loaded {', '.join(loaded)}" if loaded else "the defaults are loaded already; left alone")
