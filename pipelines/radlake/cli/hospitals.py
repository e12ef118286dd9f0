"""Hospitals that a command names: registered ones, and for a folder also one that is not registered yet."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from radlake.config import Settings
from radlake.errors import ConfigInvalid
from radlake.net import FolderNode, Hospital, load_hospitals

__all__ = [
    "NO_HOSPITAL",
    "Hospitals",
    "chosen_hospitals",
    "hospital_of_files",
    "registered_hospitals",
    "write_template",
]

Hospitals = Annotated[list[str] | None, typer.Argument(help="Hospital ids; all registered ones when left out.")]

NO_HOSPITAL = "no hospital is registered yet; make one of its examples yours, see docs/how-to/register-a-node.md"
_TEMPLATE = Path(__file__).with_name("hospitals.template.yaml")


def write_template(path: Path) -> bool:
    """Write a hospitals file of explained examples, unless there is one already."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(_TEMPLATE.read_text(encoding="utf-8"))
    except FileExistsError:
        return False
    return True


def registered_hospitals(settings: Settings) -> dict[str, Hospital]:
    """Hospitals by id; none when there is no file yet."""
    return load_hospitals(settings.hospitals) if settings.hospitals.exists() else {}


def chosen_hospitals(settings: Settings, names: Sequence[str] | None) -> list[Hospital]:
    """The named hospitals in this order, or all that have a node to ask, in the order of the file.

    Raises
    ------
    BadParameter
        If a name is not registered.
    ConfigInvalid
        If no hospital is.
    """
    registered = load_hospitals(settings.hospitals)
    if not registered:
        raise ConfigInvalid(path=str(settings.hospitals), problems=[NO_HOSPITAL])
    for name in names or ():
        if name not in registered:
            near = difflib.get_close_matches(name, registered, n=1)
            hint = f"did you mean {near[0]}?" if near else "see `radlake node list`"
            raise typer.BadParameter(f"no hospital {name}; {hint}")
    if names:
        return [registered[name] for name in names]
    return [hospital for hospital in registered.values() if hospital.node.kind != "push"]


def hospital_of_files(settings: Settings, hospital_id: str) -> Hospital:
    """The registered hospital, or one of unknown region and level: its files are taken all the same.

    Raises
    ------
    ConfigInvalid
        If the id cannot be a hospital's id.
    """
    registered = registered_hospitals(settings)
    if hospital_id in registered:
        return registered[hospital_id]
    try:
        return Hospital(hospital_id=hospital_id, name_zh=hospital_id, name_en=hospital_id, node=FolderNode(path=Path()))
    except ValidationError as exc:
        problems = [f"{hospital_id!r}: letters, digits, - and _ only, 32 at most, and a letter or digit first"]
        raise ConfigInvalid(path="--hospital", problems=problems) from exc
