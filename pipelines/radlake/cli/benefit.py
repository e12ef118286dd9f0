"""`radlake benefit`: what sharing images saves, and what it cannot be shown to save."""

from __future__ import annotations

import json
import re
from datetime import datetime
from fractions import Fraction
from functools import partial
from math import isnan
from typing import Annotated, Any, Literal

import typer

from radlake.cli._answers import show_table
from radlake.cli._lake import existing_lake

app = typer.Typer(no_args_is_help=True, help="Film, repeats, bytes and dose: what is saved, and how sure that is.")

By = Literal["all", "modality", "hospital_level", "hospital_id", "residency"]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
_FIVE_YEARS_DAYS = 1826
_PERIOD = re.compile(r"(\d{4}-(?:0[1-9]|1[0-2]))\.\.(\d{4}-(?:0[1-9]|1[0-2]))")


@app.command()
def paper(
    name: Annotated[str | None, typer.Argument(help="A file of schemas/benefit; else all.")] = None,
    as_json: Json = False,
) -> None:
    """Check the printed figures of publications against their own formulas. Needs no lake."""
    from radlake.stats.benefit.claims import load_claims

    known = load_claims()
    if name is not None and name not in known:
        raise typer.BadParameter(f"there are {', '.join(known)}")
    chosen = [known[name]] if name else list(known.values())
    if as_json:
        typer.echo(json.dumps([_claims_json(claims) for claims in chosen], ensure_ascii=False))
        return
    for claims in chosen:
        typer.echo(f"{claims.title['zh']} · {claims.title['en']}\n{claims.source}")
        rows = [
            (figure.name, figure.printed, "" if place else figure.verdict, reading.formula, _amount(reading.value),
             figure.unit, "fits" if reading.fits else "-")
            for figure in claims.figures
            for place, reading in enumerate(figure.readings)
        ]  # fmt: skip
        header = ("figure", "printed", "verdict", "formula", "gives", "unit", "")
        show_table(rows, header=header, numbers=(False, False, False, False, True))
        for figure in claims.figures:
            if figure.note:
                typer.echo(f"{figure.name}: {figure.note['zh']} {figure.note['en']}")
        flagged = [figure for figure in claims.figures if figure.verdict != "follows"]
        typer.echo(f"{len(flagged)} of {len(claims.figures)} figures do not follow from the formula of the text\n")


def _claims_json(claims) -> dict[str, Any]:
    figures = [
        {
            "name": figure.name,
            "printed": figure.printed,
            "unit": figure.unit,
            "verdict": figure.verdict,
            "note": dict(figure.note),
            "readings": [
                {"formula": reading.formula, "gives": float(reading.value), "fits": reading.fits}
                for reading in figure.readings
            ],
        }
        for figure in claims.figures
    ]
    return {"id": claims.id, "title": dict(claims.title), "source": claims.source, "figures": figures}


def _amount(value: Fraction) -> str:
    return f"{int(value):,}" if value.denominator == 1 else f"{float(value):,.4f}"


@app.command()
def film(
    ctx: typer.Context,
    before: Annotated[str, typer.Option(help="Months before, like 2017-10..2018-09.")],
    after: Annotated[str, typer.Option(help="Months after, like 2018-10..2019-09.")],
    hospital: Annotated[str, typer.Option(help="One hospital; else all.")] = "all",
    modality: Annotated[str, typer.Option(help="One modality group; else all.")] = "all",
    as_json: Json = False,
) -> None:
    """Compare film in two periods: as spent, at the later volume, at the earlier volume. From released numbers."""
    from radlake.stats.benefit.film import film_saving, released_periods

    months = [_months(before), _months(after)]
    periods = released_periods(existing_lake(ctx.obj), months, hospital_id=hospital, modality_group=modality)
    found = film_saving(*periods)
    if as_json:
        shown = {name: vars(period) | _derived(period) for name, period in vars(found).items() if period in periods}
        shown |= {name: fen for name, fen in vars(found).items() if name.endswith("_fen")}
        typer.echo(json.dumps(shown))
        return
    lines = [("months", *(period.n_months for period in periods))]
    lines += [("months withheld, in no sum", *(period.n_withheld for period in periods))]
    lines += [("exams", *(f"{period.n_exams:,}" for period in periods))]
    names = {
        "film_cost_fen": "film for every exam",
        "cloud_cost_fen": "cloud film",
        "printed_cost_fen": "printed",
        "unclaimed_cost_fen": "of that, never fetched",
        "spent_fen": "spent: cloud film and printed",
        "gross_saving_fen": "gross saving at its own volume",
        "net_saving_fen": "net saving at its own volume",
        "spent_per_exam_fen": "spent for each exam",
    }
    lines += [(title, *(_yuan(getattr(period, name)) for period in periods)) for name, title in names.items()]
    show_table(lines, header=("yuan", before, after), numbers=(False, True, True))
    typer.echo(f"saved as spent: {_yuan(found.as_spent_fen)} yuan")
    typer.echo(f"saved at the later volume: {_yuan(found.at_later_volume_fen)} yuan")
    typer.echo(f"saved at the earlier volume: {_yuan(found.at_earlier_volume_fen)} yuan")


