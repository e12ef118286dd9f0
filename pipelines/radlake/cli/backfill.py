"""`radlake backfill`: an archive of years, planned, fetched window by window, paused and watched."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from radlake.backfill import (
    BackfillResult,
    Ending,
    HospitalPlan,
    PlanRows,
    harvest_rates,
    keep_plan,
    measured_sizes,
    plan_hospital,
    run_backfill,
    status_of,
)
from radlake.backfill.coverage import publish_coverage
from radlake.cli._backfill import show_plans, show_results, show_status
from radlake.cli._lake import existing_lake
from radlake.cli._progress import Bars
from radlake.cli._stop import stopping
from radlake.cli.hospitals import Hospitals, chosen_hospitals
from radlake.config import Settings
from radlake.errors import RadlakeError
from radlake.harvest.courtesy.week import Slot, Week, week_of
from radlake.ingest.workers import workers
from radlake.lake.ledger import Ledger
from radlake.machine import utc_now
from radlake.net import DimseNode, Hospital, WebNode, Window, load_hospitals
from radlake.vault.lake_key import open_ledger

app = typer.Typer(help="Plan and fetch an archive of years, beside the live harvest.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]

_ASKED_AT_ONCE = 8
_REST_SECONDS = 60.0  # between two looks at a node that is left in peace


@app.command()
def plan(
    ctx: typer.Context,
    since: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First study date.")],
    until: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last study date.")],
    hospitals: Hospitals = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell; the plan is not kept.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask what the nodes have of a range of study dates, compare with the lake, estimate, and keep the plan.

    Only lists of studies are asked for, nothing is fetched. Planning again replaces the plan of the same dates.
    """
    settings: Settings = ctx.obj
    lake = existing_lake(settings)
    if until < since:
        raise typer.BadParameter(f"--from {since.date()} is after --to {until.date()}")
    window = Window(since.date(), until.date())
    chosen = _askable(chosen_hospitals(settings, hospitals))
    sizes, harvests = measured_sizes(lake), harvest_rates(lake)
    plans: list[HospitalPlan] = []
    errors: dict[str, RadlakeError] = {}
    ledger = Ledger(settings.ledger) if dry_run else open_ledger(settings)
    with closing(ledger), ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:

        def ask(hospital: Hospital) -> HospitalPlan:
            return plan_hospital(
                settings, hospital, window=window, ledger=ledger, sizes=sizes, harvests=harvests, now=utc_now()
            )

        running = {threads.submit(ask, hospital): hospital.hospital_id for hospital in chosen}
        for future in as_completed(running):
            try:
                made = future.result()
            except RadlakeError as exc:  # the others are planned
                errors[running[future]] = exc
                continue
            plans.append(made)
            if not dry_run:
                keep_plan(made, ledger=ledger, now=utc_now())
                publish_coverage(lake, ledger, made.hospital_id, now=utc_now())
    plans.sort(key=lambda made: made.hospital_id)
    if as_json:
        failed = {name: {"error": str(exc), "error_class": type(exc).__name__} for name, exc in errors.items()}
        document = {"is_kept": not dry_run, "hospitals": [made.to_json() for made in plans], "not_asked": failed}
        _print_json(document)
    else:
        show_plans(plans, is_kept=not dry_run)
    for name, exc in sorted(errors.items()):
        typer.echo(f"error: {name} was not planned, which is not the same as no studies: {exc}", err=True)
    if errors:
        raise typer.Exit(1)


