"""`radlake check`: contracts, queries and definitions agree, without any data."""

from __future__ import annotations

import re

import typer

from radlake.contracts import load_tables
from radlake.errors import ConfigInvalid
from radlake.resources import data_root
from radlake.sqlrun import load_queries, type_check

app = typer.Typer()


@app.command()
def check() -> None:
    """Type-check every query and check of sql/ against empty tables of the contracts; tell all problems."""
    problems = find_problems()
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{len(load_tables())} contracts and {len(load_queries())} queries agree")


def find_problems() -> list[str]:
    """Every problem of contracts and queries, and built tables that the definitions do not explain."""
    try:
        load_tables()
    except ConfigInvalid as exc:
        return [f"schemas: {problem}" for problem in exc.facts["problems"]]
    problems = [f"sql: {problem}" for problem in type_check()]
    document = data_root() / "docs" / "reference" / "definitions.md"
    if not problems and document.is_file():  # a wheel carries no documents
        explained = set(re.findall(r"`((?:core|stats)\.[a-z_]+)`", document.read_text(encoding="utf-8")))
        built = {query.name for query in load_queries()}
        problems += [f"docs/reference/definitions.md does not explain {name}" for name in sorted(built - explained)]
        problems += [
            f"docs/reference/definitions.md explains {name}, which no query builds"
            for name in sorted(explained - built)
        ]
    return problems