def _months(text: str) -> tuple[str, str]:
    found = _PERIOD.fullmatch(text)
    if found is None or found[1] > found[2]:
        raise typer.BadParameter(f"{text!r} is not like 2018-10..2019-09")
    return found[1], found[2]


def _derived(period) -> dict[str, Any]:
    each = period.spent_per_exam_fen
    names = ("spent_fen", "gross_saving_fen", "net_saving_fen")
    return {name: getattr(period, name) for name in names} | {
        "spent_per_exam_fen": None if each is None else float(each)
    }


def _yuan(fen: int | Fraction | None) -> str:
    return "-" if fen is None else f"{float(fen) / 100:,.2f}"


@app.command()
def storage(
    ctx: typer.Context,
    by: Annotated[By, typer.Option(help="What to divide by.")] = "modality",
    as_json: Json = False,
) -> None:
    """Bytes of the stored series objects, measured; TB are 10^12 bytes, TiB 2^40. Months: stats.exam_volume."""
    from radlake.stats.benefit.storage import stored_bytes

    rows = stored_bytes(existing_lake(ctx.obj), by=by)
    if as_json:
        typer.echo(json.dumps([vars(row) | {"bytes_per_study": row.bytes_per_study} for row in rows]))
        return
    table = [
        (row.group, row.n_studies, row.n_objects, f"{row.central_bytes:,}", f"{row.central_bytes / 1e12:,.3f}",
         f"{row.central_bytes / 2**40:,.3f}", f"{row.kept_bytes:,}", f"{row.bytes_per_study / 1e6:,.1f}")
        for row in rows
    ]  # fmt: skip
    header = (by, "studies", "objects", "bytes in our store", "TB", "TiB", "bytes that hospitals keep", "MB per study")
    show_table(table, header=header, numbers=(False, *(True for _ in header[1:])))


Pack = Annotated[str, typer.Option(help="Rule pack, like clinical_v1.")]
Window = Annotated[int, typer.Option(help="Days.")]


@app.command()
def repeats(ctx: typer.Context, pack: Pack = "clinical_v1", window: Window = 30, as_json: Json = False) -> None:
    """What potential repeats cost, by modality: an upper limit of what could be saved. Exact, of the restricted zone.

    Prices are the rows `exam` of ref.price: the one of the body part, else the one of the modality; each that was used
    is told. Repeats without a price are told and cost nothing here.
    """
    from radlake.stats.benefit.repeats import potential_cost

    workers = max(1, ctx.obj.workers or 2)
    rows = potential_cost(existing_lake(ctx.obj), rule_pack=pack, window_days=window, workers=workers)
    if as_json:
        typer.echo(json.dumps([_cost_json(row) for row in rows], ensure_ascii=False))
        return
    table = [(row.modality_group, row.n_potential, row.n_unpriced, _yuan(row.cost_fen)) for row in rows]
    show_table(
        table, header=("modality", "potential repeats", "without price", "yuan"), numbers=(False, True, True, True)
    )
    for row in rows:
        for price, n in row.priced:
            typer.echo(f"{n:,} x {price} = {_yuan(n * price.price_fen)} yuan")
    typer.echo("potential, not saved: see `radlake benefit effect` for what a roll-out changed")


def _cost_json(row) -> dict[str, Any]:
    priced = [
        vars(price)
        | {"valid_from": str(price.valid_from), "valid_to": str(price.valid_to) if price.valid_to else None}
        | {"n_potential": n, "cost_fen": n * price.price_fen}
        for price, n in row.priced
    ]
    return vars(row) | {"priced": priced}


