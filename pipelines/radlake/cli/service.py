"""`radlake service`: order lists of hospitals, and what the service measures say."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radlake.cli._lake import existing_lake
from radlake.lake import Lake, duck
from radlake.lake.store import write_whole
from radlake.machine import shanghai_day, utc_now

if TYPE_CHECKING:
    from radlake.stats.league import Standing

app = typer.Typer(help="Uploads in time, report turnaround, data quality: lists and letters.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command()
def orders(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="UTF-8 CSV of the hospital's orders, below the restricted zone.")],
    hospital: Annotated[str, typer.Option("--hospital", help="Hospital whose list it is (its id).")],
    as_json: Json = False,
) -> None:
    """Load an order list, so that exams that were never uploaded count. All problems are told at once, by line.

    Columns: accession_number, order_status (performed, scheduled, cancelled), performed_at; and as they are there:
    modality, reader_id, reported_at, encounter_number, ground_codes (joined by +), operation_days, evidence_source.
    """
    from radlake.ingest.orders import load_orders
    from radlake.vault.lake_key import lake_keys, open_ledger

    open_ledger(ctx.obj).close()  # refuses a key that is not this lake's
    lake = existing_lake(ctx.obj)
    loaded = load_orders(lake, file, hospital_id=hospital, keys=lake_keys(ctx.obj), now=utc_now())
    if as_json:
        typer.echo(json.dumps(asdict(loaded)))
        return
    typer.echo(
        f"{loaded.n_orders:,} orders, {loaded.n_performed:,} of them performed; the lake has {loaded.n_in_lake:,}"
    )
    typer.echo("`radlake build` computes with them" if loaded.is_new else "the same list was loaded before")


@app.command()
def league(ctx: typer.Context, as_json: Json = False) -> None:
    """Hospitals by the quality of their data, best first: exact counts, of the restricted zone."""
    from radlake.cli._answers import show_table

    found = _standings(existing_lake(ctx.obj))
    if as_json:
        rows = [
            {"hospital_id": one.hospital_id, "score": one.score, "rank": one.rank}
            | {"faults": {fault.topic.code: fault.share for fault in one.faults}}
            for one in found
        ]
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    worst = [", ".join(f"{f.topic.code} {f.share:.1%}" for f in one.faults[:3]) for one in found]
    rows = [(one.rank, one.hospital_id, f"{one.score:.1f}", text) for one, text in zip(found, worst, strict=True)]
    show_table(rows, header=("place", "hospital", "score", "most of all"), numbers=(True, False, True))


@app.command()
def letters(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Option("--output", "-o", help="Folder for the letters, HOSPITAL.zh.md and .en.md.")],
    hospital: Annotated[str | None, typer.Option("--hospital", help="Only this one.")] = None,
) -> None:
    """Write to each hospital what to repair in its data and how, in Chinese and English.

    Exact counts of its own exams: send a letter to its hospital only.
    """
    from radlake.lake.ledger import Ledger
    from radlake.stats.league import gate_faults, letter

    lake = existing_lake(ctx.obj)
    found = _standings(lake)
    if hospital is not None and hospital not in {one.hospital_id for one in found}:
        raise typer.BadParameter(f"stats.data_quality has no hospital {hospital}")
    with duck.connect(lake, tables=["ref.hospital"]) as connection:
        rows = connection.execute("SELECT hospital_id, name_zh, name_en FROM ref.hospital").fetchall()
    names = {one: {"zh": zh, "en": en} for one, zh, en in rows}
    folder.mkdir(parents=True, exist_ok=True)
    n_written = 0
    with closing(Ledger(ctx.obj.ledger)) as ledger:
        for standing in found:
            if hospital not in (None, standing.hospital_id):
                continue
            held = ledger.held(hospital_id=standing.hospital_id, reason="quality_gate")
            gate = gate_faults([row["detail"] for row in held])
            for language in ("zh", "en"):
                name = names.get(standing.hospital_id, {}).get(language) or standing.hospital_id
                text = letter(
                    standing,
                    name=name,
                    language=language,
                    n_hospitals=len(found),
                    day=shanghai_day(utc_now()),
                    gate=gate,
                )
                write_whole(folder / f"{standing.hospital_id}.{language}.md", text)
                n_written += 1
    typer.echo(f"{n_written} letters are in {folder}")


def _standings(lake: Lake) -> list[Standing]:
    from radlake.stats.league import standings

    with duck.connect(lake, zone="restricted", tables=["stats.data_quality"]) as connection:
        rows = connection.sql("FROM stats.data_quality").to_arrow_table().to_pylist()
    return standings(rows)
