"""`radlake tidy`: the lake's upkeep, for every night."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import Annotated

import typer

from radlake.cli import _answers
from radlake.cli._lake import existing_lake
from radlake.lake.ledger import Ledger
from radlake.lake.tables import LONGEST_BATCH
from radlake.lake.upkeep import tidy as tidy_lake

app = typer.Typer()


@app.command()
def tidy(
    ctx: typer.Context,
    keep_days: Annotated[
        int,
        typer.Option(
            help="Keep files that were replaced within these days; 0 erases at once what was opted out.", min=0
        ),
    ] = LONGEST_BATCH.days,
) -> None:
    """Make few large files of many small ones, and delete files that no version in use and no pin needs.

    Series objects go with the last row that named them: those that were recompressed, those of who opted out.

    It may run while others write and read. A reader that has been open for longer than --keep-days loses its files.
    """
    lake = existing_lake(ctx.obj)
    with closing(Ledger(ctx.obj.ledger)) as ledger:
        done = tidy_lake(lake, ledger=ledger, retention=timedelta(days=keep_days))
    if not done:
        typer.echo("nothing to tidy")
        return
    _answers.show_table(
        [(item.zone, item.table, item.n_months, item.n_files) for item in done],
        header=("zone", "table", "months laid out anew", "files deleted"),
        numbers=(False, False, True, True),
    )
