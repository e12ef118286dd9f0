"""`radlake recompress`: native pixels encoded anew without loss."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from radlake.cli._answers import show_table
from radlake.cli._lake import existing_lake
from radlake.config import Settings
from radlake.errors import LedgerBusy
from radlake.ingest.progress import Progress as Step
from radlake.machine import shanghai_day, utc_now
from radlake.recompress import (
    YEARS,
    Recompressed,
    StoragePrice,
    estimate_hospital,
    hospitals_of,
    recompress_hospital,
    saved_yuan,
    storage_price,
    total,
)

app = typer.Typer()


class CodecName(StrEnum):
    """Codecs by the name that the command line knows them by."""

    htj2k = "htj2k"
    jpegls = "jpegls"
    j2k = "j2k"
    rle = "rle"
    jxl = "jxl"


@app.command()
def recompress(
    ctx: typer.Context,
    hospital: Annotated[list[str] | None, typer.Option(help="Only this hospital; may be repeated.")] = None,
    codec: Annotated[
        CodecName,
        typer.Option(
            help="htj2k (JPEG 2000 high throughput), jpegls, j2k, rle; jxl is for inside use: hardly a DICOM reader "
            "opens JPEG XL yet."
        ),
    ] = CodecName.htj2k,
    limit: Annotated[int | None, typer.Option(help="Look at so many series objects of a hospital.", min=1)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate from a sample; write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Encode stored native pixels anew without loss, and swap them in when they decode to exactly what was there.

    What arrived compressed is left alone. The job may be stopped at any point: run it again and it goes on. The old
    objects stay until `radlake tidy` deletes them, seven days later.
    """
    settings: Settings = ctx.obj
    lake = existing_lake(settings)
    known = hospitals_of(lake)
    for name in hospital or ():
        if name not in known:
            raise typer.BadParameter(f"no hospital {name} in this lake; it has {', '.join(known) or 'none'}")
    done: list[Recompressed] = []
    busy: list[str] = []
    for name in hospital or known:
        try:
            if dry_run:
                done.append(estimate_hospital(settings, name, codec=codec))
            else:
                done.append(_run(settings, name, codec=codec, limit=limit))
        except LedgerBusy:
            busy.append(name)
    result = total(done, codec=codec)
    price = storage_price(lake, on=shanghai_day(utc_now()))
    if as_json:
        typer.echo(json.dumps(_as_json(done, result, price=price, busy=busy, is_estimate=dry_run), ensure_ascii=False))
    else:
        _show(result, price=price, is_estimate=dry_run)
    for name in busy:
        typer.echo(f"{name} is being harvested or recompressed by another process; run this again later", err=True)
    if result.refused:
        typer.echo(
            f"{result.refused.total()} series objects were refused and stay as they are; "
            "see docs/how-to/recompress.md, “Refused”",
            err=True,
        )
    if busy or result.refused:
        raise typer.Exit(1)


def _run(settings: Settings, name: str, *, codec: str, limit: int | None) -> Recompressed:
    columns = (TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(name, total=None)

        def show(step: Step) -> None:
            bars.update(bar, completed=step.n_done, total=step.n_total)

        return recompress_hospital(settings, name, codec=codec, limit=limit, progress=show)


def _as_json(
    done: list[Recompressed], result: Recompressed, *, price: StoragePrice, busy: list[str], is_estimate: bool
) -> dict[str, Any]:
    figures = result.to_json()
    del figures["hospital_id"]
    return figures | {
        "is_estimate": is_estimate,
        "saved_yuan": saved_yuan(result.whole, price=price),
        "years": YEARS,
        "price_fen_per_gb_month": price.fen,
        "price_source": price.source,
        "hospitals": [item.to_json() for item in done],
        "busy": busy,
    }


def _show(result: Recompressed, *, price: StoragePrice, is_estimate: bool) -> None:
    rows = [(name, sizes) for name, sizes in sorted(result.by_modality.items())]
    if len(rows) != 1:
        rows.append(("all", result.whole))
    show_table(
        [
            (name, sizes.n_instances, f"{sizes.bytes_before:,}", f"{sizes.bytes_after:,}", f"{sizes.ratio:.2f}")
            for name, sizes in rows
        ],
        header=("modality", "instances", "bytes before", "bytes after", "ratio"),
        numbers=(False, True, True, True, True),
    )
    if is_estimate:
        typer.echo(f"an estimate from {result.n_sampled} instances; nothing was written")
    if result.left:
        typer.echo("left as they are: " + ", ".join(f"{reason} {n:,}" for reason, n in sorted(result.left.items())))
    if result.n_overtaken:
        typer.echo(f"{result.n_overtaken} series objects changed meanwhile; the next run takes them")
    whole = result.whole
    typer.echo(
        f"saved in {YEARS} years: {saved_yuan(whole, price=price):,.2f} yuan"
        f" = ({whole.bytes_before:,} - {whole.bytes_after:,}) / 2^30 GB"
        f" x {price.fen / 100:.2f} yuan a GB and month x 12 x {YEARS}"
    )
    typer.echo(f"price: {price.source}")
