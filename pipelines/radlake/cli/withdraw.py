"""`radlake withdraw`: everything of a person or a study goes, and a signed report proves it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Annotated, Any

import typer

from radlake.cli._answers import show_table
from radlake.cli._lake import existing_lake
from radlake.config import Settings
from radlake.deidentify import KeyRing
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.lake.withdrawals import WithdrawalRows
from radlake.machine import utc_now
from radlake.vault.lake_key import lake_keys, open_ledger
from radlake.vault.trail import Reason
from radlake.withdrawal import (
    Plan,
    Subject,
    Withdrawn,
    asked,
    dry_run,
    report_problems,
    reports,
    resume,
    subject_of_person,
    subject_of_study,
    withdraw,
)

app = typer.Typer(
    help="Remove everything of a person or a study, search what is left, and sign a report.", no_args_is_help=True
)

By = Annotated[str, typer.Option("--by", help="Who does it: your name and role.")]
Why = Annotated[str, typer.Option("--why", help="Why: the request or decision; never a patient's name or number.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would go, and whom to tell; remove nothing.")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command()
def person(
    ctx: typer.Context,
    patient: Annotated[
        str, typer.Argument(metavar="HOSPITAL:PATIENTID", help="HOSPITAL:- reads the number from input.")
    ],
    by: By,
    why: Why,
    issuer: Annotated[str, typer.Option(help="Issuer of Patient ID.")] = "",
    patient_key: Annotated[
        int | None, typer.Option(help="Which person, of a number that was used for several.")
    ] = None,
    dry: DryRun = False,
    as_json: Json = False,
) -> None:
    """Withdraw a person from the whole lake, in whatever hospital; later studies of the person are turned away too.

    A number on the command line can be seen by others on this machine: give `HOSPITAL:-` and type it. Running it again
    is harmless; after a kill it goes on.
    """
    hospital_id, _, patient_id = patient.partition(":")
    if patient_id == "-":
        given = typer.prompt("Patient ID", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
        patient_id = given.strip()
    if not (hospital_id and patient_id):
        raise typer.BadParameter("give HOSPITAL:PATIENTID")

    def subject(lake: Lake, ledger: Ledger, keys: KeyRing) -> Subject:
        return subject_of_person(
            lake, ledger, keys, hospital_id=hospital_id, patient_id=patient_id, issuer=issuer, patient_key=patient_key
        )

    found = partial(asked, find=subject, kind="person", hospital_id=hospital_id, secret=patient_id)
    _withdraw(ctx.obj, found, reason=Reason(by, why), dry=dry, as_json=as_json)


@app.command()
def study(
    ctx: typer.Context,
    uid: Annotated[str, typer.Argument(help="Study Instance UID, of the lake or of the hospital.")],
    by: By,
    why: Why,
    hospital: Annotated[str, typer.Option(help="Of this hospital only.")] = "",
    dry: DryRun = False,
    as_json: Json = False,
) -> None:
    """Withdraw a study; the person's other studies stay, and it does not come back."""

    def subject(lake: Lake, ledger: Ledger, keys: KeyRing) -> Subject:
        return subject_of_study(lake, ledger, keys, study_uid=uid, hospital_id=hospital)

    found = partial(asked, find=subject, kind="study", hospital_id=hospital, secret=uid)
    _withdraw(ctx.obj, found, reason=Reason(by, why), dry=dry, as_json=as_json)


@app.command("resume")
def resume_(ctx: typer.Context, as_json: Json = False) -> None:
    """Finish withdrawals that were interrupted, or that found remnants."""
    existing_lake(ctx.obj)
    with closing(open_ledger(ctx.obj)) as ledger:
        done = resume(ctx.obj, ledger, now=utc_now())
    for one in done:
        _show(one, as_json=as_json)
    if not done:
        typer.echo("no withdrawal is open", err=as_json)


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """Show every report: what was removed, and which holders of releases have to be told."""
    existing_lake(ctx.obj)
    with closing(open_ledger(ctx.obj)) as ledger:
        known = reports(ledger)
        n_open = sum(row.finished_at is None for row in WithdrawalRows(ledger).all())
    if as_json:
        for report in known:
            typer.echo(report.document)
        return
    rows = [(c["number"], c["kind"], c["begun_at"][:10], c["removed"]["n_studies"], c["removed"]["object_bytes"],
             ", ".join(sorted(_holders(c))), c["by"]) for c in (report.content for report in known)]  # fmt: skip
    header = ("no", "of a", "day", "studies", "bytes", "tell", "by")
    show_table(rows, header=header, numbers=(True, False, False, True, True, False, False))
    if n_open:
        typer.echo(f"open: {n_open}; run `radlake withdraw resume`")


