"""`radlake status`: how the harvest of all hospitals is, in one screen."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from radlake.cli._lake import existing_lake
from radlake.cli._status import Status, read_status
from radlake.cli.hospitals import registered_hospitals
from radlake.cli.tables import human_bytes, wide_console
from radlake.config import Settings
from radlake.lake.ledger import Ledger
from radlake.machine import utc_now

app = typer.Typer(help="See how the harvest of all hospitals is.")

_NAMED = 8  # hospitals that a line names
_LITTLE_DISK = 0.1


@app.command()
def status(
    ctx: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and look again until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Write it as JSON; with --watch a line each time.")] = False,
) -> None:
    """Show hospitals by how their last run went, studies under way, what the last hour brought, backlog, quarantine,
    backfill, lag, silent hospitals, certificates and the disk.

    It only reads. docs/how-to/watch.md says what to do about each line.
    """
    settings: Settings = ctx.obj
    lake = existing_lake(settings)
    registered = registered_hospitals(settings)
    with closing(Ledger(settings.ledger)) as ledger:

        def look() -> Status:
            return read_status(settings, lake, ledger, registered=registered, now=utc_now())

        def document(indent: int | None) -> str:
            return json.dumps(look().to_json(), ensure_ascii=False, default=str, indent=indent)

        if not watch:
            if as_json:
                typer.echo(document(2))
            else:
                wide_console().print(shown(look()))
            return
        try:
            while as_json:
                typer.echo(document(None))
                time.sleep(every)
            with Live(shown(look()), console=Console(), auto_refresh=False, screen=True) as live:
                while True:
                    time.sleep(every)
                    live.update(shown(look()), refresh=True)
        except KeyboardInterrupt:
            return


def shown(found: Status) -> Group:
    """The screen; what a person should look at is red."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text, is_bad in _lines(found):
        table.add_row(name, Text(text, style="red" if is_bad else ""))
    return Group(Text(f"{found.at:%Y-%m-%d %H:%M:%S} UTC", style="dim"), table)


def _lines(found: Status) -> Iterator[tuple[str, str, bool]]:
    """Name, text, and whether a person should look at it."""
    hour, lag, plan = found.last_hour, found.lag, found.backfill
    yield "hospitals", _counts(found.hospitals), False
    if found.failed:
        yield "failed", _named({f"{name} {error}": 0 for name, error in found.failed.items()}), True
    if found.breakers:
        yield "nodes at rest", _named({f"{name} {phase}": 0 for name, phase in found.breakers.items()}), True
    yield "studies", _counts(found.studies), False
    yield "under way", f"{sum(found.under_way.values()):,} studies; {_named(found.under_way)}".rstrip("; "), False
    if found.n_left_behind:
        yield "left behind", f"{found.n_left_behind:,} studies of runs that ended early; the next run has them", False
    yield "backlog", f"{found.backlog:,} studies", False
    yield (
        "last hour",
        f"{hour.n_runs:,} runs ended ({hour.n_failed:,} with an error): {hour.n_studies:,} studies complete, "
        f"{hour.n_instances:,} instances, {human_bytes(hour.stored_bytes)}",
        hour.n_failed > 0,
    )
    yield "quarantine", _counts(found.quarantine) or "empty", False
    if plan.n_windows:
        yield (
            "backfill",
            f"{plan.n_windows_done:,} of {plan.n_windows:,} windows, {plan.n_studies_done:,} of {plan.n_studies:,} "
            f"studies, of {plan.n_hospitals:,} hospitals ({plan.n_paused:,} paused, {plan.n_windows_troubled:,} "
            f"windows in trouble); since the last full hour {plan.studies_last_hour:,} studies, "
            f"{human_bytes(plan.bytes_last_hour)}",
            plan.n_windows_troubled > 0,
        )
    if lag.published_at is None:
        yield "lag", "not published: radlake board --publish", False
    else:
        hours = "" if lag.median_p95_hours is None else f"p95 {lag.median_p95_hours:.1f} h (median of hospitals), "
        worst = f"{lag.worst_p95_hours:.1f} h at {lag.worst_hospital}, " if lag.worst_hospital else ""
        yield (
            "lag",
            f"{hours}{worst}{lag.n_late:,} studies over 12 h; published {lag.published_at:%m-%d %H:%M}",
            lag.n_late > 0,
        )
        yield "dark", _named(dict.fromkeys(lag.dark, 0)) or "none", bool(lag.dark)
    certified = "none: radlake ledger certify"
    if found.certified_day:
        differ = f", {found.n_disagreeing:,} of them with differences" if found.n_disagreeing else ""
        certified = f"{found.certified_day}, {found.n_certified:,} hospitals{differ}"
    yield "certificates", certified, found.n_disagreeing > 0
    share = found.free_bytes / found.disk_bytes
    yield "restricted disk", f"{human_bytes(found.free_bytes)} free ({share:.0%})", share < _LITTLE_DISK


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in counts.items() if n)


def _named(names: Mapping[str, int]) -> str:
    """The first of them, those with most first, and how many more there are."""
    ordered = sorted(names, key=lambda name: (-names[name], name))
    told = [f"{name} ({names[name]:,})" if names[name] else name for name in ordered[:_NAMED]]
    more = len(names) - len(told)
    return ", ".join(told) + (f" and {more:,} more" if more else "")
