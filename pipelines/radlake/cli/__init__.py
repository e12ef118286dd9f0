"""The command line: one module per verb, imported only when its verb is called."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import click
import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from radlake import log
from radlake.config import Settings
from radlake.errors import RadlakeError

# verb -> one line of help. The module radlake.cli.<verb> has `app`, a typer.Typer.
VERBS = {
    "init": "Create a lake: its restricted zone and root key",
    "node": "List hospital nodes and test their connection",
    "harvest": "Fetch studies from a hospital node or a folder into the lake",
    "quarantine": "See what was set aside and why, and replay it",
    "profile": "Read the de-identification profile that an ethics board signed",
    "build": "Compute core and stats tables from the harvested metadata",
    "ref": "Load reference tables: population, prices, film ledger",
    "sql": "Ask the lake a question in SQL",
    "serve": "Show the numbers in a browser",
    "demo": "Three hospitals, harvested to a number on a screen",
    "airflow": "Start Airflow locally with the DAGs of this repository",
    "check": "Type-check every SQL query against empty tables of the contracts",
}


class _LazyVerbs(TyperGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"radlake.cli.{cmd_name}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        command.help = command.help or VERBS[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


app = typer.Typer(
    cls=_LazyVerbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    ctx: typer.Context,
    lake: Annotated[str | None, typer.Option(help="Folder or s3:// URL of the lake (RADLAKE_LAKE).")] = None,
    hospitals: Annotated[str | None, typer.Option(help="YAML of hospitals and nodes (RADLAKE_HOSPITALS).")] = None,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Log more; -vv logs all.")] = 0,
) -> None:
    """radlake: hospital images harvested, de-identified, stored, counted."""
    log.configure(level=("warning", "info", "debug")[min(verbose, 2)])
    given = {"lake": lake, "hospitals": hospitals}
    if not any(flag in sys.argv for flag in ("--help", "-h")):
        ctx.obj = Settings(**{key: value for key, value in given.items() if value is not None})  # pyright: ignore[reportArgumentType]


def main() -> None:
    """Entry point: our own errors are told in their sentence, without a traceback."""
    try:
        app(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except ValidationError as exc:
        for problem in exc.errors():
            name = "RADLAKE_" + "_".join(str(part) for part in problem["loc"]).upper()
            click.echo(f"error: setting {name}: {problem['msg']}", err=True)
        sys.exit(2)
    except RadlakeError as exc:
        click.echo(f"error: {exc}", err=True)
        sys.exit(1)
