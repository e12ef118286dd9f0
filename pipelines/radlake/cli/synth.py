"""`radlake synth`: synthetic data of any size, with known truth."""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from radlake.cli.init import ensure_key
from radlake.config import Settings
from radlake.errors import ConfigInvalid
from radlake.lake import Lake

if TYPE_CHECKING:
    from radlake.synth.rows.truth import Truth
    from radlake.synth.rows.write import Plan

_OF_THE_LAKE = {"restricted", "ledger", "hospitals", "key"}  # settings that follow from where the lake is

app = typer.Typer(no_args_is_help=True, help="Synthetic data of any size, with known truth.")


@app.callback()
def synth() -> None:
    """Make synthetic data: nothing of it comes from a patient."""


@app.command()
def province(
    ctx: typer.Context,
    exams: Annotated[int, typer.Option(min=100, help="Exams to write.")] = 1_000_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same province.")] = 1,
    hospitals: Annotated[int, typer.Option(min=1, max=4000, help="Hospitals in 13 prefectures.")] = 300,
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="First day of exams.")] = datetime(2024, 1, 1),
    end: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Last day of exams.")] = datetime(2026, 12, 31),
    lake: Annotated[str | None, typer.Option(help="Folder of the lake; else that of radlake --lake.")] = None,
) -> None:
    """Write a province of exams as rows: core.exam, ref.exam_order, ref.hospital, ref.region, and the truth.

    No images and no dicom tables: build the statistics with `radlake build --layers stats` and `radlake duplicates
    build`. Every repeat is known: restricted/synth/truth.parquet of the lake has the counts that each rule pack must
    give. The lake must be new, or hold the same province: a run that was stopped goes on.
    """
    from radlake.synth.rows.write import Plan, write_province

    if start >= end:
        raise typer.BadParameter("--start must come before --end")
    settings: Settings = ctx.obj
    if lake is not None:
        given = settings.model_dump(include=settings.model_fields_set - _OF_THE_LAKE)
        given["lake"] = lake if "://" in lake else str(Path(lake).resolve())
        settings = Settings(**given)
    target = Lake.from_settings(settings)
    if target.tables.exists("dicom.study"):
        problem = "holds studies that were harvested; name a folder of its own for synthetic rows"
        raise ConfigInvalid(path=settings.lake, problems=[problem])
    ensure_key(settings)
    plan = Plan(n_exams=exams, seed=seed, n_hospitals=hospitals, start=start.date(), end=end.date())
    begun, done = time.monotonic(), 0
    console = Console()

    def told(n: int) -> None:
        nonlocal done
        done += n
        seconds = time.monotonic() - begun
        console.print(f"{done:,} of {exams:,} exams, {done / seconds:,.0f} a second")

    n_workers = max(1, min(settings.workers or os.cpu_count() or 1, plan.n_chunks))
    with ProcessPoolExecutor(n_workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        chunks = pool.map(partial(_write_chunk, settings, plan), range(plan.n_chunks))
        truth = write_province(target, plan, chunks=chunks, told=told)
    console.print(f"the truth is in {truth}")


def _write_chunk(settings: Settings, plan: Plan, chunk: int) -> Truth:
    """In a process of its own, which finds the key itself."""
    from radlake.ingest.offsets import date_offsets
    from radlake.synth.rows.write import write_chunk

    with date_offsets(settings) as offsets:
        return write_chunk(Lake.from_settings(settings), plan, chunk, date_offsets=offsets)
