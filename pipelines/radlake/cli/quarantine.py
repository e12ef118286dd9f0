"""`radlake quarantine`: what was set aside, why, and the way back."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from radlake.cli._lake import existing_lake
from radlake.cli.hospitals import hospital_of_files
from radlake.cli.tables import human_bytes, plain_table, summary_table, wide_console
from radlake.config import Settings
from radlake.contracts.reasons import reasons
from radlake.ingest import replay_quarantine
from radlake.lake.ledger import Ledger
from radlake.lake.quarantine import Quarantine

app = typer.Typer(help="See what was set aside and why, and replay it.", no_args_is_help=True)

HospitalOption = Annotated[str | None, typer.Option("--hospital", help="Only this hospital.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Only this reason code.")]

_WIDE = 120


def _quarantine(settings: Settings) -> Quarantine:
    lake = existing_lake(settings)
    return Quarantine(Ledger(settings.ledger), lake.quarantine)


@app.command("list")
def list_held(
    ctx: typer.Context,
    hospital: HospitalOption = None,
    reason: ReasonOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    limit: Annotated[int, typer.Option(help="Rows to show.")] = 50,
) -> None:
    """List what is held, with a count by reason."""
    held = _quarantine(ctx.obj).held(hospital_id=hospital, reason=reason)
    if as_json:
        for record in held:
            typer.echo(json.dumps(record, ensure_ascii=False, default=str))
        return
    console = wide_console()
    if not held:
        console.print("Nothing is held in quarantine.")
        return
    columns = {
        "id": [record["quarantine_id"] for record in held],
        "hospital": [record["hospital_id"] for record in held],
        "reason": [record["reason"] for record in held],
        "from": [record["origin"] for record in held],
    }
    if console.width >= _WIDE:
        columns |= {
            "detail": [record["detail"] for record in held],
            "bytes": [human_bytes(record["n_bytes"]) for record in held],
            "since (UTC)": [f"{record['held_at']:%Y-%m-%d %H:%M}" for record in held],
        }
    table = plain_table(*columns)
    for column in table.columns:
        column.no_wrap = column.header not in ("from", "detail")
    for row in islice(zip(*columns.values(), strict=True), limit):
        table.add_row(*map(Text, row))
    console.print(table)
    if len(held) > limit:
        console.print(f"{len(held) - limit:,} more; --limit shows them")
    counts = Counter(columns["reason"])
    console.print(f"{len(held):,} held: " + ", ".join(f"{name} {n:,}" for name, n in counts.most_common()))
    console.print("`radlake quarantine show ID` tells why, what to do, and where the bytes are")


@app.command()
def show(
    ctx: typer.Context, quarantine_id: Annotated[str, typer.Argument(help="Id, or its first characters.")]
) -> None:
    """Show one object: why it is held, what to do, where its bytes are."""
    quarantine = _quarantine(ctx.obj)
    for record in _chosen(quarantine, [quarantine_id]):
        reason = reasons().get(record["reason"])
        for key, value in record.items():
            if value not in ("", None):
                typer.echo(f"{key:<14} {value}")
        typer.echo(f"{'file':<14} {quarantine.path(record['quarantine_id'])}")
        if reason:
            typer.echo(f"{'means':<14} {reason.meaning_en} {reason.meaning_zh}")
            typer.echo(f"{'what to do':<14} {reason.remedy_en} {reason.remedy_zh}")


@app.command()
def replay(
    ctx: typer.Context,
    quarantine_ids: Annotated[list[str] | None, typer.Argument(help="Ids, or their first characters.")] = None,
    hospital: HospitalOption = None,
    reason: ReasonOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Replay all that is held.")] = False,
) -> None:
    """Send objects through validation and de-identification again, after a rule or profile was changed.

    What passes is stored and its study is settled anew; what does not stays held, with today's reason.
    """
    if not (quarantine_ids or hospital or reason or everything):
        raise typer.BadParameter("name ids, --hospital, --reason, or --all")
    settings: Settings = ctx.obj
    quarantine = _quarantine(settings)
    held = (
        _chosen(quarantine, quarantine_ids) if quarantine_ids else quarantine.held(hospital_id=hospital, reason=reason)
    )
    summaries = []
    for hospital_id in sorted({record["hospital_id"] for record in held}):
        mine = [record for record in held if record["hospital_id"] == hospital_id]
        summaries.append(replay_quarantine(settings, hospital_of_files(settings, hospital_id), held=mine))
    Console().print(summary_table(summaries) if summaries else "Nothing to replay.")


def _chosen(quarantine: Quarantine, prefixes: list[str]) -> list[dict[str, Any]]:
    held = quarantine.held()
    chosen = [record for record in held if any(record["quarantine_id"].startswith(prefix) for prefix in prefixes)]
    if not chosen:
        raise typer.BadParameter(f"nothing is held as {', '.join(prefixes)}; see `radlake quarantine list`")
    return chosen
