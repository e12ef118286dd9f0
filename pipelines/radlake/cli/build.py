"""`radlake build`: core and stats tables from the harvested metadata."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from radlake.cli._lake import existing_lake
from radlake.cli.tables import plain_table
from radlake.ingest.build import build_lake
from radlake.machine import utc_now
from radlake.sqlrun import load_queries

app = typer.Typer()


@app.command("build")
def build_command(
    ctx: typer.Context,
    layers: Annotated[str | None, typer.Option(help="Only these layers, with commas: core,stats.")] = None,
) -> None:
    """Compute core and stats tables from the harvested metadata; the same inputs give the same rows."""
    chosen = [name.strip() for name in layers.split(",")] if layers else None
    known = {query.table.layer for query in load_queries()}
    if unknown := sorted(set(chosen or ()) - known):
        raise typer.BadParameter(f"no layer {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    existing_lake(ctx.obj)
    built = build_lake(ctx.obj, now=utc_now(), layers=chosen)
    table = plain_table("table", "rows", "withheld", "version", "", numbers=slice(1, 4))
    for item in built:
        state = "new" if item.is_new else "unchanged"
        table.add_row(item.name, f"{item.n_rows:,}", f"{item.n_masked:,}", str(item.version), state)
    console = Console()
    console.print(table)
    for item in built:
        for warning in item.warnings:
            console.print(f"[yellow]warning:[/] {item.name}: {warning}", highlight=False)
