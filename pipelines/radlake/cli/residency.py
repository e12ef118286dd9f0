"""`radlake residency`: who keeps the pixels, and bringing them in when a hospital's policy becomes central."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated

import typer

from radlake.cli._answers import show_table
from radlake.cli._lake import filled_lake
from radlake.cli._stop import stoppable
from radlake.cli.hospitals import Hospitals, chosen_hospitals, registered_hospitals
from radlake.config import Settings
from radlake.residency import Fetched, held
from radlake.residency import bring_in as bring_objects_in

app = typer.Typer(help="See who keeps the pixels, and bring them into our store.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """How much of each hospital lies in our store, and how much the hospital keeps; what the cache holds of it."""
    settings: Settings = ctx.obj
    lake = filled_lake(settings)
    registered = registered_hospitals(settings)
    rows = [
        {
            "hospital_id": item.hospital_id,
            "storage_policy": registered[item.hospital_id].storage_policy if item.hospital_id in registered else None,
            "residency": item.residency,
            "n_objects": item.n_objects,
            "bytes": item.n_bytes,
        }
        for item in held(lake)
    ]
    cached, limit = lake.cache.n_bytes(), lake.cache.limit_bytes
    if as_json:
        typer.echo(json.dumps({"held": rows, "cache_bytes": cached, "cache_limit_bytes": limit}, ensure_ascii=False))
        return
    header = ("hospital", "policy", "residency", "series objects", "bytes")
    show_table([list(row.values()) for row in rows], header=header, numbers=(False, False, False, True, True))
    typer.echo(f"cache: {cached:,} of {limit:,} bytes in {lake.cache.root}")


@app.command("bring-in")
def bring_in(
    ctx: typer.Context,
    hospitals: Hospitals = None,
    as_json: Json = False,
) -> None:
    """Bring what hospitals kept into our store, for those whose storage_policy is central now.

    It may be stopped and run again. No row changes but its residency.
    """
    settings: Settings = ctx.obj
    filled_lake(settings)
    chosen = chosen_hospitals(settings, hospitals)
    if hospitals and (kept := [one.hospital_id for one in chosen if one.storage_policy != "central"]):
        raise typer.BadParameter(
            f"storage_policy of {', '.join(kept)} is index; change it in {settings.hospitals} first"
        )
    done: list[Fetched] = []
    with stoppable():
        for hospital in chosen:
            if hospital.storage_policy == "central":
                done += bring_objects_in(settings, hospital)
    counts = Counter(str(one.outcome) for one in done)
    left = [one for one in done if not one.is_here]
    if as_json:
        failed = [{"object_path": one.object.path, "outcome": one.outcome, "reason": one.reason} for one in left]
        typer.echo(json.dumps({"objects": dict(counts), "left": failed}, ensure_ascii=False))
    else:
        typer.echo(", ".join(f"{name} {n:,}" for name, n in sorted(counts.items())) or "nothing is left to bring in")
        for one in left:
            typer.echo(f"error: {one.object.path}: {one.outcome}: {one.reason}", err=True)
    if left:
        raise typer.Exit(1)
