"""How far a pull is: one bar for everything, lines where there is no terminal; and what it came to."""

from __future__ import annotations

import json
from pathlib import Path
from time import monotonic

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from radlake.cli.tables import plain_table
from radlake.cohort.pull import RETRY, Pulled, Release, Step

__all__ = ["PullBar", "show_pulled"]

_SECONDS_BETWEEN_LINES = 10.0
_SHOWN = 20


class PullBar:
    """Series, bytes, rate and time left of a whole pull."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.fields[series]}"),
            BarColumn(),
            DownloadColumn(binary_units=False),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bars.add_task(title, total=None, series="")
        self._told_at, self._tenth = 0.0, -1

    def __enter__(self) -> PullBar:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, step: Step) -> None:
        series = f"{step.n_series:,} of {step.n_series_total:,} series"
        if self._console.is_terminal:
            self._bars.update(self._task, completed=step.n_bytes, total=step.n_bytes_total, series=series)
            return
        tenth, now = 10 * step.n_bytes // max(1, step.n_bytes_total), monotonic()
        if tenth != self._tenth or now - self._told_at > _SECONDS_BETWEEN_LINES:
            self._tenth, self._told_at = tenth, now
            line = f"{series}, {step.n_bytes:,} of {step.n_bytes_total:,} bytes"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def show_pulled(pulled: Pulled, folder: Path, release: Release, *, as_json: bool) -> None:
    """The final table; what failed, why, and how to go on."""
    n_failed, n_left = len(pulled.failed), pulled.n_left - len(pulled.failed)
    if as_json:
        told = {
            "downloaded": vars(pulled.downloaded),
            "skipped": vars(pulled.skipped),
            "failed": pulled.failed,
            "left": n_left,
            "ended_by": str(pulled.ended_by or ""),
            "strays": [str(path) for path in pulled.strays],
        }
        typer.echo(json.dumps(told, ensure_ascii=False))
        return
    console = Console()
    table = plain_table("", "series", "bytes")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, count in (("downloaded", pulled.downloaded), ("skipped (here already)", pulled.skipped)):
        table.add_row(name, f"{count.n_series:,}", f"{count.n_bytes:,}")
    table.add_row("failed", f"{n_failed:,}", "")
    if n_left:
        table.add_row("not tried", f"{n_left:,}", "")
    console.print(table)
    for uid, reason in sorted(pulled.failed.items())[:_SHOWN]:
        typer.echo(f"failed {uid}: {reason}", err=True)
    if n_failed > _SHOWN:
        typer.echo(f"and {n_failed - _SHOWN:,} more", err=True)
    if pulled.ended_by is not None:
        typer.echo(f"error: {pulled.ended_by}", err=True)
    if n_strays := len(pulled.strays):
        typer.echo(
            f"{n_strays:,} of the folder are not in the release (any more): of who was withdrawn. Delete:", err=True
        )
        for path in pulled.strays[:_SHOWN]:
            typer.echo(f"  {path}", err=True)
        if n_strays > _SHOWN:
            typer.echo(f"and {n_strays - _SHOWN:,} more, which --json tells", err=True)
    if not pulled.is_complete:
        typer.echo(f"To go on: the same command, or radlake cohort pull {folder / RETRY} {folder}", err=True)
        return
    approval = release.document["approval"]
    typer.echo(f"{folder} holds {release.release_id}, for {approval['purpose']}, until {approval['expires_on']}")
    typer.echo(f"under {approval['licence']}; questions: {release.contact}")