@app.command()
def run(
    ctx: typer.Context,
    hospitals: Hospitals = None,
    newest_first: Annotated[
        bool,
        typer.Option(
            "--newest-first/--oldest-first", help="Recent studies are asked for first by clinicians and statistics."
        ),
    ] = True,
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=64, help="Hospitals at the same time.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Fetch what is planned and missing, window by window; run it again after any end, it goes on at the study.

    A live harvest of the same hospital goes first: the backfill makes way after the current study and goes on later.
    """
    settings: Settings = ctx.obj
    existing_lake(settings)
    with _ledger(settings) as ledger:
        planned = set(PlanRows(ledger).planned_hospitals())
    chosen = [hospital for hospital in chosen_hospitals(settings, hospitals) if hospital.hospital_id in planned]
    if not chosen:
        _refuse_unplanned(planned)
    with (
        stopping() as told,
        Bars(Console(stderr=True)) as bars,
        workers(settings) as executor,
        ThreadPoolExecutor(at_once) as threads,
    ):

        def work(hospital: Hospital) -> BackfillResult:
            try:
                while True:
                    result = run_backfill(
                        settings,
                        hospital,
                        newest_first=newest_first,
                        should_stop=told.is_set,
                        executor=executor,
                        progress=bars,
                    )
                    if result.ending is not Ending.AT_REST or told.wait(_REST_SECONDS):
                        return result
            except RadlakeError as exc:  # the other hospitals go on
                return BackfillResult(hospital.hospital_id, Ending.FAILED, cause=exc)

        results = list(threads.map(work, chosen))
        if as_json:
            _print_json({"hospitals": [result.to_json() for result in results]})
        else:
            show_results(results)
    if any(result.ending is Ending.FAILED or (result.ending is Ending.DONE and result.n_open) for result in results):
        raise typer.Exit(1)


@app.command()
def status(
    ctx: typer.Context,
    hospitals: Hospitals = None,
    days: Annotated[bool, typer.Option("--days", help="Show each day, not each month.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tell how far the plan is, how long it still takes, what keeps studies from being complete, and the coverage.

    As JSON the coverage is one sum for each hospital; with --days also that of each day that has studies.
    """
    settings: Settings = ctx.obj
    lake = existing_lake(settings)
    with _ledger(settings) as ledger:
        names = _planned(settings, PlanRows(ledger), hospitals)
        harvests = harvest_rates(lake)
        registered = load_hospitals(settings.hospitals)
        found = [
            status_of(name, ledger=ledger, harvests=harvests, week=_week(registered.get(name)), now=utc_now())
            for name in names
        ]
    if as_json:
        shown = [one.to_json() | ({"days": one.days_to_json()} if days else {}) for one in found]
        _print_json({"hospitals": shown})
    else:
        show_status(found, days=days)


@app.command()
def pause(ctx: typer.Context, hospitals: Hospitals = None) -> None:
    """Let a backfill rest after its current study, also after a restart, until it is resumed."""
    _for_each(ctx.obj, hospitals, lambda rows, name: rows.pause(name, now=utc_now()), "paused; `resume` lets it go on")


@app.command()
def resume(ctx: typer.Context, hospitals: Hospitals = None) -> None:
    """Let a paused backfill go on with the next `radlake backfill run`."""
    _for_each(ctx.obj, hospitals, lambda rows, name: rows.resume(name), "may go on with `radlake backfill run`")


def _for_each(settings: Settings, hospitals: list[str] | None, act: Callable[[PlanRows, str], None], told: str) -> None:
    existing_lake(settings)
    with _ledger(settings) as ledger:
        rows = PlanRows(ledger)
        for name in _planned(settings, rows, hospitals):
            act(rows, name)
            typer.echo(f"{name}: {told}")


@contextmanager
def _ledger(settings: Settings) -> Iterator[Ledger]:
    settings.prepare_restricted()
    with closing(Ledger(settings.ledger)) as ledger:
        yield ledger


def _planned(settings: Settings, rows: PlanRows, hospitals: list[str] | None) -> list[str]:
    """The named hospitals, or all that are planned: also one that is not registered any more."""
    if hospitals:
        return [hospital.hospital_id for hospital in chosen_hospitals(settings, hospitals)]
    return rows.planned_hospitals() or _refuse_unplanned()


def _refuse_unplanned(planned: Collection[str] = ()) -> NoReturn:
    """What to do when none of the hospitals that are meant has a plan; `planned` are those that have."""
    others = f" of these hospitals, only of {', '.join(sorted(planned)[:3])}" if planned else ""
    typer.echo(f"nothing is planned{others}; begin with `radlake backfill plan --from DAY --to DAY`", err=True)
    raise typer.Exit(1)


def _print_json(document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))


def _week(hospital: Hospital | None) -> Week:
    """The calendar of a hospital's node; no limit for one that is not registered any more."""
    if hospital is not None and isinstance(hospital.node, (DimseNode, WebNode)):
        return week_of(hospital.node)
    return Week((Slot(1),) * 168)


def _askable(hospitals: Sequence[Hospital]) -> list[Hospital]:
    askable = [hospital for hospital in hospitals if isinstance(hospital.node, (DimseNode, WebNode))]
    for hospital in hospitals:
        if hospital not in askable:
            typer.echo(f"note: {hospital.hospital_id} is a {hospital.node.kind}: it cannot be asked by date", err=True)
    return askable