@app.command()
def effect(
    ctx: typer.Context,
    intervention: Annotated[str, typer.Argument(help="intervention_code of ref.roll_out.")],
    pack: Pack = "clinical_v1",
    window: Window = 30,
    as_json: Json = False,
) -> None:
    """What a roll-out changed: potential repeats of 100 exams, against hospitals that had not begun yet.

    Group-time effects (Callaway and Sant'Anna 2021), limits clustered by hospital. Exact, of the restricted zone.
    """
    from radlake.stats.benefit.repeats import causal_repeats

    found = causal_repeats(existing_lake(ctx.obj), intervention=intervention, rule_pack=pack, window_days=window)
    if found is None or found.effect.overall is None:
        typer.echo("nothing can be compared: no hospital began, or fewer than two on one side", err=True)
        raise typer.Exit(1)
    result = found.effect
    if as_json:
        times = {str(time): vars(one) for time, one in result.by_event_time.items()}
        facts = {"overall": vars(found.effect.overall), "by_event_time": times, "parallel_p": result.parallel_p}
        facts |= {"n_cells": result.n_cells, "n_left_out": result.n_left_out, "n_hospitals": found.n_hospitals}
        typer.echo(json.dumps(_without_nan(facts | {"left_out": found.left_out})))
        return
    rows = [(time, f"{one.estimate:+.3f}", f"{one.low:+.3f}", f"{one.high:+.3f}", one.n_hospitals)
            for time, one in result.by_event_time.items()]  # fmt: skip
    show_table(rows, header=("months since it began", "change", "low", "high", "hospitals"), numbers=[True] * 5)
    overall = found.effect.overall
    typer.echo(
        f"overall {overall.estimate:+.3f} ({overall.low:+.3f} to {overall.high:+.3f}) potential repeats of 100 exams"
    )
    typer.echo(f"parallel before it began: p = {result.parallel_p:.3f} (a small p is an objection)")
    typer.echo(f"{found.n_hospitals} hospitals, {found.first_month} to {found.last_month};"
               f" {result.n_left_out} comparisons had fewer than two hospitals on one side")  # fmt: skip
    if found.left_out:
        typer.echo(f"without exams in every month, in no comparison: {', '.join(found.left_out)}")


@app.command()
def reminders(
    ctx: typer.Context,
    until: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Last day that exams are known of.")],
    window: Window = 30,
    as_json: Json = False,
) -> None:
    """What accepted reminders saved: orders given up, if no such exam of the person followed within the window.

    Of core.reminder, by modality; exact. Without reminders there is no answer, which is not zero.
    """
    from radlake.ingest.offsets import date_offsets
    from radlake.stats.benefit.reminders import accepted_reminders

    lake = existing_lake(ctx.obj)
    with date_offsets(ctx.obj) as offsets:
        rows = accepted_reminders(lake, date_offsets=offsets, window_days=window, last_day=until.date())
    if as_json:
        typer.echo(json.dumps(None if rows is None else [vars(row) for row in rows]))
        return
    if rows is None:
        typer.echo("no reminders yet: nothing can be said of what they would save, which is not zero")
        return
    table = [
        (row.modality_group, row.n_shown, row.n_accepted, row.n_open, row.n_done_anyway, row.n_avoided, row.n_unpriced,
         _yuan(row.cost_fen))
        for row in rows
    ]  # fmt: skip
    header = ("modality", "shown", "accepted", "still open", "done anyway", "avoided", "without price", "yuan")
    show_table(table, header=header, numbers=(False, *(True for _ in header[1:])))


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: what cannot be told is null."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    return None if isinstance(value, float) and isnan(value) else value


dose_app = typer.Typer(no_args_is_help=True, help="Dose reports: read them, and see doses beside reference levels.")
app.add_typer(dose_app, name="dose")