@app.command()
def verify(ctx: typer.Context) -> None:
    """Check that no report was changed or removed; exit code 1 when one was."""
    existing_lake(ctx.obj)
    mac = lake_keys(ctx.obj).withdrawal_mac
    with closing(open_ledger(ctx.obj)) as ledger:
        problems = list(report_problems(ledger, ctx.obj.restricted, mac))
        known = reports(ledger)
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    if problems:
        raise typer.Exit(1)
    last = f", the last with digest {known[-1].digest}" if known else ""
    typer.echo(f"{len(known)} reports{last}: none was changed, none is missing")


def _withdraw(
    settings: Settings,
    subject: Callable[..., Subject],
    *,
    reason: Reason,
    dry: bool,
    as_json: bool,
) -> None:
    existing_lake(settings)
    with closing(open_ledger(settings)) as ledger:
        found = subject(settings, ledger, reason=reason, now=utc_now())
        if dry:
            plan = dry_run(settings, ledger, found, reason=reason, now=utc_now())
            _show_plan(plan, as_json=as_json)
            return
        done = withdraw(settings, ledger, found, reason=reason, now=utc_now())
    _show(done, as_json=as_json)


def _show_plan(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({**plan.removed, "blocked": plan.blocked}, ensure_ascii=False))
        return
    _show_removed(plan.removed, verb="would go")
    _show_called(plan.called)
    if plan.linked:
        typer.echo(
            f"stays: {plan.linked} other pseudonyms are linked with the person; withdraw them by their own numbers"
        )
    for reason in plan.blocked:
        typer.echo(f"forbidden: {reason}")
    if plan.blocked:
        raise typer.Exit(1)


def _show(done: Withdrawn, *, as_json: bool) -> None:
    if as_json:
        typer.echo(done.report.document)
        _show_called(done.called, err=True)
        return
    content = done.report.content
    _show_removed(content["removed"], verb="gone" if done.verification else "gone before")
    _show_called(done.called)
    if done.verification:
        searched = {name: n for name, n in content["searched"].items() if not name.startswith("n_")}
        told = ", ".join(f"{n:,} {name}" for name, n in searched.items())
        seconds = done.verification.seconds
        typer.echo(f"searched in {seconds:.1f} s for {content['searched']['n_names']:,} names: {told}")
    if n := content["searched"]["n_audit"]:
        typer.echo(f"kept: {n:,} entries of the audit trail name a pseudonym that somebody looked up")
    typer.echo(f"remnants: {content['remnants']}; report {content['number']}, digest {done.report.digest}")


def _show_removed(removed: dict[str, Any], *, verb: str) -> None:
    typer.echo(f"{verb}: {removed['n_studies']:,} studies, {removed['objects']:,} objects with "
               f"{removed['object_bytes']:,} bytes, {removed['held']:,} instances in quarantine")  # fmt: skip
    rows = [(name, removed["rows"][name], removed["old_rows"][name]) for name in sorted(removed["rows"])]
    show_table(rows, header=("table", "rows", "in older versions"), numbers=(False, True, True))
    if n := removed.get("kept"):
        typer.echo(
            f"stays: {n:,} instances in quarantine have a number of the person, but are somebody else's or may be"
        )
    if n := removed.get("results"):
        typer.echo(f"{verb}: {n:,} results of research, {removed['result_bytes']:,} bytes")
    for pin in removed["pins"]:
        typer.echo(f"issued again: pin {pin}")
    for release in removed["releases"]:
        who = "; ".join(f"{one['holder']} ({one['purpose']}, until {one['expires_on']})" for one in release["holders"])
        typer.echo(f"release {release['release_id']} is ended; tell its holders: {who or 'nobody has it yet'}")


def _show_called(called: Mapping[str, Sequence[str]], *, err: bool = False) -> None:
    """What a holder has to delete is told here only: no report may have a name of the subject."""
    for release_id, folders in sorted(called.items()):
        if folders:
            told = ", ".join(folders)
            typer.echo(f"folders of {release_id} that its holders delete, wherever they are: {told}", err=err)


def _holders(content: dict[str, Any]) -> set[str]:
    return {one["holder"] for release in content["removed"]["releases"] for one in release["holders"]}
