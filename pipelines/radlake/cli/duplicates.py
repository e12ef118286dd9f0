"""`radlake duplicates`: build and show the statistics of repeated exams."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal, get_args

import typer

from radlake.cli._answers import show_table
from radlake.cli._lake import existing_lake
from radlake.cli.linkage import tell_linkage_rate
from radlake.machine import utc_now

app = typer.Typer(no_args_is_help=True, help="Repeated exams: build the statistics, and show their rates.")

Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])]
By = Literal["all", "exam_month", "region_code", "hospital_level", "hospital_id", "modality_group"]
ByCompared = Literal["region_code", "hospital_level", "hospital_id", "modality_group", "exam_year"]
ByReleased = Literal["body_part_code", "region_code", "hospital_level"]
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
def compare(
    ctx: typer.Context,
    first: Annotated[str, typer.Argument(help="A value of --by, such as 320100.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    by: Annotated[ByCompared, typer.Option(help="What they are values of.")] = "region_code",
    window: Annotated[int, typer.Option(help="Days.")] = 30,
    pack: Annotated[str, typer.Option(help="Rule pack.")] = "clinical_v1",
    modality: Annotated[str | None, typer.Option(help="One modality group; else all.")] = None,
    as_json: Json = False,
) -> None:
    """Compare repeats that nothing excuses of two cities, levels, hospitals, modalities or years.

    The limits of the difference know that exams of one person, and of one hospital, are not independent
    (Cameron, Gelbach and Miller 2011). Exact, of the restricted zone.
    """
    from radlake.stats.duplicates.compared import compare_repeats
    from radlake.stats.duplicates.packs import load_packs, load_windows

    lake = existing_lake(ctx.obj)
    if window not in load_windows().days:
        raise typer.BadParameter(f"windows are {', '.join(map(str, load_windows().days))} days")
    if pack not in load_packs():
        raise typer.BadParameter(f"rule packs are {', '.join(load_packs())}")
    if first == second:
        raise typer.BadParameter("give two different values")
    found = compare_repeats(
        lake, (first, second), by=by, rule_pack=pack, window_days=window, modality_group=modality,
        workers=max(1, ctx.obj.workers or 2),
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    of_each = zip((first, second), found.shares, found.n_hospitals, strict=True)
    rows = [(name, share.of, share.n, str(share), n_hospitals) for name, share, n_hospitals in of_each]
    header = (by, "exams", f"potential repeats within {window} days", "share", "hospitals")
    show_table(rows, header=header, numbers=(False, True, True, False, True))
    difference = found.difference
    if difference is None:
        typer.echo("the difference has no limits: all exams are of one person")
    else:
        limits = difference.interval
        ways = "persons and hospitals" if min(found.n_hospitals) > 1 else "persons"
        typer.echo(
            f"{second} less {first}: {difference.difference:+.2%} ({limits.low:+.2%} to {limits.high:+.2%}), by {ways}"
        )
    tell_linkage_rate(lake)


@app.command()
def windows(
    ctx: typer.Context,
    by: Annotated[
        ByReleased, typer.Option(help="Body part with the modality; city or level in all.")
    ] = "body_part_code",
    year: Annotated[str, typer.Option(help="One calendar year, of body parts; else all together.")] = "all",
    pack: Annotated[str, typer.Option(help="Rule pack.")] = "clinical_v1",
    as_json: Json = False,
) -> None:
    """Repeats within 7, 14, 30, 90 and 180 days by modality and body part, or by city or level, as released.

    Counts are rounded, shares have the digits that tell no small count, and rows of few exams are left out.
    """
    from radlake.lake import duck

    lake = existing_lake(ctx.obj)
    others = " AND ".join(f"{name} = 'all'" for name in get_args(ByReleased) if name != by)
    is_part = by == "body_part_code"
    is_told = "(modality_group <> 'all' OR body_part_code = 'all')" if is_part else "modality_group = 'all'"
    with duck.connect(lake, tables=["stats.repeat_window"]) as connection:
        found = connection.sql(
            f"SELECT modality_group, {by}, window_days, n_repeats, repeat_share, n_potential, potential_share,"
            " n_potential_across_hospitals, potential_across_share, indexed_share FROM stats.repeat_window"
            f" WHERE exam_year = $year AND rule_pack = $pack AND {others} AND {is_told} ORDER BY ALL",
            params={"year": year, "pack": pack},
        ).to_arrow_table()
    if as_json:
        typer.echo(json.dumps(found.to_pylist()))
        return
    rows = [["" if cell is None else cell for cell in row.values()] for row in found.to_pylist()]
    show_table(rows, header=found.column_names, numbers=(False, False, *[True] * 8))
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
