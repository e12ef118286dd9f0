"""`radlake vocab`: how descriptions of examinations are read, how right that is, and what no rule can read."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.text import Text

from radlake.cli.tables import plain_table, wide_console
from radlake.config import Settings

app = typer.Typer(
    help="See how descriptions of examinations are read, and what no rule can read.", no_args_is_help=True
)

JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")]
LimitOption = Annotated[int, typer.Option("-n", "--limit", min=1, help="Rows to show.")]

_UNKNOWN = """
    SELECT modality_group, study_description, count(*) AS n_studies, count(DISTINCT hospital_id) AS n_hospitals
    FROM dicom.study WHERE body_part_code = 'UNKNOWN'
    GROUP BY modality_group, study_description
    ORDER BY n_studies DESC, modality_group, study_description LIMIT {limit}
"""
_CONFLICTS = """
    SELECT conflict_code, modality_group, count(*) AS n_studies FROM dicom.study WHERE conflict_code <> 'NONE'
    GROUP BY conflict_code, modality_group ORDER BY n_studies DESC, conflict_code, modality_group LIMIT {limit}
"""
_SHARES = """
    SELECT
        count(*) AS n_studies,
        count(*) FILTER (WHERE body_part_code = 'UNKNOWN') AS n_unknown,
        count(*) FILTER (WHERE conflict_code <> 'NONE') AS n_contradicting
    FROM dicom.study
"""


@app.command()
def explain(
    description: Annotated[str, typer.Argument(help="Study description, or the name of the ordered item.")],
    modality: Annotated[str, typer.Option("--modality", "-m", help="Modality (0008,0060): CT, MR, DX ...")] = "",
    body_part: Annotated[str, typer.Option(help="Body Part Examined (0018,0015).")] = "",
    laterality: Annotated[str, typer.Option(help="Laterality (0020,0060): L, R or B.")] = "",
    agent: Annotated[str, typer.Option(help="Contrast/Bolus Agent (0018,0010).")] = "",
    series: Annotated[list[str] | None, typer.Option(help="Series Description; may be given several times.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how a description is read, and what is decided from it and from the attributes beside it."""
    from radlake.vocab import decide, evidence_of, read
    from radlake.vocab.load import vocabulary

    given = {"Modality": modality, "BodyPartExamined": body_part, "Laterality": laterality, "ContrastBolusAgent": agent}
    evidence = evidence_of(_headers(given | {"StudyDescription": description}, series or [""]))
    facts = decide(evidence)
    group = facts.modality_group if facts.modality_group not in ("OT", "UNKNOWN") else ""
    reading = read(description, group)
    sct = [vocabulary().sct_of[part] for part in facts.body_part_code.split("+") if part in vocabulary().sct_of]
    if as_json:
        steps = [asdict(step) for step in reading.steps]
        told = {name: value for name, value in asdict(evidence).items() if value}
        _print_json(
            {
                "facts": asdict(facts) | {"body_part_sct": sct},
                "steps": steps,
                "unread": reading.unread,
                "evidence": told,
            }
        )
        return
    console = wide_console()
    table = plain_table("text", "meaning")
    for step in reading.steps:
        table.add_row(Text(step.text), Text(step.meaning if step.meaning != "?" else "not understood"))
    console.print(table)
    table = plain_table("fact", "value", "because")
    told = {name: value for name, value in asdict(evidence).items() if value}
    because = {
        "modality_group": _list(told, "modalities", "spoken"),
        "body_part_code": _list(told, "region", "procedure", "examined", "study", "step", "series"),
        "laterality_code": _list(told, "side", "study_side", "series_side"),
        "contrast_code": _list(told, "agent", "study_contrast", "series_contrast"),
    }
    for name, value in asdict(facts).items():
        table.add_row(name, str(value), because.get(name, ""))
        if name == "body_part_code":
            table.add_row("body_part SNOMED CT", "+".join(sct) or "-", "")
    console.print("", table)


