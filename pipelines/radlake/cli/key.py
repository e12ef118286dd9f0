"""`radlake key`: the root key, its safe copies, and the keys of the vault."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Annotated

import typer

from radlake.cli._lake import existing_lake
from radlake.cli.vault import By, Json, Why, opened
from radlake.config import Settings, resolve_secret
from radlake.deidentify import KeyRing
from radlake.deidentify.keyfile import backup, key_from_backup, read_root, rewrap, write_key_file
from radlake.errors import ConfigInvalid, KeyMismatch
from radlake.lake.ledger import Ledger
from radlake.vault.lake_key import check_key, claim_key, lake_keys
from radlake.vault.rotation import rotate
from radlake.vault.trail import Reason, os_user

app = typer.Typer(help="See, verify, wrap, back up and rotate keys.", no_args_is_help=True)

Passphrase = Annotated[
    str, typer.Option("--passphrase", metavar="REF", help="file:PATH or env:NAME; asked for when left out.")
]


@app.command()
def status(ctx: typer.Context, as_json: Json = False) -> None:
    """What is known of the keys of this lake; no secret is shown."""
    settings: Settings = ctx.obj
    with opened(settings) as vault:
        counts, version = vault.rows.count_by_version(), vault.rows.version
        facts = {
            "key": settings.key,
            "check_value": vault.keys.check_value(),
            "is_of_this_lake": bool(vault.rows.key_check),
            "protection": _protection(settings),
            "vault_key_version": version,
            "records": sum(counts.values()),
            "records_of_older_versions": sum(n for known, n in counts.items() if known != version),
            "studies_without_record": vault.rows.n_studies_without_record(),
        }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        typer.echo(f"{name.replace('_', ' '):<26} {value}")


@app.command()
def verify(
    ctx: typer.Context,
    backup_file: Annotated[Path | None, typer.Option("--backup", help="Also open this backup and compare.")] = None,
    passphrase: Passphrase = "",
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Enter this key in a lake whose ledger is lost; you know that it is right.")
    ] = False,
) -> None:
    """Tell whether the key is the key of this lake, and whether a backup holds it."""
    settings: Settings = ctx.obj
    existing_lake(settings)
    keys = lake_keys(settings)
    ledger = Ledger(settings.ledger, is_anew=adopt)
    try:
        if adopt:
            claim_key(keys, settings, ledger=ledger, adopt=True)
        is_known = check_key(keys, settings, ledger=ledger)
    finally:
        ledger.close()
    ours = keys.check_value()
    typer.echo(f"{settings.key} ({ours[:8]}…) is the key of this lake" if is_known else "this lake has no data yet")
    if backup_file:
        root = key_from_backup(_text(backup_file), passphrase=_secret(passphrase), path=str(backup_file))
        found = KeyRing(root).check_value()
        if found != ours:
            raise KeyMismatch(key=str(backup_file), place=settings.lake, expected=ours[:8], given=found[:8])
        typer.echo(f"{backup_file} holds the same key")


@app.command("rotate")
def rotate_command(ctx: typer.Context, by: By, why: Why) -> None:
    """Give the vault a new key and seal every record anew; run again after an interruption.

    Pseudonyms in the lake stay as they are: they follow the root key.
    """
    reason = Reason(by, why)
    with opened(ctx.obj) as vault:
        vault.record("rotate", reason=reason)
        done = rotate(vault.keys, vault.rows)
        outcome = f"version {done.version}, {done.n_sealed} records, {len(done.damaged)} damaged"
        vault.record("rotated", reason=reason, outcome=outcome)
    what = f"version {done.version} of the vault's key" if done.is_new else "finished an earlier rotation"
    typer.echo(f"{what}: {done.n_sealed:,} records sealed anew")
    for study in done.damaged:
        typer.echo(f"error: the record of study {study} is damaged and was left as it is", err=True)
    if done.damaged:
        raise typer.Exit(1)


@app.command("rewrap")
def rewrap_command(
    ctx: typer.Context,
    wrap: Annotated[str, typer.Option("--with", metavar="REF", help="New key-encryption key: file:PATH or env:NAME.")],
) -> None:
    """Wrap the root key file with another key-encryption key (64 hexadecimal digits); nothing in the lake changes.

    Then set RADLAKE_KEY_WRAP to the same reference. Copies of the old file stay readable with the old key.
    """
    settings: Settings = ctx.obj
    rewrap(settings, wrap=wrap)
    typer.echo(f"wrapped {settings.key}; set RADLAKE_KEY_WRAP={wrap}")


@app.command()
def export_backup(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(help="File to make; an existing one is never overwritten.")],
    passphrase: Passphrase = "",
) -> None:
    """Write the root key, sealed under a passphrase, for a safe; keep the passphrase elsewhere."""
    settings: Settings = ctx.obj
    text = backup(read_root(settings), passphrase=_secret(passphrase, is_new=True))
    with opened(settings) as vault:
        vault.record("backup", reason=Reason(os_user(), "radlake key export-backup"))
    try:
        path.touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        raise ConfigInvalid(path=str(path), problems=["it exists; name another file"]) from None
    path.write_text(text, encoding="ascii")
    typer.echo(f"wrote {path}; try it with `radlake key verify --backup {path}`")


@app.command()
def import_backup(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(help="Backup of `radlake key export-backup`.")],
    passphrase: Passphrase = "",
) -> None:
    """Bring the root key back from a backup, when its file is lost; it must be the key of this lake."""
    settings: Settings = ctx.obj
    existing_lake(settings)
    kind, _, name = settings.key.partition(":")
    if kind != "file":
        raise ConfigInvalid(path=settings.key, problems=["only a key in a file can be brought back here"])
    root = key_from_backup(_text(path), passphrase=_secret(passphrase), path=str(path))
    settings.prepare_restricted()
    ledger = Ledger(settings.ledger)
    try:
        check_key(KeyRing(root), settings, ledger=ledger)
    finally:
        ledger.close()
    if not write_key_file(Path(name), root, wrap=settings.key_wrap):
        raise ConfigInvalid(path=settings.key, problems=["it exists and was left alone"])
    typer.echo(f"wrote {settings.key}")


def _protection(settings: Settings) -> str:
    kind, _, name = settings.key.partition(":")
    if kind != "file":
        return "kept outside radlake"
    told = "wrapped" if _text(Path(name)).startswith("{") else "in plain"
    mode = stat.S_IMODE(Path(name).stat().st_mode)
    return told if mode & 0o077 == 0 else f"{told}, and others may read it: chmod 600 {name}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except UnicodeDecodeError:
        raise ConfigInvalid(path=str(path), problems=["it is no key or backup of one"]) from None


def _secret(ref: str, *, is_new: bool = False) -> str:
    if ref:
        return resolve_secret(ref)
    return typer.prompt("Passphrase", hide_input=True, confirmation_prompt=is_new)