@dose_app.command("read")
def dose_read(
    ctx: typer.Context,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Ask hospitals that keep their pixels for reports too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read the dose reports (RDSR) that are stored and were not read yet; `radlake build` computes with them."""
    from radlake.ingest.dose import read_dose_reports
    from radlake.lake.reading import read_object
    from radlake.residency import SeriesReader

    lake = existing_lake(ctx.obj)
    read = SeriesReader(ctx.obj).read if fetch else partial(read_object, lake)
    found = read_dose_reports(lake, read=read)
    if as_json:
        typer.echo(json.dumps(vars(found)))
        return
    typer.echo(f"{found.n_reports:,} reports read, {found.n_events:,} irradiation events in them")
    if found.n_problems:
        typer.echo(f"{found.n_problems:,} of them hold a problem: see dose.report")
    if found.n_unreachable:
        typer.echo(f"{found.n_unreachable:,} are kept by their hospitals; --fetch asks for them")


@dose_app.command("show")
def dose_show(
    ctx: typer.Context,
    year: Annotated[str | None, typer.Option(help="One calendar year; else all.")] = None,
    hospital: Annotated[str, typer.Option(help="One hospital; else all together.")] = "all",
    as_json: Json = False,
) -> None:
    """Medians of adult exams beside national reference levels, by modality and body part. From released numbers."""
    from radlake.lake import duck

    names = (
        "exam_year, modality_group, body_part_code, n_reported, ctdi_vol_median_mgy, ctdi_vol_drl_mgy,"
        " dlp_median_mgy_cm, dlp_p75_mgy_cm, dlp_drl_mgy_cm, is_above_drl, is_drl_verified, dap_median_gy_m2,"
        " agd_median_mgy, effective_dose_median_msv, is_masked"
    )
    with duck.connect(existing_lake(ctx.obj), tables=["stats.dose"]) as connection:
        found = connection.sql(
            f"SELECT {names} FROM stats.dose WHERE hospital_id = $hospital AND exam_year = coalesce($year, exam_year)"
            " ORDER BY exam_year, modality_group, body_part_code",
            params={"hospital": hospital, "year": year},
        ).to_arrow_table()
    if as_json:
        typer.echo(json.dumps(found.to_pylist()))
        return
    rows = [["*" if cell is None and row["is_masked"] else "" if cell is None else cell for cell in row.values()]
            for row in found.to_pylist()]  # fmt: skip
    show_table(rows, header=found.column_names)
    if any(row["is_drl_verified"] is False for row in found.to_pylist()):
        typer.echo("reference levels are not verified against the text of the standard: see ref.drl")


@dose_app.command("cumulative")
def dose_cumulative(ctx: typer.Context, as_json: Json = False) -> None:
    """Adults whose effective dose of 5 years reaches 100 mSv, by year and age. From released numbers.

    The range is by the ends of published values; the limits (Wilson) are of the share that the rounded counts give.
    """
    from radlake.lake import duck
    from radlake.stats.duplicates.shares import Share

    with duck.connect(existing_lake(ctx.obj), tables=["stats.cumulative_dose"]) as connection:
        found = connection.sql(
            "SELECT * EXCLUDE (effective_dose_msv, is_masked) FROM stats.cumulative_dose ORDER BY exam_year, age_group"
        ).to_arrow_table()
    rows = [row | {"reached": Share.of_counts(row["n_reached"], row["n_persons"])} for row in found.to_pylist()]
    if as_json:
        told = [row | {"reached": _share_json(row["reached"])} for row in rows]
        typer.echo(json.dumps(told))
        return
    show_table([["" if cell is None else str(cell) for cell in row.values()] for row in rows], header=list(rows[0]) if rows else [])  # fmt: skip  # noqa: E501
    if any(row["n_lookback_days"] < _FIVE_YEARS_DAYS for row in rows):
        typer.echo("years with fewer than 1,826 days to look back on do not know the dose of before: too low")
    typer.echo("estimates for groups of adults, not the dose of a person; exams without an estimate are in no dose")


def _share_json(share: Any) -> dict[str, Any]:
    limits = share.limits
    return {"share": share.share, "low": limits.low if limits else None, "high": limits.high if limits else None}


@dose_app.command("repeats")
def dose_repeats(
    ctx: typer.Context,
    year: Annotated[str, typer.Option(help="One calendar year; else all together.")] = "all",
    as_json: Json = False,
) -> None:
    """Dose of repeats that nothing on record excuses, by modality and body part: an upper limit. From released numbers.

    Doses from reports, typical values (with their source and range) and unknown doses are in rows of their own.
    """
    from radlake.lake import duck

    with duck.connect(existing_lake(ctx.obj), tables=["stats.repeat_dose"]) as connection:
        found = connection.sql(
            "SELECT * EXCLUDE (exam_year) FROM stats.repeat_dose WHERE exam_year = $year"
            " AND (modality_group = 'all') = (body_part_code = 'all')"
            " ORDER BY modality_group, body_part_code, dose_basis",
            params={"year": year},
        ).to_arrow_table()
    if as_json:
        typer.echo(json.dumps(found.to_pylist()))
        return
    rows = [["*" if cell is None and row["is_masked"] else "" if cell is None else cell for cell in row.values()]
            for row in found.to_pylist()]  # fmt: skip
    show_table(rows, header=found.column_names)
    typer.echo("potential, not saved: nobody knows which of these repeats a reminder would have stopped")
