"""`radlake deid`: judge what was de-identified, by a referee that shares no code with the de-identifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from radlake.cli._lake import existing_lake
from radlake.config import Settings
from radlake.deidentify import load_profile
from radlake.lake.ledger import Ledger
from radlake.referee import RULES, Dciodvfy, Policy, Report, verify_folder, verify_lake

app = typer.Typer(help="Judge what was de-identified, by radlake or by any other tool.", no_args_is_help=True)

OriginalsOption = Annotated[
    list[Path] | None,
    typer.Option("--originals", help="Folder or ZIP of original files; may be given several times."),
]
WrittenOption = Annotated[
    Path | None,
    typer.Option("--written", help="Folder that any tool wrote (a release, a peer's output) instead of the lake."),
]
HospitalOption = Annotated[str, typer.Option("--hospital", help="Only the instances of this hospital.")]
ProfileOption = Annotated[
    str,
    typer.Option("--profile", help="Profile of what --written holds; without it, what the objects claim."),
]
SampleOption = Annotated[
    int,
    typer.Option("--sample", min=0, help="Look at so many instances only, chosen by digest; 0 looks at all."),
]
AlsoOption = Annotated[
    list[Path] | None, typer.Option("--also", help="Another file or folder to search: logs, exports.")
]
ConformanceOption = Annotated[
    bool, typer.Option("--dciodvfy", help="Compare the errors of dciodvfy (dicom3tools) before and after, too.")
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the report to this file as JSON.")]
_SHOWN = 50


@app.callback()
def _deid() -> None:
    """Judge what was de-identified, by radlake or by any other tool."""


@app.command()
def verify(
    ctx: typer.Context,
    originals: OriginalsOption = None,
    written: WrittenOption = None,
    hospital: HospitalOption = "",
    profile: ProfileOption = "",
    sample: SampleOption = 0,
    also: AlsoOption = None,
    dciodvfy: ConformanceOption = False,
    json_file: JsonOption = None,
) -> None:
    """Search what was written for the originals' identifiers, and hold it against the standard.

    Exit code 0: nothing found. 1: something was found, or the verification could not be done. A finding names rule,
    place and kind of identifier, never the value. Without originals only the standard and telltales can be judged.
    """
    settings: Settings = ctx.obj
    for path in (*(originals or ()), *(also or ())):
        if not path.exists():
            raise typer.BadParameter(f"{path} does not exist")
    validator = Dciodvfy() if dciodvfy else None
    if written is not None:
        policy = Policy.of_profile(load_profile(profile)) if profile else None
        report = verify_folder(written, originals=originals or (), policy=policy, sample=sample, dciodvfy=validator)
    else:
        ledger = Ledger(settings.ledger)
        try:
            report = verify_lake(
                existing_lake(settings),
                ledger=ledger,
                originals=originals or (),
                policy=Policy.of_profile(load_profile(profile or settings.profile)),
                hospital=hospital,
                sample=sample,
                also=also or (),
                dciodvfy=validator,
            )
        finally:
            ledger.close()
    if json_file is not None:
        json_file.write_text(json.dumps(report.to_json(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    _show(report)
    raise typer.Exit(0 if report.is_clean else 1)


def _show(report: Report) -> None:
    console = Console()
    told = ", ".join(f"{n:,} {what}" for what, n in sorted(report.looked_at.items()))
    console.print(f"Looked at {told or 'nothing'}.")
    for note, n in sorted(report.notes.items()):
        console.print(f"Not judged: {n:,} {note}.")
    if report.is_clean:
        console.print("Nothing was found. 未发现问题。")
        return
    rules = Table(title=f"{len(report.findings):,} findings")
    for name in ("rule", "findings", "means", "含义"):
        rules.add_column(name, justify="right" if name == "findings" else "left")
    for rule, n in report.by_rule.most_common():
        rules.add_row(rule, f"{n:,}", *RULES[rule])
    console.print(rules)
    places = Table()
    for name in ("rule", "where", "path", "kind", "encoding"):
        places.add_column(name, overflow="fold")
    for finding in sorted(report.findings)[:_SHOWN]:
        places.add_row(finding.rule, finding.where, finding.path, finding.kind, finding.encoding)
    if len(report.findings) > _SHOWN:
        places.caption = f"the first {_SHOWN}; --json FILE writes all"
    console.print(places)
