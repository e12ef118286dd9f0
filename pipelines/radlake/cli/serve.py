"""`radlake serve`: show the numbers in a browser."""

from __future__ import annotations

from typing import Annotated

import click
import typer

from radlake.web import PortBusy, serve

app = typer.Typer(help="Show the numbers in a browser.")


@app.command()
def run(
    ctx: typer.Context,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = 8765,
) -> None:
    """Serve the lake's pages until Ctrl+C. Only published tables are read, and nothing is written."""
    try:
        serve(ctx.obj, host, port, announce=lambda url: typer.echo(f"radlake is at {url} (Ctrl+C stops it)"))
    except PortBusy as exc:
        hint = f" Try: radlake serve --port {exc.next_free}" if exc.next_free else ""
        raise click.ClickException(f"port {port} of {host} is in use by another program.{hint}") from exc
    except OSError as exc:
        raise click.ClickException(f"cannot listen on {host}, port {port}: {exc.strerror or exc}") from exc
