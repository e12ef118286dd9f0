"""`radlake measure`: rates defined as files, checked, counted while they are written, and released."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from radlake.cli._answers import show_table
from radlake.cli._lake import existing_lake
from radlake.cli.linkage import tell_linkage_rate
from radlake.config import Settings
from radlake.epidemiology.definition import DIMENSIONS, Measure, load_measure, shipped_measures
from radlake.machine import utc_now

app = typer.Typer(help="Rates of exams or persons in residents, defined as files under review.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="YAML of a measure, or the name of one that comes with radlake.")]
Files = Annotated[list[Path], typer.Argument(help="YAML of measures, or names of ones that come with radlake.")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command()
def check(files: Files) -> None:
    """Read definitions; all problems of a file are told at once, with line and nearest names. Needs no lake."""
    for file in files:
        measure = load_measure(file)
        typer.echo(f"{measure.name} version {measure.version} is valid; its id is {measure.measure_id}")


@app.command()
def count(ctx: typer.Context, file: File, as_json: Json = False) -> None:
    """What each filter of a definition leaves, while you write it: coarse numbers, nothing is released."""
    from radlake.epidemiology.release import build_up
    from radlake.ingest.offsets import date_offsets

    measure, settings = load_measure(file), ctx.obj
    steps = build_up(
        existing_lake(settings), measure, date_offsets=date_offsets(settings), policy=_policy(settings)
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps([{"step": s.name, "n_exams": exams, "n_persons": n} for s, exams, n in steps]))
        return
    small = f"<{_policy(settings).threshold}"
    rows = [(s.name, small if exams is None else exams, small if n is None else n) for s, exams, n in steps]
    show_table(rows, header=("after", "exams", "persons"), numbers=(False, True, True))
    typer.echo(f"rounded to {2 * _policy(settings).threshold}: exact numbers are released by `radlake measure run`")


@app.command()
def run(ctx: typer.Context, files: Files, as_json: Json = False) -> None:
    """Count measures and release what may be shown, together with all that were released before.

    The rows are in stats.measure, what they mean and the snapshot they were counted in is in stats.measure_definition.
    """
    from radlake.epidemiology.release import release_measures
    from radlake.ingest.offsets import date_offsets

    settings: Settings = ctx.obj
    measures = [load_measure(file) for file in files]
    released = release_measures(
        existing_lake(settings),
        measures,
        date_offsets=date_offsets(settings),
        policy=_policy(settings),
        now=utc_now().replace(tzinfo=None),
    )
    if as_json:
        rows = [row for measure in measures for row in released.rows_of(measure)]
        typer.echo(json.dumps({"snapshot": dict(released.snapshot), "rows": rows}, ensure_ascii=False))
        return
    for measure in measures:
        _show(measure, released.rows_of(measure))
    typer.echo(f"counted in {json.dumps(dict(released.snapshot))}")
    tell_linkage_rate(existing_lake(settings))


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """Measures that are released in this lake, and those that come with radlake."""
    from radlake.epidemiology.release import released_measures

    released = [measure for measure, _ in released_measures(existing_lake(ctx.obj))]
    rows = [(m.name, m.version, m.measure_id, m.title["zh"], m.title["en"]) for m in released]
    ids = {m.measure_id for m in released}
    shipped = [load_measure(path) for path in shipped_measures().values()]
    rows += [(m.name, m.version, "", m.title["zh"], m.title["en"]) for m in shipped if m.measure_id not in ids]
    show_table(rows, header=("measure", "version", "released as", "title", ""))


def _policy(settings: Settings):
    from radlake.stats.policy import load_policy

    return load_policy(settings.disclosure)


def _show(measure: Measure, rows: list[dict]) -> None:
    used = [DIMENSIONS[name] for name in measure.group_by]
    numbers = ["n_exams", "n_persons", "person_years", "rate", "rate_low", "rate_high"]
    numbers += ["smoothed_rate"] if measure.is_smoothed else []
    numbers += ["apc_percent", "apc_low", "apc_high"] if measure.has_trend else []
    table = [
        [*(row[name] for name in used), *(_cell(row, name) for name in numbers), row["problem"].replace("_", " ")]
        for row in rows
    ]
    typer.echo(f"{measure.title['zh']} · {measure.title['en']} (per {measure.per:,.0f})")
    typer.echo(f"{measure.formula['en']}")
    show_table(table, header=(*used, *numbers, ""), numbers=(*(False for _ in used), *(True for _ in numbers)))


def _cell(row: dict, name: str) -> object:
    value = row.get(name)
    if row["is_masked"] and name != "person_years":
        return "*"
    return "" if value is None else round(value, 2) if name.startswith(("apc", "smoothed")) else value
