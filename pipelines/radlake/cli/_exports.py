"""Forms in which `radlake cohort export` writes a release; each writes it and shows what it wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from radlake.cli._answers import show_table
from radlake.cohort.pull import Release
from radlake.errors import ConfigInvalid

__all__ = ["FORMS"]


def _fhir(release: Release, folder: Path, *, types: Sequence[str], wado_url: str, as_json: bool) -> None:
    from radlake.cohort.fhir import export_fhir

    _refuse("fhir", {"--wado-rs": wado_url})
    with _telling(release) as show:
        counts = export_fhir(release, folder, types=types, progress=show)
    _show(counts, folder, as_json=as_json)


def _mado(release: Release, folder: Path, *, types: Sequence[str], wado_url: str, as_json: bool) -> None:
    from radlake.cohort.mado import export_mado

    _refuse("mado", {"--type": types})
    with _telling(release) as show:
        counts = export_mado(release, folder, wado_url=wado_url, progress=show)
    _show(counts, folder, as_json=as_json)


def _omop(release: Release, folder: Path, *, types: Sequence[str], wado_url: str, as_json: bool) -> None:
    from radlake.cohort.omop import export_omop

    _refuse("omop", {"--type": types, "--wado-rs": wado_url})
    with Console(stderr=True).status(release.release_id):
        told = export_omop(release, folder)
    if as_json:
        typer.echo(json.dumps(told))
        return
    rows = [(f"{name}.parquet", facts["n_rows"]) for name, facts in told["tables"].items()]
    show_table(rows, header=(str(folder), "rows"), numbers=(False, True))
    for group, found in told["unmapped"].items():
        typer.echo(f"no concept: {sum(found.values()):,} values of {group} ({len(found):,} different)")
    for reason, n in told["left_out"].items():
        typer.echo(f"left out: {n:,} {reason}")


def _refuse(form: str, options: Mapping[str, Sequence[str]]) -> None:
    """Options of other forms."""
    if given := [name for name, value in options.items() if value]:
        raise ConfigInvalid(path=f"--as {form}", problems=[f"{name} is for another form" for name in given])


@contextmanager
def _telling(release: Release) -> Iterator[Callable[[str, int], None]]:
    with Console(stderr=True).status(release.release_id) as status:
        yield lambda name, n: status.update(f"{n:,} {name}")


def _show(counts: Mapping[str, int], folder: Path, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(counts))
    else:
        show_table(list(counts.items()), header=(str(folder), "written"), numbers=(False, True))


FORMS: Mapping[str, Callable[..., None]] = {"fhir": _fhir, "mado": _mado, "omop": _omop}
