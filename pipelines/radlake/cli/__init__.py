"""The command line: one module per verb, imported only when its verb is called."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import typer
from pydantic import ValidationError

from radlake import log
from radlake.config import Settings, StoreSettings
from radlake.errors import ConfigInvalid, RadlakeError

# verb -> one line of help. The module radlake.cli.<verb> has `app`, a typer.Typer.
VERBS = {
    "demo": "Three hospitals, harvested to a number on a screen",
    "init": "Create a lake: its restricted zone and root key",
    "node": "List hospital nodes and test their connection",
    "harvest": "Fetch studies from a hospital node or a folder into the lake",
    "backfill": "Plan and fetch an archive of years, beside the live harvest",
    "receive": "Take what hospitals push, by C-STORE or STOW-RS",
    "status": "See how the harvest of all hospitals is, in one screen",
    "board": "See how far behind each hospital is, and which one fell silent",
    "ledger": "Certify what is complete, and verify that nobody changed it",
    "quarantine": "See what was set aside and why, and replay it",
    "review": "Judge pictures in quarantine: accept, mask or reject",
    "deid": "Judge what was de-identified, by radlake or by any other tool",
    "profile": "Read the de-identification profile that an ethics board signed",
    "vocab": "See how descriptions of examinations are read, and what no rule can read",
    "ref": "Load reference tables: population, prices, film ledger",
    "build": "Compute core and stats tables from the harvested metadata",
    "findings": "Code findings from the report texts that hospitals deliver",
    "measure": "Define rates of exams or persons as files, check, count and release them",
    "cohort": "Define cohorts as files, build, release, pull and export them",
    "duplicates": "Build and show the statistics of repeated exams",
    "why": "See why an exam is counted as a repeat, or is not",
    "reminder": "Remind order entry of earlier exams, by CDS Hooks",
    "service": "Load order lists; see uploads in time, report turnaround and data quality",
    "trace": "Trace a number back to its query, snapshot, exams and harvest",
    "benefit": "See what sharing images saves: film, repeats, bytes, dose",
    "sql": "Ask the lake a question in SQL",
    "key": "See, verify, wrap, back up and rotate keys",
    "vault": "Find out who is behind a pseudonym; every look-up is audited",
    "nhsa": "Check image indexes of the national health insurance",
    "linkage": "Link pseudonyms of one person, undo it, and see how well it is known",
    "fetch": "Bring pixels that a hospital keeps, before somebody waits for them",
    "residency": "See who keeps the pixels, and bring them into our store",
    "retention": "How long studies are kept, what that costs, and removing what has expired",
    "withdraw": "Remove everything of a person or a study, with a report that proves it",
    "recompress": "Encode stored native pixels anew without loss",
    "tidy": "Make few large files of many small ones, delete what nobody needs",
    "synth": "Write a synthetic province of any size, with known truth",
    "serve": "Show the numbers in a browser",
    "account": "Who may sign in to the pages, and who saw what",
    "airflow": "Start Airflow locally with the DAGs of this repository",
    "check": "Type-check every SQL query against empty tables of the contracts",
}
_OPTIONS_WITH_VALUE = ("--lake", "--hospitals")  # of _root
_OF_HOLDERS = {("cohort", "pull"), ("cohort", "export")}  # for who has no restricted zone


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"radlake {importlib.metadata.version('radlake')}")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    lake: Annotated[
        str | None, typer.Option(help="Folder or s3:// URL of the lake (RADLAKE_LAKE).", show_default="./lake")
    ] = None,
    hospitals: Annotated[
        str | None,
        typer.Option(
            help="YAML of hospitals and nodes (RADLAKE_HOSPITALS).", show_default="hospitals.yaml of the lake"
        ),
    ] = None,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Log more; -vv logs all.")] = 0,
    _: Annotated[bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell it.")] = False,
) -> None:
    """radlake: hospital images harvested, de-identified, stored, counted."""
    _refuse_misspelt(os.environ)
    given = {"lake": lake, "hospitals": hospitals}
    kind = StoreSettings if tuple(called_words(sys.argv[1:]))[:2] in _OF_HOLDERS else Settings
    if kind is StoreSettings:
        del given["hospitals"]
    ctx.obj = kind(**{key: value for key, value in given.items() if value is not None})  # pyright: ignore[reportArgumentType]
    log.configure(level=("warning", "info", "debug")[min(verbose, 2)], as_json=ctx.obj.log_format == "json")


def _refuse_misspelt(environ: Iterable[str]) -> None:
    """A setting that nobody reads is one that somebody believes to be in force; secrets may have any other name."""
    known = {name.upper() for name in Settings.model_fields}
    given = {name.removeprefix("RADLAKE_") for name in environ if name.startswith("RADLAKE_")}
    problems = [
        f"RADLAKE_{name} is no setting; did you mean RADLAKE_{near[0]}?"
        for name in sorted(given - known)
        if (near := difflib.get_close_matches(name, known, n=1, cutoff=0.85))
    ]
    if problems:
        raise ConfigInvalid(path="The environment", problems=problems)


def _app(argv: list[str]) -> typer.Typer:
    """The root command, with the module of the called verb only: start-up stays fast."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    called = next(called_words(argv), None)
    for verb, help_line in VERBS.items():
        if verb != called:
            app.command(verb, help=help_line)(lambda: None)
            continue
        module = importlib.import_module(f"radlake.cli.{verb}")
        commands = module.app.registered_commands
        if len(commands) == 1 and not module.app.registered_groups and module.app.registered_callback is None:
            app.command(verb, help=commands[0].help, context_settings=commands[0].context_settings)(
                commands[0].callback
            )
        else:
            app.add_typer(module.app, name=verb, help=module.app.info.help or help_line)
    return app


def called_words(argv: Sequence[str]) -> Iterator[str]:
    """The words that are neither an option nor the value of one of the root: a lake may be named like a verb.

    >>> list(called_words(["-v", "--lake", "demo", "sql", "FROM core.exam"]))
    ['sql', 'FROM core.exam']
    """
    words = iter(argv)
    for word in words:
        if word in _OPTIONS_WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            yield word


def main() -> None:
    """Entry point: our own errors are told in their sentence, without a traceback."""
    try:
        _app(sys.argv[1:])()
    except ValidationError as exc:
        for problem in exc.errors():
            name = "RADLAKE_" + "_".join(str(part) for part in problem["loc"]).upper()
            typer.echo(f"error: setting {name}: {problem['msg']}", err=True)
        sys.exit(2)
    except RadlakeError as exc:
        typer.echo(f"error: {exc}", err=True)
        sys.exit(1)
    except ModuleNotFoundError as exc:
        package = str(exc.name).partition(".")[0]
        if importlib.util.find_spec(package):
            raise
        told = f"{package} is not installed. Who does more than pull needs the platform: pip install 'radlake[server]'"
        typer.echo(f"error: {told}", err=True)
        sys.exit(1)
    except OSError as exc:
        if exc.filename is None:
            raise
        typer.echo(f"error: {os.fsdecode(exc.filename)}: {exc.strerror}. Check the path and its permissions.", err=True)
        sys.exit(1)
