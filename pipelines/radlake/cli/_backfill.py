"""What `radlake backfill` shows: plans, what a run did, and how far each hospital is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import typer

from radlake.backfill import BackfillResult, HospitalPlan, HospitalStatus
from radlake.cli._heatmap import LEGEND, heatmap_of_days, heatmap_of_months
from radlake.cli.tables import human_bytes, plain_table, wide_console

__all__ = ["show_plans", "show_results", "show_status"]

_PLAN = ("hospital", "windows", "studies", "to fetch", "instances", "about", "hours", "without a date")
_RESULT = ("hospital", "windows", "studies", "bytes", "still open", "ending")
_STATUS = ("hospital", "windows", "studies", "complete", "open", "stored", "to come", "rate", "ends", "state")
_NUMBERS = slice(1, None)


def show_plans(plans: Sequence[HospitalPlan], *, is_kept: bool) -> None:
    console = wide_console()
    table = plain_table(*_PLAN, numbers=_NUMBERS)
    for made in plans:
        hours = "unknown" if made.seconds is None else f"{made.seconds / 3600:.1f}"
        bytes_to_fetch = human_bytes(made.total("open_bytes"))
        counts = (len(made.windows), *map(made.total, ("n_studies", "n_open", "n_instances")))
        table.add_row(
            made.hospital_id, *(f"{n:,}" for n in counts), bytes_to_fetch, hours, f"{made.undated.n_studies:,}"
        )
    if plans:
        console.print(table)
    for made in plans:
        for line in _notes(made):
            console.print(f"{made.hospital_id}: {line}", markup=False)
    if plans:
        kept = "the plan is kept; `radlake backfill run` fetches it"
        console.print(kept if is_kept else "a dry run: nothing is kept")


def _notes(made: HospitalPlan) -> Iterator[str]:
    if made.total("n_studies") == 0:
        window = made.window
        yield f"0 studies: the node lists none between {window.start} and {window.end}, and it is reachable"
    else:
        words = {"unknown": "not listed before"}
        states = ", ".join(f"{n:,} {words.get(state, state)}" for state, n in sorted(made.states.items()))
        yield f"in the ledger: {states}; bytes are estimated by {made.size_source}"
        yield (
            f"hours by {made.rate.source}" if made.rate else "hours are unknown: nothing was fetched from any node yet"
        )
    if made.n_without_count:
        yield f"{made.n_without_count:,} studies without a number of instances: the node does not tell it"
    if made.survey.list_limit:
        yield f"the node cuts its lists at {made.survey.list_limit:,}; it was asked in parts"
    for window in made.survey.doubtful:
        yield f"uncertain: {window.start} to {window.end} may have more studies than the node lists"
    if made.survey.undated_trouble:
        yield f"uncertain: there may be more studies without a date: {made.survey.undated_trouble}"


def show_results(results: Sequence[BackfillResult]) -> None:
    table = plain_table(*_RESULT, numbers=_NUMBERS)
    for result in results:
        counts = (f"{result.n_windows:,}", f"{result.n_studies:,}", human_bytes(result.stored_bytes))
        n_open = "" if result.n_open is None else f"{result.n_open:,}"
        table.add_row(result.hospital_id, *counts, n_open, result.ending.value)
    wide_console().print(table)
    for result in results:
        if result.error:
            typer.echo(f"error: {result.hospital_id}: {result.error}", err=True)


def show_status(found: Sequence[HospitalStatus], *, days: bool) -> None:
    console = wide_console()
    table = plain_table(*_STATUS, numbers=_NUMBERS)
    for one in found:
        rate = (
            f"{one.rate.studies_per_second * 3600:,.0f}/h {human_bytes(one.rate.bytes_per_second)}/s"
            if one.rate
            else ""
        )
        ends = f"{one.eta:%Y-%m-%d %H:%M} UTC" if one.eta else ("" if one.n_open else "done")
        state = "paused" if one.is_paused else "running" if one.is_running else "idle"
        counts = (
            f"{one.n_windows_done:,}/{one.n_windows:,}",
            *(f"{n:,}" for n in (one.n_studies, one.n_complete, one.n_open)),
        )
        sizes = (human_bytes(one.stored_bytes), human_bytes(one.open_bytes))
        table.add_row(one.hospital_id, *counts, *sizes, rate, ends, state)
    console.print(table)
    problems = plain_table("hospital", "problem", "n", "what to do next")
    for one in found:
        for problem in one.problems:
            problems.add_row(one.hospital_id, problem.reason, f"{problem.n:,}", problem.next_step)
    if problems.rows:
        console.print("")
        console.print(problems)
    console.print("")
    coverage = {one.hospital_id: one.coverage for one in found}
    lines = heatmap_of_days(coverage) if days else heatmap_of_months(coverage, width=console.width)
    for line in lines:
        console.print(line, no_wrap=True, crop=False)
    console.print(LEGEND, style="dim")
