"""`radlake init`: create a lake."""

from __future__ import annotations

import secrets
from pathlib import Path

import typer

from radlake.cli._lake import make_lake
from radlake.cli.hospitals import write_template
from radlake.config import Settings
from radlake.deidentify.keyfile import write_key_file
from radlake.vault.lake_key import refuse_new_key

app = typer.Typer(help="Create a lake: its restricted zone and root key.")


def ensure_key(settings: Settings) -> bool:
    """Create the root key file, readable by its owner only, unless the key exists or is kept elsewhere.

    Raises
    ------
    LakeKeyMissing
        If something was stored with a key that is missing now.
    """
    settings.prepare_restricted()
    kind, _, name = settings.key.partition(":")
    if kind != "file" or Path(name).exists():
        return False
    refuse_new_key(settings)
    return write_key_file(Path(name), secrets.token_bytes(32), wrap=settings.key_wrap)


@app.command()
def init(ctx: typer.Context) -> None:
    """Create a lake: its restricted zone (mode 0700) and root key (mode 0600). Existing ones are left alone.

    Keep a copy of the key in a safe (`radlake key export-backup`): without it, later studies of the same person get
    another pseudonym. With RADLAKE_KEY_WRAP the key is wrapped from the beginning.
    """
    settings: Settings = ctx.obj
    is_new = ensure_key(settings)
    make_lake(settings)
    if write_template(settings.hospitals):
        typer.echo(f"created {settings.hospitals}: write your hospitals there, then `radlake node echo`")
    typer.echo(f"created {settings.key}; keep a copy in a safe" if is_new else f"{settings.key} is there, left alone")
