"""`radlake build`: core and stats tables from the harvested metadata."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from radlake.config import Settings, resolve_secret
from radlake.deidentify import KeyRing
from radlake.lake import Lake
from radlake.sqlrun import BuiltTable, build, load_queries
from radlake.sqlrun.reference import load_defaults
from radlake.stats.release import mask

__all__ = ["app", "build_lake"]

app = typer.Typer()


def build_lake(settings: Settings, *, now: datetime, layers: Collection[str] | None = None) -> list[BuiltTable]:
    """Build the tables of `sql/`; the true calendar is made from the root key, in memory, for this build only.

    Reference tables that nobody loaded get their defaults first.

    Raises
    ------
    KeyMissing, ContractBroken
    """
    keys = KeyRing.from_secret(resolve_secret(settings.key))

    def date_offsets(patient_keys: np.ndarray) -> np.ndarray:
        seconds = (keys.offset(int(key)).total_seconds() for key in patient_keys)
        return np.fromiter(seconds, dtype=np.int64)

    run_id = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    lake = Lake.from_settings(settings)
    load_defaults(lake, batch_id=f"defaults-{run_id}")
    return build(lake, date_offsets=date_offsets, mask=mask, run_id=run_id, now=now, layers=layers)


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
    built = build_lake(ctx.obj, now=datetime.now(UTC).replace(tzinfo=None), layers=chosen)
    table = Table(title="Build")
    for name in ("table", "rows", "withheld", "version", ""):
        table.add_column(name, justify="left" if name in ("table", "") else "right")
    for item in built:
        state = "new" if item.is_new else "unchanged"
        table.add_row(item.name, f"{item.n_rows:,}", f"{item.n_masked:,}", str(item.version), state)
    console = Console()
    console.print(table)
    for item in built:
        for warning in item.warnings:
            console.print(f"[yellow]warning:[/] {item.name}: {warning}", highlight=False)
