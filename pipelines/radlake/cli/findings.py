"""`radlake findings`: coded facts from the report texts that a hospital delivers; no text is kept or shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from radlake.cli._answers import show_table
from radlake.cli._lake import existing_lake

app = typer.Typer(help="Coded findings from report texts, by rules for Chinese and English.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command()
def code(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV or Parquet of reports, below the restricted zone.")],
    hospital: Annotated[str, typer.Option("--hospital", help="Hospital that delivered it (its id).")],
    as_json: Json = False,
) -> None:
    """Read reports into core.finding: exam pseudonym, finding, certainty. The text stays where it is.

    Columns: accession_number or study_instance_uid; report_text, or findings_text and impression_text.
    """
    from radlake.epidemiology.reports import code_delivery
    from radlake.findings import load_rules
    from radlake.vault.lake_key import lake_keys, open_ledger

    open_ledger(ctx.obj).close()  # refuses a key that is not this lake's
    coded = code_delivery(
        existing_lake(ctx.obj), file, hospital_id=hospital, keys=lake_keys(ctx.obj), rules=load_rules()
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(coded.__dict__))
        return
    typer.echo(f"{coded.n_reports:,} reports, {coded.n_facts:,} facts in core.finding")
    if coded.n_unmatched:
        typer.echo(f"{coded.n_unmatched:,} of them are of exams that the lake does not have yet")


@app.command()
def judge(
    file: Annotated[Path, typer.Argument(help="CSV of labelled sentences: split,text,facts.")], as_json: Json = False
) -> None:
    """How many facts of sentences that people labelled the rules find (sensitivity), and how many are true (PPV)."""
    from radlake.findings import load_rules
    from radlake.findings.judging import judge as judged
    from radlake.findings.judging import labelled_from_csv
    from radlake.stats.intervals import wilson

    rows = []
    for key, score in judged(labelled_from_csv(file), rules=load_rules()).items():
        row = dict(zip(("split", "language", "certainty"), key, strict=True))
        for name, n in (("sensitivity", score.n_found + score.n_missed), ("ppv", score.n_found + score.n_invented)):
            limits = wilson(score.n_found, n)
            row |= {f"n_{name}": n, name: score.n_found / n if n else None}
            row |= {f"{name}_low": limits.low, f"{name}_high": limits.high} if limits else {}
        rows.append(row)
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = [
        (row["split"], row["language"], row["certainty"], *(_share(row, name) for name in ("sensitivity", "ppv")))
        for row in rows
    ]
    show_table(table, header=("split", "language", "certainty", "sensitivity (95 %)", "PPV (95 %)"))


def _share(row: dict, name: str) -> str:
    if row[name] is None:
        return ""
    return f"{row[name]:.2f} ({row[f'{name}_low']:.2f}-{row[f'{name}_high']:.2f}) of {row[f'n_{name}']}"
