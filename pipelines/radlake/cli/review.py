"""`radlake review`: a person who sees the picture decides about what waits in quarantine."""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from radlake.cli._lake import existing_lake
from radlake.cli.hospitals import hospital_of_files
from radlake.cli.tables import human_bytes, plain_table, summary_table, wide_console
from radlake.config import Settings
from radlake.ingest import HarvestSummary, replay_quarantine
from radlake.lake.ledger import Ledger
from radlake.lake.quarantine import Quarantine
from radlake.machine import utc_now
from radlake.pixels import DecisionKind, Region
from radlake.review import Item, Queue, region_from_text, text_from_region
from radlake.review.picture import can_show, frame_png, proposed_regions

app = typer.Typer(help="Judge pictures in quarantine: accept, mask or reject.", invoke_without_command=True)

_HOST = "127.0.0.1"  # identified pictures: never another address
_PORT = 8766

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Id, or its first characters.")]
ByOption = Annotated[str, typer.Option("--by", help="Who decides; kept in the log.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
FrameOption = Annotated[int, typer.Option(min=1, help="Frame, counted from 1.")]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port of the loopback interface; 0 for any free one.")]


def _queue(settings: Settings) -> Queue:
    lake = existing_lake(settings)
    ledger = Ledger(settings.ledger)
    return Queue(ledger, Quarantine(ledger, lake.quarantine), can_show=can_show)


@app.callback()
def main(ctx: typer.Context) -> None:
    """Judge pictures in quarantine: accept, mask or reject. Without a command: `radlake review serve`."""
    if ctx.invoked_subcommand is None:
        serve(ctx, by=_login(), port=_PORT)


@app.command("list")
def list_waiting(
    ctx: typer.Context,
    hospital: Annotated[str | None, typer.Option("--hospital", help="Only this hospital.")] = None,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(help="Rows to show.")] = 50,
) -> None:
    """List what waits for a person, series by series."""
    waiting = _queue(ctx.obj).waiting(hospital_id=hospital)
    if as_json:
        for item in waiting:
            typer.echo(json.dumps(_told(item), ensure_ascii=False, default=str))
        return
    if not waiting:
        Console().print("Nothing waits for a person.")
        return
    table = plain_table("id", "hospital", "reason", "detail", "modality", "size", "bytes")
    for item in waiting[:limit]:
        modality, size, n_bytes = item.facts.modality, _size(item), human_bytes(item.n_bytes)
        table.add_row(item.quarantine_id, item.hospital_id, item.reason, item.detail, modality, size, n_bytes)
    wide_console().print(table)
    if len(waiting) > limit:
        typer.echo(f"({len(waiting) - limit:,} more; --limit)")


@app.command()
def show(
    ctx: typer.Context,
    quarantine_id: IdArgument,
    frame: FrameOption = 1,
    png: Annotated[
        Path | None, typer.Option("--png", help="Write the frame there. It may show a name: keep it in this zone.")
    ] = None,
) -> None:
    """Show one object: why it waits, what may be decided, where text is seen; --png writes its picture."""
    queue = _queue(ctx.obj)
    item = queue.find(quarantine_id)
    told = {key: value for key, value in _told(item).items() if value not in ("", None, [])}
    for key, value in told.items():
        typer.echo(f"{key:<14} {', '.join(value) if isinstance(value, list) else value}")
    typer.echo(f"{'same series':<14} {len(queue.alike(item))} more waiting")
    if not item.facts.has_picture:
        return
    if frame > item.facts.n_frames:
        raise typer.BadParameter(f"it has {item.facts.n_frames} frames")
    for region in proposed_regions(item.path):
        typer.echo(f"{'text at':<14} {text_from_region(region)}")
    if png:
        picture = frame_png(item.path, frame)
        png.touch(mode=0o600)
        png.write_bytes(picture)
        typer.echo(f"{'picture':<14} {png}")


@app.command()
def decide(
    ctx: typer.Context,
    quarantine_id: IdArgument,
    decision: Annotated[DecisionKind, typer.Argument(help="What to do with it.")],
    by: ByOption,
    why: Annotated[str, typer.Option("--why", help="Why; kept in the log.")],
    region: Annotated[
        list[str] | None,
        typer.Option(
            "--region",
            metavar="X0,Y0,X1,Y1[@F0-F1]",
            help="A rectangle to blacken: columns X0 to X1 - 1, rows Y0 to Y1 - 1, counted from 0; frames from 1.",
        ),
    ] = None,
    series: Annotated[bool, typer.Option("--series", help="Also for all waiting images of its series.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before --series is applied.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Then store what is decided.")] = False,
) -> None:
    """Accept (store as it is), mask (blacken the regions, store) or reject (keep it out of the lake)."""
    settings: Settings = ctx.obj
    queue = _queue(settings)
    items = [queue.find(quarantine_id)]
    if series:
        items += queue.alike(items[0])
        for item in items:
            typer.echo(f"{item.quarantine_id}  {item.facts.modality}  {_size(item)}")
        if not yes:
            typer.confirm(f"{decision.value} these {len(items)}?", abort=True)
    queue.decide(items, kind=decision, regions=_regions(region or []), by=by, why=why, now=utc_now())
    if not replay:
        typer.echo(f"{decision.value}: {len(items)}; `radlake review store` sends all that is decided on its way")
        return
    _print(_stored(settings, items))


@app.command()
def undo(ctx: typer.Context, quarantine_id: IdArgument, by: ByOption) -> None:
    """Undo a decision that was not stored yet."""
    queue = _queue(ctx.obj)
    item = queue.find(quarantine_id)
    queue.undo([item.quarantine_id], by=by, now=utc_now())
    typer.echo(f"{item.quarantine_id}: undone")


@app.command()
def store(ctx: typer.Context) -> None:
    """Replay all that is decided: what was accepted or masked is de-identified and stored."""
    settings: Settings = ctx.obj
    _print(_stored(settings, _queue(settings).decided()))


@app.command()
def log(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show every decision ever made, also those that were undone."""
    reviews = _queue(ctx.obj).log()
    if as_json:
        for review in reviews:
            typer.echo(json.dumps(asdict(review), ensure_ascii=False, default=str))
        return
    table = plain_table("at (UTC)", "id", "decision", "regions", "by", "why", "became")
    for review in reviews:
        became = f"undone by {review.undone_by}" if review.undone_at else "replayed" if review.replayed_at else "waits"
        told = (review.quarantine_id, review.decision, " ".join(review.regions), review.by, review.why, became)
        table.add_row(f"{review.at:%Y-%m-%d %H:%M}", *told)
    wide_console().print(table)


@app.command()
def serve(
    ctx: typer.Context,
    by: Annotated[str, typer.Option("--by", default_factory=lambda: _login(), help="Who decides; kept in the log.")],
    port: PortOption = _PORT,
) -> None:
    """Show the pictures in a browser of this machine, until Ctrl+C. They are identified: nobody else may see them."""
    from radlake.web.review import serve_review

    settings: Settings = ctx.obj
    queue = _queue(settings)

    def replay() -> Sequence[HarvestSummary]:
        return _stored(settings, queue.decided())

    serve_review(queue, by=by, host=_HOST, port=port, replay=replay, announce=_announce)


def _announce(url: str) -> None:
    typer.echo(f"Open {url}\nThe link works once. Ctrl+C stops it.")


def _stored(settings: Settings, items: Sequence[Item]) -> list[HarvestSummary]:
    """Replay these objects, hospital by hospital."""
    return [
        replay_quarantine(
            settings,
            hospital_of_files(settings, hospital_id),
            held=[item.record for item in items if item.hospital_id == hospital_id],
        )
        for hospital_id in sorted({item.hospital_id for item in items})
    ]


def _print(summaries: Sequence[HarvestSummary]) -> None:
    Console().print(summary_table(list(summaries)) if summaries else "Nothing is decided that waits.")


def _regions(texts: Sequence[str]) -> list[Region]:
    try:
        return [region_from_text(text) for text in texts]
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--region") from exc


def _told(item: Item) -> dict[str, Any]:
    """What is said of an object in words: nothing of it names a person."""
    facts = item.facts
    return {
        "id": item.quarantine_id,
        "hospital": item.hospital_id,
        "reason": item.reason,
        "detail": item.detail,
        "modality": facts.modality,
        "kind": facts.sop_class,
        "made_by": facts.made_by,
        "size": _size(item),
        "bytes": item.n_bytes,
        "held_at": item.held_at,
        "choices": [choice.value for choice in item.choices],
        "decision": item.review.decision if item.review else None,
    }


def _size(item: Item) -> str:
    facts = item.facts
    frames = f" x {facts.n_frames}" if facts.n_frames > 1 else ""
    return f"{facts.columns} x {facts.rows}{frames}" if facts.has_picture else facts.mime_type


def _login() -> str:
    return getpass.getuser()
