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
from radlake.sqlrun import BuiltTable, build
from radlake.stats.release import mask

__all__ = ["app", "build_lake"]

app = typer.Typer()


def build_lake(settings: Settings, *, now: datetime, layers: Collection[str] | None = None) -> list[BuiltTable]:
    """Build the tables of `sql/`; the true calendar is made from the root key, in memory, for this build only.

    Raises
    ------
    KeyMissing, ContractBroken
    """
    keys = KeyRing.from_secret(resolve_secret(settings.key))

    def date_offsets(patient_keys: np.ndarray) -> np.ndarray:
        return np.fromiter((keys.date_offset_days(int(key)) for key in patient_keys), dtype=np.int32)

    run_id = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    lake = Lake.from_settings(settings)
    return build(lake, date_offsets=date_offsets, mask=mask, run_id=run_id, now=now, layers=layers)


@app.command("build")
def build_command(
    ctx: typer.Context,
    layers: Annotated[list[str] | None, typer.Option("--layer", help="Only this layer, for example core.")] = None,
) -> None:
    """Compute core and stats tables from the harvested metadata; the same inputs give the same rows."""
    built = build_lake(ctx.obj, now=datetime.now(UTC).replace(tzinfo=None), layers=layers)
    table = Table(title="Build")
    for name in ("table", "rows", "masked", "version"):
        table.add_column(name, justify="left" if name == "table" else "right")
    for item in built:
        table.add_row(item.name, f"{item.n_rows:,}", f"{item.n_masked:,}", str(item.version))
    Console().print(table)
