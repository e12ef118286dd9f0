"""`radlake account`: who may sign in to the pages, and who saw what."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from radlake.cli._answers import show_table
from radlake.web.access import Role
from radlake.web.server import accounts_of, audit_of

app = typer.Typer(help="Accounts of the pages, and the audit of who saw what.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name that the person signs in with.")]


@app.command()
def add(
    ctx: typer.Context,
    name: Name,
    role: Annotated[Role, typer.Option(help="What the person may see; docs/how-to/accounts.md has the table.")],
) -> None:
    """Make an account, or give it another role and password. The password is asked for, or read from standard input."""
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    ctx.obj.prepare_restricted()
    accounts_of(ctx.obj).put(name, role, password)
    typer.echo(
        f"{name} signs in as {role.value}; a running `radlake serve` that began without accounts must be restarted"
    )


@app.command("list")
def list_(ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Accounts and their roles."""
    found = [(one.name, one.role.value) for one in accounts_of(ctx.obj).all().values()]
    if as_json:
        typer.echo(json.dumps([{"name": name, "role": role} for name, role in found]))
        return
    show_table(found, header=("name", "role"), numbers=(False, False))


@app.command()
def remove(ctx: typer.Context, name: Name) -> None:
    """Remove an account; its sessions end with their next request."""
    accounts_of(ctx.obj).remove(name)
    typer.echo(f"{name} cannot sign in any more")


@app.command()
def audit(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Every event, a FHIR AuditEvent a line.")] = False,
) -> None:
    """Check the chain of who saw what. Exit code 1: events were changed, removed or put in."""
    log = audit_of(ctx.obj)
    n_events = 0
    for event in log.events():
        n_events += 1
        if as_json:
            typer.echo(json.dumps(event, ensure_ascii=False))
    problems = log.problems()
    for problem in problems:
        typer.echo(f"problem: {problem}", err=True)
    if not as_json:
        typer.echo(f"{n_events:,} events{'' if problems else '; the chain is whole'}")
    raise typer.Exit(1 if problems else 0)
