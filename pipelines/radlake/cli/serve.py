"""`radlake serve`: show the numbers in a browser."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from radlake.cli._lake import filled_lake
from radlake.config import Settings
from radlake.errors import ConfigInvalid, PortBusy
from radlake.web import serve
from radlake.web.access import Role


class OpenRole(Enum):
    """What everybody may be without signing in: nobody who can see exams or the audit."""

    VIEWER = "viewer"
    ANALYST = "analyst"


app = typer.Typer(help="Show the numbers in a browser.")


@app.command()
def run(
    ctx: typer.Context,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for every one of this machine.")
    ] = "127.0.0.1",
    open_to: Annotated[
        OpenRole | None, typer.Option("--open", help="Nobody signs in, and everybody who reaches it has this role.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = 8765,
) -> None:
    """Serve the lake's pages until Ctrl+C. Only published tables are read.

    Where `radlake account` has made accounts, people sign in, and who saw what is audited. Without any account the
    pages are for this machine alone, unless --open says what everybody is.
    """
    filled_lake(ctx.obj)
    everyone = None if open_to is None else Role(open_to.value)
    try:
        serve(ctx.obj, host, port, everyone=everyone, announce=_announce)
    except PortBusy as exc:
        next_free = exc.facts["next_free"]
        hint = f"; try --port {next_free}" if next_free else ""
        raise ConfigInvalid(path="--port", problems=[f"{port} of {host} is in use by another program{hint}"]) from exc
    except OSError as exc:
        raise ConfigInvalid(path="--host", problems=[f"cannot listen on {host}:{port}: {exc.strerror or exc}"]) from exc


def serve_anywhere(settings: Settings, *, port: int) -> None:
    """Serve on the loopback interface, on the next free port when this one is taken."""
    try:
        serve(settings, "127.0.0.1", port, announce=_announce)
    except PortBusy as exc:
        serve(settings, "127.0.0.1", exc.facts["next_free"] or 0, announce=_announce)


def _announce(url: str) -> None:
    typer.echo(f"radlake is at {url} (Ctrl+C stops it)")
