"""`radlake node`: what is registered, and whether it answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer

from radlake.cli._lake import existing_lake
from radlake.cli.hospitals import NO_HOSPITAL, chosen_hospitals
from radlake.cli.tables import plain_table, wide_console
from radlake.config import Settings
from radlake.errors import ConfigInvalid, RadlakeError, SourceMissing
from radlake.net import FolderNode, Hospital, PushNode, connect, load_hospitals

app = typer.Typer(help="List hospital nodes and test their connection.", no_args_is_help=True)

_AT_ONCE = 16  # a province has more nodes than patience


@app.command("list")
def list_nodes(ctx: typer.Context) -> None:
    """Show every hospital of the hospitals file and how its images are reached."""
    settings: Settings = ctx.obj
    if not settings.hospitals.exists():
        existing_lake(settings)
    hospitals = load_hospitals(settings.hospitals)
    if not hospitals:
        typer.echo(f"{settings.hospitals}: {NO_HOSPITAL}")
        return
    table = plain_table("hospital", "name", "region", "level", "storage", "retrieve", "address")
    for hospital in hospitals.values():
        table.add_row(
            hospital.hospital_id,
            f"{hospital.name_zh}\n{hospital.name_en}",
            hospital.region_code,
            hospital.level,
            hospital.storage_policy,
            hospital.node.retrieve_kind,
            hospital.node.address,
        )
    wide_console().print(table)


@app.command()
def echo(
    ctx: typer.Context,
    hospital_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[HOSPITAL]...", help="All when none is named.")
    ] = None,
) -> None:
    """Ask each node whether it is there: C-ECHO, a DICOMweb search, or a look at the folder.

    Exits with 1 when a node fails; the others are asked all the same.
    """
    settings: Settings = ctx.obj
    if not settings.hospitals.exists():
        existing_lake(settings)
    chosen = chosen_hospitals(settings, hospital_ids)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = pool.map(lambda hospital: _answer(hospital, settings=settings), chosen)
        failures = [_tell(hospital, answer) for hospital, answer in zip(chosen, answers, strict=True)]
    if any(failures):
        raise typer.Exit(1)


def _answer(hospital: Hospital, *, settings: Settings) -> float | RadlakeError:
    """Seconds, or what went wrong."""
    node = hospital.node
    try:
        if isinstance(node, FolderNode):
            if not node.path.is_dir():
                raise SourceMissing(path=node.path)
            return 0.0
        if isinstance(node, PushNode):
            problem = f"{hospital.hospital_id} has no node to ask: it pushes, and `radlake receive` takes it"
            raise ConfigInvalid(path=str(settings.hospitals), problems=[problem])
        return connect(node, ae_title=settings.ae_title, scp_port=None).echo()
    except RadlakeError as exc:
        return exc


def _tell(hospital: Hospital, answer: float | RadlakeError) -> bool:
    """Print one line, and whether it is bad news."""
    if isinstance(answer, RadlakeError):
        typer.echo(f"{hospital.hospital_id}: {answer}")
        return True
    typer.echo(f"{hospital.hospital_id}: ok, {answer * 1000:.0f} ms")
    return False
