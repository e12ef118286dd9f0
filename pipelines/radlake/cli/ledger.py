"""`radlake ledger`: certify what is complete, verify that nobody changed it, see what happened."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import typer

from radlake.cli import _answers
from radlake.cli._lake import existing_lake
from radlake.config import Settings
from radlake.ingest.certify import certify, verify
from radlake.lake.certificate_history import certificate_of, changed_studies, history_of
from radlake.lake.ledger import Ledger
from radlake.machine import shanghai_day, utc_now

app = typer.Typer(
    no_args_is_help=True, help="Certify what is complete, verify that nobody changed it, see what happened."
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_DAY = ["%Y-%m-%d"]


@app.command("certify")
def certify_command(
    ctx: typer.Context,
    hospitals: Annotated[list[str] | None, typer.Argument(metavar="[HOSPITAL]...", help="Default: all.")] = None,
    day: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="Day in Asia/Shanghai.", show_default="today")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Issue the certificate of a day: expected against stored against catalogued, per hospital.

    Exit code 1: of some study the ledger and the catalogue do not say the same.
    """
    settings: Settings = ctx.obj
    existing_lake(settings)
    now = utc_now()
    done = certify(settings, hospitals or (), day.date() if day else shanghai_day(now), now)
    if as_json:
        told = [
            json.loads(one.certificate.document)
            | {"digest": one.certificate.digest, "problems": [asdict(problem) for problem in one.problems]}
            for one in done
        ]
        typer.echo(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        header = ("hospital", "day", "studies", "complete", "expected", "stored", "catalogued", "disagreeing", "digest")
        rows = [
            (
                one.hospital_id,
                str(one.day),
                sum(one.studies.values()),
                one.studies["complete"],
                one.expected,
                one.stored,
                one.catalogued,
                one.disagreeing,
                one.digest[:16],
            )
            for one in (item.certificate for item in done)
        ]
        if rows:
            numbers = [name not in ("hospital", "day", "digest") for name in header]
            _answers.show_table(rows, header=header, numbers=numbers)
        else:
            typer.echo("no hospital has a study yet: nothing is certified; `radlake harvest` brings some", err=True)
        for problem in (problem for one in done for problem in one.problems):
            typer.echo(f"{problem.hospital_id}: {problem.where} {problem.name}: {problem.told}", err=True)
    raise typer.Exit(1 if any(one.certificate.disagreeing for one in done) else 0)


@app.command("verify")
def verify_command(
    ctx: typer.Context,
    hospitals: Annotated[list[str] | None, typer.Argument(metavar="[HOSPITAL]...", help="Default: all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Prove that nobody changed the ledger, its history or its certificates, and that the catalogue says the same.

    Exit code 1: something is wrong. Hospital and study are named, the study by its UID in the lake.
    """
    existing_lake(ctx.obj)
    n_problems = 0
    told: list[dict[str, Any]] = []
    for problem in verify(ctx.obj, hospitals or ()):
        n_problems += 1
        if as_json:
            told.append(asdict(problem))
        else:
            typer.echo(f"{problem.hospital_id}: {problem.where} {problem.name}: {problem.told}", err=True)
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False, indent=2))
    elif not n_problems:
        typer.echo("History, states, certificates and catalogue agree.")
    raise typer.Exit(1 if n_problems else 0)


@app.command("diff")
def diff_command(
    ctx: typer.Context,
    hospital: Annotated[str, typer.Argument(help="Hospital.")],
    day1: Annotated[datetime, typer.Argument(formats=_DAY, help="Day of a certificate.")],
    day2: Annotated[datetime, typer.Argument(formats=_DAY, help="Day of a later one.")],
    as_json: JsonOption = False,
) -> None:
    """What changed between two certificates."""
    existing_lake(ctx.obj)
    with closing(Ledger(ctx.obj.ledger)) as ledger, ledger.snapshot() as connection:
        old, new = (certificate_of(connection, hospital, day) for day in sorted((day1.date(), day2.date())))
        studies = changed_studies(connection, old, new)
    counts = [(f"studies {state}", n, new.studies[state]) for state, n in old.studies.items()]
    names = ("expected", "stored", "set_aside", "catalogued")
    counts += [(f"instances {name.replace('_', ' ')}", getattr(old, name), getattr(new, name)) for name in names]
    if as_json:
        told = {"counts": {name: [before, after] for name, before, after in counts}}
        typer.echo(json.dumps(told | {"studies": [asdict(one) for one in studies]}, ensure_ascii=False, indent=2))
        return
    _answers.show_table(counts, header=("", str(old.day), str(new.day)), numbers=(False, True, True))
    rows = [(one.name, one.before or "unknown", one.after, one.reason, one.n_events) for one in studies]
    _answers.show_table(rows, header=("study", "before", "after", "reason", "events"))


@app.command("show")
def show_command(
    ctx: typer.Context,
    uid: Annotated[str, typer.Argument(metavar="STUDY_UID", help="Of the hospital, or of the lake.")],
    as_json: JsonOption = False,
) -> None:
    """The history of one study."""
    existing_lake(ctx.obj)
    with closing(Ledger(ctx.obj.ledger)) as ledger, ledger.snapshot() as connection:
        events = list(history_of(connection, uid))
    if not events:
        raise typer.BadParameter("the ledger knows no such study")
    if as_json:
        told = [vars(event) | {"at": event.at.isoformat()} for event in events]
        typer.echo(json.dumps(told, ensure_ascii=False, indent=2))
        return
    rows = [
        (event.hospital_id, event.seq, event.at, event.what, event.state, event.reason, event.evidence[:16])
        for event in events
    ]
    header = ("hospital", "event", "at (UTC)", "what", "state", "reason", "evidence")
    _answers.show_table(rows, header=header)
