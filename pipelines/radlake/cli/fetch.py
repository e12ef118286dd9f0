"""`radlake fetch`: bring pixels that a hospital keeps, before somebody waits for them."""

from __future__ import annotations

import itertools
import json
from typing import Annotated

import typer

from radlake.cli._answers import show_table
from radlake.cli._lake import filled_lake
from radlake.cli.hospitals import registered_hospitals
from radlake.config import Settings
from radlake.errors import TransientError
from radlake.net import Hospital
from radlake.residency import Fetched, SeriesObject, fetch_study, objects_of

app = typer.Typer()


@app.command()
def fetch(
    ctx: typer.Context,
    uids: Annotated[list[str], typer.Argument(help="Study or Series Instance UIDs in the lake.")],
    hospital: Annotated[str, typer.Option(help="Only of this hospital.")] = "",
    wait: Annotated[float, typer.Option(help="Seconds to wait for another process that fetches the same study.")] = 600,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Fetch series from the hospitals that keep them, de-identify them again, prove them, and keep them in the cache.

    What is in the store or in the cache costs nothing. A series that the hospital changed is not served: its study is
    open again, and the exit code is 1. Files of the cache go when others need the room (RADLAKE_CACHE_BYTES).
    """
    settings: Settings = ctx.obj
    lake = filled_lake(settings)
    wanted = objects_of(lake, uids=uids, hospital_id=hospital)
    known = {uid for item in wanted for uid in (item.study_uid, item.series_uid)}
    unknown = [uid for uid in uids if uid not in known]
    rows: list[dict[str, object]] = []
    registered = registered_hospitals(settings)
    for (hospital_id, _), group in itertools.groupby(wanted, key=lambda item: (item.hospital_id, item.study_uid)):
        rows += _fetched(settings, registered.get(hospital_id), list(group), wait=wait)
    if as_json:
        typer.echo(json.dumps({"series": rows, "unknown": unknown}, ensure_ascii=False))
    elif rows:
        names = ("hospital_id", "series_instance_uid", "outcome", "object_bytes", "reason")
        header = ("hospital", "series", "outcome", "bytes", "reason")
        show_table(
            [[row[name] for name in names] for row in rows],
            header=header,
            numbers=[name == "object_bytes" for name in names],
        )
    for uid in unknown:
        typer.echo(f"error: no study or series {uid} in this lake", err=True)
    if unknown or not all(row["is_here"] for row in rows):
        raise typer.Exit(1)


def _fetched(
    settings: Settings, hospital: Hospital | None, wanted: list[SeriesObject], *, wait: float
) -> list[dict[str, object]]:
    """One row for each object of a study, whatever becomes of its hospital."""
    if hospital is None:
        if all(item.residency == "central" for item in wanted):
            return [_row(item, "here", "") for item in wanted]
        return [_row(item, "incomplete", f"it is not registered in {settings.hospitals}") for item in wanted]
    try:
        done: list[Fetched] = fetch_study(settings, hospital, wanted, timeout=wait)
    except TransientError as exc:
        return [_row(item, "incomplete", str(exc)) for item in wanted]
    return [_row(one.object, one.outcome, one.reason) for one in done]


def _row(item: SeriesObject, outcome: str, reason: str) -> dict[str, object]:
    return {
        "hospital_id": item.hospital_id,
        "study_instance_uid": item.study_uid,
        "series_instance_uid": item.series_uid,
        "object_path": item.path,
        "object_bytes": item.n_bytes,
        "residency": item.residency,
        "outcome": str(outcome),
        "is_here": outcome in ("here", "fetched"),
        "reason": reason,
    }
