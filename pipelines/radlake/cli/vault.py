"""`radlake vault`: authorised re-identification, and the trail of who did it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from radlake.cli._answers import show_table
from radlake.cli._lake import existing_lake
from radlake.config import Settings
from radlake.machine import utc_now
from radlake.vault.lookup import Answer, Found, Vault
from radlake.vault.record import StudyRecord
from radlake.vault.trail import Reason

app = typer.Typer(help="Find out who is behind a pseudonym; every look-up is audited.", no_args_is_help=True)

By = Annotated[str, typer.Option("--by", help="Who asks: your name and role.")]
Why = Annotated[str, typer.Option("--why", help="Why: the approval or request; never a patient's name or number.")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]

_LABELS = {
    "patient_id": "patient ID",
    "issuer_of_patient_id": "its issuer",
    "patient_name": "name",
    "patient_birth_date": "born",
    "patient_sex": "sex",
    "other_patient_ids": "other IDs",
    "patient_telephone_numbers": "telephone",
    "accession_number": "accession",
}


@contextmanager
def opened(settings: Settings) -> Iterator[Vault]:
    """The vault of the lake, closed afterwards."""
    existing_lake(settings)
    vault = Vault(settings, clock=utc_now)
    try:
        yield vault
    finally:
        vault.close()


@app.command()
def find(
    ctx: typer.Context,
    by: By,
    why: Why,
    study: Annotated[str, typer.Option(help="Study Instance UID in the lake.")] = "",
    series: Annotated[str, typer.Option(help="Series Instance UID in the lake.")] = "",
    instance: Annotated[str, typer.Option(help="SOP Instance UID in the lake.")] = "",
    exam: Annotated[str, typer.Option(help="exam_pseudo_id.")] = "",
    patient: Annotated[str, typer.Option(help="patient_key, or Patient ID of an object in the lake.")] = "",
    forward: Annotated[
        str, typer.Option(metavar="HOSPITAL:PATIENTID", help="The other way; HOSPITAL:- reads the number from input.")
    ] = "",
    issuer: Annotated[str, typer.Option(help="Issuer of Patient ID, with --forward.")] = "",
    as_json: Json = False,
) -> None:
    """Find the person and the original UIDs behind a pseudonym, or the pseudonym of a person.

    Entered in the audit trail before anything is opened: who asked (as told and as logged in), when, why, for which
    pseudonym. A number on the command line can be seen by others on this machine: give `HOSPITAL:-` and type it.
    """
    pseudonyms = {"study": study, "series": series, "instance": instance, "exam": exam, "patient": patient}
    given = {kind: text for kind, text in pseudonyms.items() if text}
    if len(given) + bool(forward) != 1:
        raise typer.BadParameter("ask for one of --study, --series, --instance, --exam, --patient, --forward")
    reason = Reason(by, why)
    with opened(ctx.obj) as vault:
        if forward:
            _forward(vault, forward, issuer=issuer, reason=reason, as_json=as_json)
            return
        [(kind, text)] = given.items()
        answer = vault.find(kind, text, reason=reason)
    if as_json:
        typer.echo(json.dumps(_document(answer), ensure_ascii=False))
    else:
        for item in answer.found:
            _show(item, kind=kind, pseudonym=text)
    for item in answer.damaged:
        typer.echo(f"error: the record of study {item.study_uid} is damaged; see docs/how-to/re-identify.md", err=True)
    if not answer.found:
        typer.echo("nothing is known of it; what was stored before there was a vault has no record", err=True)
    if answer.damaged or not answer.found:
        raise typer.Exit(1)


def _forward(vault: Vault, text: str, *, issuer: str, reason: Reason, as_json: bool) -> None:
    hospital_id, _, patient_id = text.partition(":")
    if patient_id == "-":
        patient_id = (
            typer.prompt("Patient ID", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
        ).strip()
    if not (hospital_id and patient_id):
        raise typer.BadParameter("--forward takes HOSPITAL:PATIENTID")
    answer = vault.forward(hospital_id, patient_id, issuer=issuer, reason=reason)
    persons = [
        {"patient_key": key, "patient_id": f"{key:016x}", "n_studies": vault.n_studies(key)}
        for key in answer.patient_keys
    ]
    if as_json:
        typer.echo(json.dumps({"audit_seq": answer.audit_seq, "persons": persons}))
    else:
        show_table([list(person.values()) for person in persons], header=["patient_key", "Patient ID", "studies"])


@app.command()
def audit(
    ctx: typer.Context,
    verify: Annotated[bool, typer.Option("--verify", help="Verify the chain; exit code 1 when it is broken.")] = False,
    limit: Annotated[int, typer.Option(help="Entries to show, the newest ones.")] = 50,
    as_json: Json = False,
) -> None:
    """Show who looked up what and why; with --verify, find every entry that was changed or removed.

    Note down the last entry's digest from time to time: it proves that nothing before it was exchanged.
    """
    with opened(ctx.obj) as vault:
        entries = list(vault.trail.entries())
        problems = vault.trail.problems() if verify else []
    if as_json:
        for entry in entries:
            typer.echo(json.dumps(vars(entry) | {"recorded_at": entry.recorded_at.isoformat()}, ensure_ascii=False))
    elif not verify:
        names = ("seq", "recorded_at", "action", "kind", "pseudonym", "outcome", "agent", "os_user", "purpose")
        rows = [[getattr(entry, name) for name in names] for entry in entries[-limit:]]
        show_table(rows, header=["no", "UTC", *names[2:6], "by", "user", "why"])
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    if problems:
        raise typer.Exit(1)
    if verify:
        last = f", the last with digest {entries[-1].mac}" if entries else ""
        typer.echo(f"{len(entries):,} entries{last}: none was changed, none is missing", err=as_json)


@app.command()
def check(ctx: typer.Context, by: By, why: Why) -> None:
    """Open every record, show none: tells damaged ones, and studies that nothing leads back from."""
    with opened(ctx.obj) as vault:
        n, damaged = vault.damaged(reason=Reason(by, why))
        without = vault.rows.n_studies_without_record()
    typer.echo(f"{n - len(damaged):,} of {n:,} records can be opened")
    if without:
        typer.echo(f"{without:,} studies have none: they were stored before there was a vault")
    for item in damaged:
        typer.echo(f"error: the record of study {item.study_uid} is damaged; see docs/how-to/re-identify.md", err=True)
    if damaged:
        raise typer.Exit(1)


def _document(answer: Answer) -> dict[str, Any]:
    return {
        "audit_seq": answer.audit_seq,
        "studies": [
            {
                "hospital_id": item.hospital_id,
                "study_instance_uid": item.study_uid,
                "patient_key": item.patient_key,
                "exam_pseudo_id": item.exam_pseudo_id,
                "is_damaged": item.record is None,
            }
            | ({} if item.record is None else vars(item.record))
            for item in answer.found
        ],
    }


def _show(item: Found, *, kind: str, pseudonym: str) -> None:
    def line(label: str, value: object) -> None:
        typer.echo(f"{label:<12} {value}")

    line("hospital", item.hospital_id)
    line("study", item.study_uid)
    if item.record is not None:
        for name, values in item.record.identity.items():
            line(_LABELS.get(name, name), ", ".join(values))
        line("original UID", _original(item.record, kind, pseudonym))
        line("holds", f"{len(item.record.series):,} series, {len(item.record.instances):,} instances (--json has all)")
        line("shifted by", f"{item.record.date_offset_days} days, {item.record.clock_offset_seconds:+} seconds")
    typer.echo()


def _original(record: StudyRecord, kind: str, pseudonym: str) -> str:
    pairs = {"series": record.series, "instance": record.instances}.get(kind, (record.study,))
    return next((old for old, new in pairs if new == pseudonym), record.study[0])
