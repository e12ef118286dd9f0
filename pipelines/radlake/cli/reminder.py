"""`radlake reminder`: remind order entry of exams that can be opened, and tell what came of it."""

from __future__ import annotations

import json
import secrets
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from radlake.cli._lake import existing_lake
from radlake.errors import ConfigInvalid, PortBusy
from radlake.machine import utc_now

app = typer.Typer(
    no_args_is_help=True, help="Remind order entry of earlier exams (CDS Hooks), and tell what came of it."
)

_PORT = 8767
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Today = Annotated[
    datetime | None,
    typer.Option("--today", formats=["%Y-%m-%d"], help="Take this day as today: to try the reminder on old data."),
]


@app.command()
def serve(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = _PORT,
    issuers: Annotated[
        Path | None, typer.Option(help="Who may call; else reminder-issuers.yaml of the restricted zone.")
    ] = None,
    public_url: Annotated[
        str, typer.Option("--public-url", help="Where callers reach it, behind a proxy; tokens are for this URL.")
    ] = "",
    certificate: Annotated[Path | None, typer.Option(help="PEM file of the certificate, for TLS.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
    viewer: Annotated[
        str, typer.Option(help="URL of a viewer with {study_uids} in it; without one the study record is shown.")
    ] = "",
    today: Today = None,
) -> None:
    """Serve order-select and order-sign until Ctrl+C, in the restricted zone: callers send identifiers."""
    from radlake.web.cds.server import ISSUERS, local_clock, serve_reminder

    existing_lake(ctx.obj)
    if (certificate is None) != (key is None):
        raise typer.BadParameter("give --certificate and --key together")
    try:
        serve_reminder(
            ctx.obj,
            issuers=issuers or ctx.obj.restricted / ISSUERS,
            host=host,
            port=port,
            public_url=public_url,
            clock=local_clock(today),
            announce=lambda url: typer.echo(f"the reminder is at {url}/cds-services (Ctrl+C stops it)"),
            certificate=(certificate, key) if certificate and key else None,
            viewer=viewer,
        )
    except PortBusy as exc:
        hint = f"; try --port {exc.facts['next_free']}" if exc.facts["next_free"] else ""
        raise ConfigInvalid(path="--port", problems=[f"{port} of {host} is in use by another program{hint}"]) from exc


@app.command()
def begin(
    ctx: typer.Context,
    hospital: Annotated[str, typer.Argument(help="Hospital whose order entry is reminded (its id).")],
    month: Annotated[
        datetime,
        typer.Argument(formats=["%Y-%m"], help="First month, wholly or partly; until then it is only counted."),
    ],
) -> None:
    """Date the switch of a hospital: the steps of a stepped wedge, so that the effect can be estimated."""
    import pyarrow as pa

    from radlake.contracts import load_table
    from radlake.reminder.references import INTERVENTION
    from radlake.sqlrun.reference import load_reference

    lake = existing_lake(ctx.obj)
    row = {"intervention_code": INTERVENTION, "hospital_id": hospital, "began_month": month.year * 100 + month.month}
    data = pa.Table.from_pylist([row], schema=load_table("ref.roll_out").arrow_schema())
    load_reference(lake, "ref.roll_out", data, batch_id=f"reminder-{hospital}-{secrets.token_hex(4)}")
    typer.echo(f"{hospital} is reminded from {month:%Y-%m}; a running service knows within a minute")


@app.command()
def caller(
    ctx: typer.Context,
    hospital: Annotated[str, typer.Argument(help="Hospital whose order entry calls (its id).")],
    iss: Annotated[str, typer.Option(help="URL that its tokens name as their issuer.")],
    system: Annotated[
        list[str], typer.Option(help="System of the patient identifiers that it sends; may be given several times.")
    ],
    key: Annotated[Path, typer.Option(help="File for the caller's new private key (ES384); it stays with the caller.")],
) -> None:
    """Make a key for a caller and let it in. A real caller makes its own key and sends the public one."""
    from radlake.web.cds.callers import add_caller
    from radlake.web.cds.server import ISSUERS

    existing_lake(ctx.obj)
    issuers = ctx.obj.prepare_restricted() / ISSUERS
    add_caller(issuers, iss=iss, hospital_id=hospital, systems=system, key=key)
    typer.echo(f"{iss} may call for {hospital}: see {issuers}; its private key is {key}")


@app.command()
def token(
    iss: Annotated[str, typer.Argument(help="Issuer, as it is on the allow-list.")],
    url: Annotated[str, typer.Argument(help="URL that is to be called.")],
    key: Annotated[Path, typer.Option(help="The caller's private key.")],
) -> None:
    """Write a token for one call, as the caller's own program would."""
    from radlake.web.cds.callers import signed_token

    typer.echo(signed_token(key, iss=iss, audience=url, now=utc_now(), jti=secrets.token_hex(16)))


@app.command()
def index(ctx: typer.Context, today: Today = None, as_json: Json = False) -> None:
    """Make the index of recent exams now; a running service makes it by itself when the lake changes."""
    from radlake.reminder.desk import make_index
    from radlake.web.cds.server import local_clock

    existing_lake(ctx.obj)
    n_rows = make_index(ctx.obj, now=local_clock(today)())
    typer.echo(json.dumps({"n_rows": n_rows}) if as_json else f"{n_rows:,} recent exams")


@app.command()
def replay(
    ctx: typer.Context,
    start: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day of exams.")],
    end: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day of exams.")],
    all_here: Annotated[
        bool, typer.Option("--all-retrievable", help="Take every exam of the lake for one that can be opened.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run history through the rules: what would have been shown, had every exam been ordered with the reminder on.

    Exact counts of the restricted zone.
    """
    from collections import Counter

    from radlake.cli._answers import show_table
    from radlake.ingest.offsets import date_offsets
    from radlake.lake.ledger import Ledger
    from radlake.reminder.policy import load_policy
    from radlake.reminder.replay import replay as run

    lake, period = existing_lake(ctx.obj), {"first": start.date(), "last": end.date()}
    with date_offsets(ctx.obj) as offsets, closing(Ledger(ctx.obj.ledger)) as ledger:
        found = run(lake, date_offsets=offsets, policy=load_policy(), ledger=None if all_here else ledger, **period)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], ensure_ascii=False))
        return
    header = ("hospital", "modality", "orders", "reminders", "per 100", "yuan", "mSv")
    shown = [
        (
            *(one.hospital_id, one.modality_group, f"{one.n_orders:,}", f"{one.n_reminders:,}"),
            f"{100 * one.n_reminders / one.n_orders:.1f}",
            "-" if one.n_unpriced else f"{one.cost_fen / 100:,.0f}",
            f"{one.dose_msv:,.0f}",
        )
        for one in found
    ]
    show_table(shown, header=header, numbers=(False, False, True, True, True, True, True))
    silences: Counter[str] = Counter()
    for one in found:
        silences.update(one.silences)
    n_orders, n_reminders = sum(one.n_orders for one in found), sum(one.n_reminders for one in found)
    share = f", {100 * n_reminders / n_orders:.1f} for each 100" if n_orders else ""
    typer.echo(f"{n_orders:,} orders, {n_reminders:,} reminders{share}")
    typer.echo("silence: " + (", ".join(f"{rule} {n:,}" for rule, n in silences.most_common()) or "none"))


@app.command()
def measures(ctx: typer.Context, as_json: Json = False) -> None:
    """How often order entry was reminded and what became of it, by month and hospital, as of the last `radlake build`.

    Exact counts of the restricted zone; the released ones are in stats.reminder.
    """
    from radlake.cli._answers import show_table
    from radlake.lake import duck

    with duck.connect(existing_lake(ctx.obj), zone="restricted", tables=["stats.reminder"]) as connection:
        rows = connection.sql("FROM stats.reminder ORDER BY ALL").to_arrow_table().to_pylist()
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    header = ("month", "hospital", "orders", "shown", "muted", "per 100", "accepted", "overridden", "ignored", "opened",
              "median s to open")  # fmt: skip
    shown = [
        (
            row["reminder_month"],
            row["hospital_id"],
            *(row[name] for name in ("n_orders", "n_shown", "n_muted")),
            "-" if row["shown_share"] is None else f"{100 * row['shown_share']:.1f}",
            *(row[name] for name in ("n_accepted", "n_overridden", "n_ignored", "n_opened")),
            "-" if row["p50_open_seconds"] is None else f"{row['p50_open_seconds']:.0f}",
        )
        for row in rows
    ]
    show_table(shown, header=header, numbers=(False, False, *[True] * 9))
