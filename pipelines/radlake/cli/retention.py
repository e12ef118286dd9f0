"""`radlake retention`: how long studies are kept, what that costs, holds, and removing what has expired."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer

from radlake.cli._answers import show_table
from radlake.cli._lake import existing_lake
from radlake.config import Settings
from radlake.expiry import due_studies, expire, hold, release, standing
from radlake.ingest.stored import cohorts_of, monthly_bytes
from radlake.lake.ledger import Ledger
from radlake.lake.retention import RetentionRows
from radlake.machine import shanghai_day, utc_now
from radlake.retention import PlanRow, cost_curve, load_schedule
from radlake.retention.plan import province, total_yuan
from radlake.vault.lake_key import open_ledger
from radlake.vault.trail import Reason

app = typer.Typer(
    help="How long studies are kept, what that costs, and removing what has expired.", no_args_is_help=True
)

Json = Annotated[bool, typer.Option("--json", help="For programs.")]
By = Annotated[str, typer.Option("--by", help="Who does it: your name and role.")]
Why = Annotated[str, typer.Option("--why", help="Why: the order or approval; never a patient's name or number.")]
Study = Annotated[str, typer.Argument(help="Study Instance UID in the lake.")]


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """How many studies of each class are kept until when, how many are held, and what has expired.

    True calendar: do not carry it out of the restricted zone.
    """
    existing_lake(ctx.obj)
    schedule = load_schedule()
    counts: dict[tuple[str, str], list[int]] = {}
    with closing(Ledger(ctx.obj.ledger)) as ledger:
        rows = RetentionRows(ledger)
        for study in rows.kept():
            kind, until = standing(study, schedule)
            count = counts.setdefault((kind.value, f"{until:%Y}" if until else "for ever: no date"), [0, 0])
            count[0] += 1
            count[1] += study.is_held
        gone = rows.tombstones()
    table = [[kind, until, *count] for (kind, until), count in sorted(counts.items())]
    n_open = sum(item.finished_at is None for item in gone)
    if as_json:
        names = ("retention_class", "retain_until_year", "n_studies", "n_held")
        kept = [dict(zip(names, row, strict=True)) for row in table]
        typer.echo(json.dumps({"kept": kept, "n_expired": len(gone) - n_open, "n_open": n_open}))
        return
    show_table(table, header=("class", "kept until the end of", "studies", "held"), numbers=(False, False, True, True))
    typer.echo(f"expired: {len(gone) - n_open:,}; about to be removed, run `radlake retention expire`: {n_open:,}")


@app.command("hold")
def hold_(ctx: typer.Context, study: Study, by: By, why: Why) -> None:
    """Place a legal hold: the study does not expire until it is released. Entered in the audit trail."""
    existing_lake(ctx.obj)
    with closing(open_ledger(ctx.obj)) as ledger:
        hospitals = hold(ctx.obj, ledger, study, reason=Reason(by, why))
    typer.echo(f"held, as it came from {', '.join(hospitals)}")


@app.command("release")
def release_(ctx: typer.Context, study: Study, by: By, why: Why) -> None:
    """Release the legal holds of a study. Entered in the audit trail."""
    existing_lake(ctx.obj)
    with closing(open_ledger(ctx.obj)) as ledger:
        hospitals = release(ctx.obj, ledger, study, reason=Reason(by, why))
    typer.echo(f"released, as it came from {', '.join(hospitals)}")


@app.command()
def plan(
    ctx: typer.Context,
    of_province: Annotated[
        bool, typer.Option("--province", help="A province of 48 PB in three years, instead of this lake.")
    ] = False,
    ratio: Annotated[float, typer.Option(help="Bytes before recompression divided by those after.", min=1)] = 1.0,
    years: Annotated[int, typer.Option(help="So many years, from this one.", min=1, max=100)] = 30,
    as_json: Json = False,
) -> None:
    """Bytes and yuan of each year and tier. Of this lake: what it stores today, as it ages and expires.

    Today's prices, one copy, no interest; storage alone, without requests and retrieval.
    """
    settings: Settings = ctx.obj
    schedule, first = load_schedule(), shanghai_day(utc_now()).year
    undated = 0
    if of_province:
        cohorts = province(schedule, first_year=first, n_years=years)
    else:
        lake = existing_lake(settings)
        with closing(Ledger(settings.ledger)) as ledger:
            cohorts, undated = cohorts_of(lake, RetentionRows(ledger).kept())
    rows = cost_curve(cohorts, schedule=schedule, first_year=first, n_years=years, ratio=ratio)
    without = total_yuan(cost_curve(cohorts, schedule=schedule, first_year=first, n_years=years))
    if as_json:
        facts = {"ratio": ratio, "total_yuan": total_yuan(rows), "total_yuan_without_recompression": without}
        facts |= {"undated_bytes": undated, "price_source": schedule.price_source}
        typer.echo(json.dumps(facts | {"rows": [vars(row) for row in rows]}, ensure_ascii=False))
        return
    _show_plan(rows)
    typer.echo(f"{years} years: {total_yuan(rows):,.2f} yuan; without recompression {without:,.2f} yuan")
    if undated:
        typer.echo(f"not in it: {undated:,} bytes of studies without a date, which never expire")
    typer.echo(f"prices: {schedule.price_source}")


@app.command()
def forecast(
    ctx: typer.Context,
    years: Annotated[
        int, typer.Option(help="So many calendar years, from that of the last month.", min=1, max=50)
    ] = 10,
    as_json: Json = False,
) -> None:
    """Bytes that will come and what all of them will cost: growth and season of the whole months in stats.exam_volume.

    What is stored ages and expires by the schedule; what comes is of the classes that are stored today.
    """
    from radlake.retention.forecast import growth_of, with_future

    settings: Settings = ctx.obj
    lake, schedule = existing_lake(settings), load_schedule()
    growth = growth_of(monthly_bytes(lake, before=shanghai_day(utc_now())), n_years=years)
    with closing(Ledger(settings.ledger)) as ledger:
        stored, _ = cohorts_of(lake, RetentionRows(ledger).kept())
    cohorts = with_future(stored, growth.bytes_per_year, usual_share=schedule.province_share)
    rows = cost_curve(cohorts, schedule=schedule, first_year=min(growth.bytes_per_year), n_years=years)
    if as_json:
        told = asdict(growth) | {"rows": [vars(row) for row in rows], "price_source": schedule.price_source}
        typer.echo(json.dumps(told, ensure_ascii=False))
        return
    limits = f"{growth.yearly_low:.1%} to {growth.yearly_high:.1%}"
    typer.echo(f"growth {growth.yearly:.1%} a year ({limits}), {'with' if growth.is_seasonal else 'without'} seasons")
    table = [
        (year, *(f"{one[year] / 1e12:,.2f}" for one in (growth.bytes_per_year, growth.low, growth.high)))
        for year in growth.bytes_per_year
    ]
    show_table(table, header=("year", "comes (TB)", "low", "high"), numbers=(False, True, True, True))
    _show_plan(rows)
    typer.echo(f"{years} years: {total_yuan(rows):,.2f} yuan; prices: {schedule.price_source}")


def _show_plan(rows: list[PlanRow]) -> None:
    tiers = list(dict.fromkeys(row.tier for row in rows))
    table = []
    for year in sorted({row.year for row in rows}):
        mine = {row.tier: row for row in rows if row.year == year}
        table.append(
            [year, *(f"{mine[tier].n_bytes / 1e12:,.3f}" for tier in tiers), f"{total_yuan(mine.values()):,.2f}"]
        )
    header = ("year", *(f"{tier} TB" for tier in tiers), "yuan")
    show_table(table, header=header, numbers=[True] * len(header))


@app.command("expire")
def expire_(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them. Without it nothing is changed.")] = False,
    by: Annotated[str, typer.Option("--by", help="With --yes: who does it, name and role.")] = "",
    why: Annotated[str, typer.Option("--why", help="With --yes: the approval or decision.")] = "",
    as_json: Json = False,
) -> None:
    """Show which studies have expired and why; with --yes remove them, all but the held ones, and leave tombstones.

    It may be stopped and run again. What the store refuses to delete (object lock) is told, and stays open.
    """
    settings: Settings = ctx.obj
    existing_lake(settings)
    if yes and not (by and why):
        raise typer.BadParameter("--yes needs --by and --why: both are entered in the audit trail")
    schedule, today = load_schedule(), shanghai_day(utc_now())
    with closing(open_ledger(settings)) as ledger:
        rows = RetentionRows(ledger)
        due = due_studies(rows.kept(), schedule=schedule, today=today)
        n_open = len(rows.tombstones(only_open=True))
        table = [
            [
                item.study.hospital_id,
                item.study.lake_study_uid,
                item.rule,
                item.retain_until.isoformat(),
                item.study.is_held,
            ]
            for item in due
        ]
        done = None
        if yes:
            done = expire(settings, ledger, schedule=schedule, today=today, reason=Reason(by, why), now=utc_now())
    names = ("hospital_id", "study_instance_uid", "rule", "retain_until", "is_held")
    if as_json:
        answer: dict[str, object] = {"due": [dict(zip(names, row, strict=True)) for row in table], "n_open": n_open}
        if done:
            removed = [item.lake_study_uid for item in done.removed]
            answer |= {"removed": removed, "refused": done.refused, "busy": done.busy}
        typer.echo(json.dumps(answer))
    else:
        show_table(table, header=("hospital", "study", "rule", "retain until", "held"))
        typer.echo(f"{len(due):,} studies have expired, {sum(bool(row[-1]) for row in table):,} of them are held")
        if n_open:
            typer.echo(f"{n_open:,} of an earlier run are about to be removed")
        if done:
            n_bytes = sum(item.n_bytes for item in done.removed)
            typer.echo(
                f"removed {len(done.removed):,} studies, {n_bytes:,} bytes; `radlake tidy` deletes old table files"
            )
        elif due or n_open:
            typer.echo("nothing was changed; --yes removes them")
    for path, reason in (done.refused if done else {}).items():
        typer.echo(f"error: the store keeps {path}: {reason}; run this again when its lock is over", err=True)
    for hospital_id in done.busy if done else ():
        typer.echo(f"{hospital_id} is being harvested by another process; run this again later", err=True)
    if done and (done.refused or done.busy):
        raise typer.Exit(1)
