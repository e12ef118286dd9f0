"""`radlake board`: how far behind each hospital is, and which one fell silent."""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from radlake.cli._lake import existing_lake
from radlake.cli.hospitals import registered_hospitals
from radlake.cli.tables import plain_table, wide_console
from radlake.config import Settings
from radlake.harvest.board import HISTORY_DAYS, Board
from radlake.harvest.courtesy import NodeState, allowed, load_states, week_of
from radlake.ingest.ops import boards_of, publish_lag
from radlake.lake.ledger import Ledger
from radlake.machine import utc_now
from radlake.net import DimseNode, Hospital, WebNode

app = typer.Typer(help="See how far behind each hospital is, and which one fell silent.")

_HEADERS = ("studies", "waiting", "late", "in 12 h", "oldest", "p50 h", "p95 h", "p99 h", "p100 h", "yesterday",
            "expected", "chance", "clock", "node now")  # fmt: skip


@app.command()
def board(
    ctx: typer.Context,
    days: Annotated[int, typer.Option(min=1, max=HISTORY_DAYS, help="Studies made in so many days are looked at.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Write it as JSON.")] = False,
    publish: Annotated[bool, typer.Option("--publish", help="Also put it into the lake, as ops.lag.")] = False,
) -> None:
    """Show the lag of each hospital: hours from the exam until the study is complete on the platform.

    A study that waits counts with its age. `chance` is the probability that a hospital sends so few studies as it did
    yesterday, by the mean of the same weekday before; below 0.001 it is called dark.
    """
    settings: Settings = ctx.obj
    lake, now = existing_lake(settings), utc_now()
    registered = registered_hospitals(settings)
    with closing(Ledger(settings.ledger)) as ledger:
        boards = boards_of(ledger, registered, now=now, days=days)
        states = load_states(ledger)
    if publish:
        publish_lag(lake, boards, now=now)
    notes = {name: _node_note(hospital, states.get(name, NodeState())) for name, hospital in registered.items()}
    if as_json:
        document = [asdict(line) | {"node": notes.get(line.hospital_id, "")} for line in boards]
        typer.echo(json.dumps(document, ensure_ascii=False, indent=2))
        return
    table = plain_table("hospital", *_HEADERS, numbers=slice(1, -2))
    for line in boards:
        table.add_row(line.hospital_id, *_cells(line), notes.get(line.hospital_id, ""))
    wide_console().print(table)


def _cells(line: Board) -> list[str]:
    hours = (line.oldest_waiting_hours, line.p50_hours, line.p95_hours, line.p99_hours, line.p100_hours)
    chance = "" if line.dark_probability is None else f"{line.dark_probability:.2g}"
    clock = f"{line.n_future:,} in the future, {line.skew_minutes:,.0f} min" if line.n_future else ""
    return [
        f"{line.n_studies:,}",
        f"{line.n_waiting:,}",
        f"{line.n_late:,}",
        "" if line.in_time_share is None else f"{line.in_time_share:.1%}",
        *("" if value is None else f"{value:.1f}" for value in hours),
        f"{line.seen_studies:,}",
        "" if line.expected_studies is None else f"{line.expected_studies:.1f}",
        f"{chance} dark" if line.is_dark else chance,
        clock,
    ]


def _node_note(hospital: Hospital, state: NodeState) -> str:
    """What the node allows now."""
    if not isinstance(hospital.node, (DimseNode, WebNode)):
        return ""
    may = allowed(state, week_of(hospital.node), now=time.time())
    if not may.places:
        return f"rests until {datetime.fromtimestamp(may.from_, UTC):%m-%d %H:%M} UTC: {may.why}"
    return f"{may.load:.2g} at once" + (f", slowed to {state.throttle.share:.0%}" if state.throttle.share < 1 else "")
