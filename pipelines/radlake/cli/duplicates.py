"""`radlake duplicates`: build and show the statistics of repeated exams."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Literal

import typer

from radlake.cli._answers import show_table
from radlake.cli._lake import existing_lake
from radlake.cli.linkage import tell_linkage_rate
from radlake.machine import utc_now

app = typer.Typer(no_args_is_help=True, help="Repeated exams: build the statistics, and show their rates.")

Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])]
By = Literal["all", "exam_month", "region_code", "hospital_level", "hospital_id", "modality_group"]
ByPlace = Literal["all", "exam_month", "region_code", "hospital_level", "modality_group"]


@app.command()
def build(ctx: typer.Context, start: Day = None, end: Day = None, as_json: Json = False) -> None:
    """Lay exams out by person, exam and time, count repeats by every rule pack and window, and release the windows.

    --start and --end are the first and last day that exams are known of; without them each hospital's own are taken
    from its exams. Nothing is written when nothing has changed.
    """
    from radlake.ingest.duplicates import build_repeats
    from radlake.stats.duplicates.sequence import Observed

    if (start is None) != (end is None):
        raise typer.BadParameter("give --start and --end together")
    existing_lake(ctx.obj)
    observed = Observed(start.date(), end.date()) if start and end else None
    built = build_repeats(ctx.obj, now=utc_now(), observed=observed)
    if as_json:
        typer.echo(json.dumps(vars(built)))
        return
    state = "new" if built.is_new else "unchanged"
    typer.echo(f"stats.repeat_rate version {built.rates_version}: {built.n_rows:,} rows, {state}")
    typer.echo(f"stats.repeat_window version {built.windows_version}: released, see `radlake duplicates windows`")


@app.command()
def rates(
    ctx: typer.Context,
    by: Annotated[By, typer.Option(help="What to divide by.")] = "all",
    window: Annotated[int | None, typer.Option(help="Days; else the headline windows.")] = None,
    as_json: Json = False,
) -> None:
    """Look-back and index rates with 95 % limits (Wilson): all repeats, after exclusions, across hospitals only.

    Exact counts of the restricted zone: what is published passes disclosure control first.
    """
    from radlake.stats.duplicates.packs import load_windows
    from radlake.stats.duplicates.shares import shares

    lake = existing_lake(ctx.obj)
    known = load_windows()
    if window is not None and window not in known.days:
        raise typer.BadParameter(f"windows are {', '.join(map(str, known.days))} days")
    rows = shares(lake, by=None if by == "all" else by, windows=(window,) if window else known.headline_days)
    if as_json:
        typer.echo(json.dumps([vars(row) for row in rows], default=vars))
        return
    header = ("rule pack", "days", by, "exams", "all repeats", "after exclusions", "of those across", "index rate")
    shown = [
        (
            *(row.rule_pack, row.window_days, row.group, row.n_exams),
            *map(str, (row.repeats, row.potential, row.potential_across, row.indexed)),
        )
        for row in rows
    ]
    show_table(shown, header=header, numbers=(False, True, False, True, False, False, False, False))
    tell_linkage_rate(lake)


@app.command()
def windows(
    ctx: typer.Context,
    year: Annotated[str, typer.Option(help="One calendar year; else all together.")] = "all",
    pack: Annotated[str, typer.Option(help="Rule pack.")] = "clinical_v1",
    as_json: Json = False,
) -> None:
    """Repeats within 7, 14, 30, 90 and 180 days by modality and body part, as released.

    Counts are rounded, shares have the digits that tell no small count, and examinations of few exams are left out.
    """
    from radlake.lake import duck

    lake = existing_lake(ctx.obj)
    with duck.connect(lake, tables=["stats.repeat_window"]) as connection:
        found = connection.sql(
            "SELECT modality_group, body_part_code, window_days, n_repeats, repeat_share, n_potential, potential_share,"
            " n_potential_across_hospitals, potential_across_share FROM stats.repeat_window"
            " WHERE exam_year = $year AND rule_pack = $pack AND (modality_group <> 'all' OR body_part_code = 'all')"
            " ORDER BY ALL",
            params={"year": year, "pack": pack},
        ).to_arrow_table()
    if as_json:
        typer.echo(json.dumps(found.to_pylist()))
        return
    rows = [["" if cell is None else cell for cell in row.values()] for row in found.to_pylist()]
    show_table(rows, header=found.column_names, numbers=(False, False, *[True] * 7))
    tell_linkage_rate(lake)


@app.command()
def count(
    ctx: typer.Context,
    window: Annotated[int, typer.Argument(min=1, max=36_500, help="Days; any number of them.")],
    by: Annotated[ByPlace, typer.Option(help="What to divide by.")] = "all",
    as_json: Json = False,
) -> None:
    """Count all repeats within any window, in one pass: before exclusions, and without the guards of `rates`.

    The first days of a period have too few repeats, since what lies before is not known. Exams that came since
    `radlake duplicates build`, such as those of a new month, are looked up by themselves and added. Exact counts of
    the restricted zone.
    """
    from radlake.ingest.duplicates import count_repeats_now

    existing_lake(ctx.obj)
    counted = count_repeats_now(ctx.obj, window_days=window)
    found = counted.rows
    keys = [] if by == "all" else [by]
    total = found.group_by(keys).aggregate([("n_exams", "sum"), ("n_repeats", "sum")])
    total = total.sort_by(by) if keys else total
    rows = [
        {"group": str(row.get(by, "all")), "n_exams": row["n_exams_sum"], "n_repeats": row["n_repeats_sum"]}
        for row in total.to_pylist()
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    shown = [(row["group"], f"{row['n_exams']:,}", f"{row['n_repeats']:,}") for row in rows]
    show_table(shown, header=(by, "exams", f"repeats within {window} days"), numbers=(False, True, True))
    if counted.n_added:
        typer.echo(f"{counted.n_added:,} of the exams came since `radlake duplicates build`")