@app.command()
def unknown(ctx: typer.Context, limit: LimitOption = 20, as_json: JsonOption = False) -> None:
    """List the commonest exams without a body part, contradictions, and words that no rule can read.

    Words are shown from the tenth person on whose description has them: a rarer one could be a name.
    """
    from radlake.cli._lake import filled_lake
    from radlake.lake import duck
    from radlake.lake.ledger import Ledger
    from radlake.lake.unread import unread_texts

    settings: Settings = ctx.obj
    lake = filled_lake(settings)
    with duck.connect(lake, tables=["dicom.study"]) as connection:
        n_studies, n_unknown, n_contradicting = connection.execute(_SHARES).fetchall()[0]
        described = connection.execute(_UNKNOWN.format(limit=limit)).fetchall()
        conflicts = connection.execute(_CONFLICTS.format(limit=limit)).fetchall()
    ledger = Ledger(settings.ledger)
    try:
        words = unread_texts(ledger, limit=limit)
    finally:
        ledger.close()
    if as_json:
        columns = ("modality_group", "study_description", "n_studies", "n_hospitals")
        _print_json(
            {
                "n_studies": n_studies,
                "n_unknown": n_unknown,
                "n_contradicting": n_contradicting,
                "unknown": [dict(zip(columns, row, strict=True)) for row in described],
                "contradictions": [
                    dict(zip(("conflict_code", "modality_group", "n_studies"), row, strict=True)) for row in conflicts
                ],
                "unread": [asdict(word) for word in words],
            }
        )
        return
    console = wide_console()
    console.print(f"{n_unknown:,} of {n_studies:,} studies ({_share(n_unknown, n_studies)}) have no body part;")
    console.print(f"in {n_contradicting:,} ({_share(n_contradicting, n_studies)}) the evidences contradict each other.")
    if described:
        table = plain_table("modality", "description, cleaned", "studies", "hospitals")
        for group, text, n, n_hospitals in described:
            table.add_row(group, Text(text or "(nothing left)"), f"{n:,}", f"{n_hospitals:,}")
        console.print("", table)
    if conflicts:
        table = plain_table("contradiction", "modality", "studies")
        for code, group, n in conflicts:
            table.add_row(code, group, f"{n:,}")
        console.print("", table)
    if words:
        table = plain_table("not read", "modality", "persons")
        for word in words:
            table.add_row(Text(word.text), word.modality_group, f"{word.n_persons:,}")
        console.print("", table)
        console.print("Add what they mean to schemas/vocab/reading.yaml or spellings.csv, and raise the version.")


@app.command()
def score(
    show_misses: Annotated[
        bool, typer.Option("--misses", help="List what was read otherwise (not of held_out).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the rules on the labelled descriptions, by modality and by field, the held-out ones apart."""
    from radlake.vocab.score import FIELDS, labelled, misses, scores

    rows = labelled()
    found = scores(rows)
    wrong = [miss for miss in misses(rows) if miss.row["split"] != "held_out"] if show_misses else []
    if as_json:
        _print_json({"scores": [asdict(one) for one in found], "misses": [asdict(miss) for miss in wrong]})
        return
    console = wide_console()
    table = plain_table("split", "modality", "n", *FIELDS, "whole exam", "not told")
    for one in found:
        shares = (f"{one.share(field):.1%}" for field in (*FIELDS, "exam"))
        table.add_row(one.split, one.modality_group, f"{one.n:,}", *shares, f"{one.n_unknown:,}")
    console.print(table)
    if wrong:
        table = plain_table("modality", "description", "field", "told", "right")
        for miss in wrong:
            for field, (told, right) in miss.differing.items():
                table.add_row(miss.row["modality"], Text(miss.row["description"]), field, told, right)
        console.print("", table)


def _headers(given: dict[str, str], series: list[str]) -> list[Any]:
    """Data sets with these attributes, as a hospital would write them: values are not validated."""
    from pydicom import DataElement, Dataset, config
    from pydicom.datadict import dictionary_VR

    made = []
    for description in series:
        ds = Dataset()
        for keyword, value in (given | {"SeriesDescription": description}).items():
            if value:
                ds.add(DataElement(keyword, dictionary_VR(keyword), value, validation_mode=config.IGNORE))
        made.append(ds)
    return made


def _list(told: dict[str, Any], *names: str) -> str:
    said = ((name, told[name]) for name in names if name in told)
    return "; ".join(f"{name}: {value if isinstance(value, str) else '+'.join(value)}" for name, value in said)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))
