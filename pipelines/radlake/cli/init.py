"""`radlake init`: create a lake."""

from __future__ import annotations

import secrets
from pathlib import Path

import typer

from radlake.cli._lake import make_lake
from radlake.config import Settings

app = typer.Typer(help="Create a lake: its restricted zone and root key.")


def ensure_key(settings: Settings) -> bool:
    """Create the root key file, readable by its owner only, unless the key exists or is kept elsewhere."""
    settings.prepare_restricted()
    kind, _, name = settings.key.partition(":")
    if kind != "file" or Path(name).exists():
        return False
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    fresh.touch(mode=0o600)
    fresh.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
    try:
        path.hardlink_to(fresh)  # an existing key is never overwritten, even by a twin
    except FileExistsError:
        return False
    finally:
        fresh.unlink()
    return True


@app.command()
def init(ctx: typer.Context) -> None:
    """Create a lake: its restricted zone (mode 0700) and root key (mode 0600). Existing ones are left alone.

    Keep a copy of the key in a safe: without it, later studies of the same person get another pseudonym.
    """
    settings: Settings = ctx.obj
    is_new = ensure_key(settings)
    make_lake(settings)
    typer.echo(f"created {settings.key}; keep a copy in a safe" if is_new else f"{settings.key} is there, left alone")
