"""`radlake harvest`: from a node or a folder into the lake."""

from __future__ import annotations

import json
import time
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from radlake.cli._lake import existing_lake
from radlake.cli._progress import Bars
from radlake.cli._stop import stoppable, stopping
from radlake.cli.hospitals import Hospitals, chosen_hospitals, hospital_of_files
from radlake.cli.tables import summary_table
from radlake.config import Settings
from radlake.contracts.reasons import reasons
from radlake.errors import RadlakeError
from radlake.ingest import HarvestSummary, harvest_folder, harvest_hospital, total
from radlake.ingest.ops import boards_of, publish_lag
from radlake.ingest.province import Told, harvest_province
from radlake.ingest.workers import workers
from radlake.lake.ledger import Ledger
from radlake.machine import shanghai_day, utc_now
from radlake.net import Window

app = typer.Typer(help="Fetch studies from a hospital node or a folder into the lake.", no_args_is_help=True)

JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the summary to this file as JSON.")]
Dask = Annotated[
    str | None,
    typer.Option(
        metavar="local|ADDRESS",
        help="De-identify on Dask: a cluster of this machine, or tcp://HOST:PORT of a scheduler (RADLAKE_DASK).",
    ),
]

_NAMED = 20
_PUBLISH_SECONDS = 60.0


@app.command()
def folder(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(help="Folder, ZIP archive, file or mounted CD.")],
    hospital: Annotated[str, typer.Option(help="Id of the hospital that the files come from.")],
    dask: Dask = None,
    json_file: JsonFile = None,
) -> None:
    """Harvest a folder: every DICOM file ends stored, as a resend of a stored one, or in quarantine with a reason."""
    settings = _with_dask(ctx.obj, dask)
    existing_lake(settings)
    known = hospital_of_files(settings, hospital)
    if known.region_code == "UNKNOWN":
        typer.echo(f"note: {hospital} has no region in {settings.hospitals}; it is counted as UNKNOWN", err=True)
    with stoppable(), Bars(Console(stderr=True)) as bars:
        summary = harvest_folder(settings, path, hospital=known, progress=bars)
    _report([summary], json_file)


@app.command()
def node(
    ctx: typer.Context,
    hospitals: Hospitals = None,
    since: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First study date; yesterday.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last study date; today.")
    ] = None,
    ask_again: Annotated[
        bool,
        typer.Option(
            "--ask-again", help="Also what was set aside and only the hospital can mend: it was mended there."
        ),
    ] = False,
    dask: Dask = None,
    json_file: JsonFile = None,
) -> None:
    """Harvest the studies of a window of study dates from hospital nodes; run it again to fetch what is missing.

    What was set aside is not asked for again: its bytes are in quarantine, and `radlake quarantine replay` takes them
    when a rule or the profile was changed. Where the hospital must send something better, it is `--ask-again`.
    """
    settings = _with_dask(ctx.obj, dask)
    existing_lake(settings)
    today = shanghai_day(utc_now())
    first, last = since.date() if since else today - timedelta(days=1), until.date() if until else today
    if last < first:
        raise typer.BadParameter(f"--from {first} is after --to {last}")
    window = Window(first, last)
    again = [code for code, reason in reasons().items() if not reason.is_replayable] if ask_again else []
    summaries, failed = [], False
    with stoppable(), Bars(Console(stderr=True)) as bars, workers(settings) as executor:
        for hospital in chosen_hospitals(settings, hospitals):
            try:
                summaries.append(
                    harvest_hospital(settings, hospital, window=window, again=again, executor=executor, progress=bars)
                )
            except RadlakeError as exc:  # the other hospitals go on
                failed = True
                typer.echo(f"error: {hospital.hospital_id}: {exc}", err=True)
    _report(summaries, json_file)
    if failed:
        raise typer.Exit(1)


def _with_dask(settings: Settings, dask: str | None) -> Settings:
    """What the option says overrules the environment."""
    return settings if dask is None else Settings.model_validate(settings.model_dump() | {"dask": dask})


@app.command()
def province(
    ctx: typer.Context,
    at_once: Annotated[int, typer.Option(min=1, max=256, help="Hospitals at the same time.")] = 8,
    once: Annotated[bool, typer.Option("--once", help="End when each hospital had its turn.")] = False,
    look_back_days: Annotated[int, typer.Option(min=0, max=60, help="Days before today that are asked for.")] = 3,
) -> None:
    """Harvest all registered hospitals, again and again, whoever is closest to missing the 12-hour rule first.

    Each node is asked as its `courtesy` in the hospitals file and its own speed allow. The board of lag (`radlake
    board`, ops.lag) is brought up to date as it goes. Ctrl-C ends it in order, a second one at once.
    """
    settings: Settings = ctx.obj
    lake = existing_lake(settings)
    registered = {hospital.hospital_id: hospital for hospital in chosen_hospitals(settings, None)}
    failures, published = dict[str, str](), 0.0

    def window() -> Window:
        today = shanghai_day(utc_now())
        return Window(today - timedelta(days=look_back_days), today)

    def publish() -> None:
        with closing(Ledger(settings.ledger)) as ledger:
            publish_lag(lake, boards_of(ledger, registered, now=utc_now(), days=7), now=utc_now())

    def tell(told: Told) -> None:
        nonlocal published
        failures.pop(told.hospital_id, None)
        if told.error is None and (s := told.summary):
            line = f"{s.studies_found:,} studies, {s.instances_stored:,} instances stored, {s.studies_left:,} left"
        else:
            line = failures[told.hospital_id] = f"error: {told.error}"
        typer.echo(f"{told.hospital_id}: {line}", err=told.error is not None)
        if time.monotonic() - published > _PUBLISH_SECONDS:
            publish()
            published = time.monotonic()

    with stopping() as stop, workers(settings) as executor:
        harvest_province(
            settings,
            registered,
            window=window,
            at_once=at_once,
            executor=executor,
            is_once=once,
            tell=tell,
            should_stop=stop.is_set,
        )
    publish()
    if failures:
        raise typer.Exit(1)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a summary for programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _report(summaries: list[HarvestSummary], json_file: Path | None) -> None:
    """Tell what was done; exits with 1 when files could not be read, and names them."""
    Console().print(summary_table(summaries))
    if json_file:
        document = summaries[0].to_json() if len(summaries) == 1 else total(summaries)
        document |= {"hospitals": [summary.to_json() for summary in summaries]} if len(summaries) > 1 else {}
        write_json(json_file, document)
    unreadable = [name for summary in summaries for name in summary.unreadable]
    if unreadable:
        typer.echo(f"error: {len(unreadable):,} files could not be read; all the rest is harvested:", err=True)
        for name in unreadable[:_NAMED]:
            typer.echo(f"  - {name}", err=True)
        if len(unreadable) > _NAMED:
            typer.echo(f"  - and {len(unreadable) - _NAMED:,} more; --json FILE has all", err=True)
        typer.echo(
            "Clean the disc or copy it anew, then run the same command again: it takes what is missing.", err=True
        )
        raise typer.Exit(1)
