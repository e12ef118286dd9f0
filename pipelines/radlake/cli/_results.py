"""`radlake cohort results`: what researchers made of a release comes home, is listed and handed out again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Take results of research on a release into the lake, list them, hand them out.", no_args_is_help=True
)

Release = Annotated[str, typer.Argument(help="Id of a release, as `radlake cohort releases` lists it.")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]

_SHOWN = 20


@app.command()
def take(
    ctx: typer.Context,
    release: Release,
    folder: Annotated[Path, typer.Argument(help="Where `cohort.results` wrote them: *.dcm, each with its *.json.")],
    by: Annotated[str, typer.Option("--by", help="Who takes them in.")],
    as_json: Json = False,
) -> None:
    """Check each object against its provenance and the release, store it, and enter it.

    What is refused is told with all its reasons and stays where it lies; files are never moved. Running it again is
    harmless: what is in the lake stays as it is. Exit code 1: something was refused.
    """
    from rich.console import Console

    from radlake.cli._answers import show_table
    from radlake.cli._lake import existing_lake
    from radlake.cli._stop import stoppable
    from radlake.cohort.results.take import take_results
    from radlake.machine import utc_now

    existing_lake(ctx.obj)
    taken, known, refused = [], [], []
    with stoppable(), Console(stderr=True).status(release) as status:
        for one in take_results(ctx.obj, release, folder, by=by, now=utc_now().replace(tzinfo=None)):
            (refused if one.refused else taken if one.is_new else known).append(one)
            status.update(f"{len(taken):,} taken, {len(known):,} here already, {len(refused):,} refused")
    if as_json:
        told = {"taken": [one.sop_instance_uid for one in taken], "here": [one.sop_instance_uid for one in known]}
        typer.echo(json.dumps(told | {"refused": {one.place: one.refused for one in refused}}, ensure_ascii=False))
    else:
        rows = [("taken", len(taken)), ("here already", len(known)), ("refused", len(refused))]
        show_table(rows, header=(release, "results"), numbers=(False, True))
        for one in refused[:_SHOWN]:
            typer.echo(f"refused {one.place!r}: {one.refused}", err=True)
        if len(refused) > _SHOWN:
            typer.echo(f"and {len(refused) - _SHOWN:,} more; --json tells all", err=True)
    if refused:
        raise typer.Exit(1)


@app.command("list")
def list_(ctx: typer.Context, release: Release, as_json: Json = False) -> None:
    """Results of a release that came home, with what made them; --json tells every column."""
    from radlake.cli._answers import show_table
    from radlake.cli._lake import existing_lake
    from radlake.cohort.results.taken import taken_results

    rows = taken_results(existing_lake(ctx.obj), release)
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, default=str))
        return
    told = [
        (row["result_kind"], row["person_pseudo_id"], row["sop_instance_uid"], row["source_series_instance_uid"],
         f"{row['algorithm_name']} {row['algorithm_version']}", row["instance_bytes"], row["taken_at"].date(),
         row["taken_by"])
        for row in rows
    ]  # fmt: skip
    header = ("kind", "person", "object", "made of series", "made by", "bytes", "taken", "taken by")
    show_table(told, header=header, numbers=(False, False, False, False, False, True, False, False))


@app.command()
def get(
    ctx: typer.Context,
    release: Release,
    folder: Annotated[
        Path, typer.Argument(help="Where they shall lie: `open_cohort(..., results=FOLDER)` reads them.")
    ],
    as_json: Json = False,
) -> None:
    """Write results that came home below a folder as they were made, verified by digest; what is there stays.

    Only of a release that may be pulled.
    """
    from rich.console import Console

    from radlake.cli._lake import existing_lake
    from radlake.cli._stop import stoppable
    from radlake.cohort.pull import open_release
    from radlake.cohort.results.taken import get_results
    from radlake.machine import utc_now

    lake = existing_lake(ctx.obj)
    open_release(ctx.obj, release, today=utc_now().date())
    n_written = n_here = 0
    with stoppable(), Console(stderr=True).status(release) as status:
        for _, is_new in get_results(lake, release, folder):
            n_written, n_here = n_written + is_new, n_here + (not is_new)
            status.update(f"{n_written:,} written, {n_here:,} here already")
    if as_json:
        typer.echo(json.dumps({"written": n_written, "here": n_here}))
    else:
        typer.echo(f"{folder} has {n_written + n_here:,} results of {release}, {n_written:,} written now")
