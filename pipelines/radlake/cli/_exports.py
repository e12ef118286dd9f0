"""Forms in which `radlake cohort export` writes a release; each writes it and shows what it wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import typer
from rich.console import Console

from radlake.cli._answers import show_table
from radlake.cohort.pull import Release
from radlake.errors import ConfigInvalid

__all__ = ["FORMS"]


def _fhir(release: Release, folder: Path, *, types: Sequence[str], as_json: bool) -> None:
    from radlake.cohort.fhir import TYPES, export_fhir

    if unknown := sorted(set(types) - set(TYPES)):
        raise ConfigInvalid(
            path="--type", problems=[f"there is no {one}; there are {', '.join(TYPES)}" for one in unknown]
        )
    with Console(stderr=True).status(release.release_id) as status:
        counts = export_fhir(
            release, folder, types=types or TYPES, progress=lambda name, n: status.update(f"{n:,} {name}")
        )
    if as_json:
        typer.echo(json.dumps(counts))
        return
    rows = [(f"{name}.ndjson", count) for name, count in counts.items()]
    show_table(rows, header=(str(folder), "resources"), numbers=(False, True))


def _omop(release: Release, folder: Path, *, types: Sequence[str], as_json: bool) -> None:
    from radlake.cohort.omop import export_omop

    if types:
        raise ConfigInvalid(path="--type", problems=["it is for --as fhir; omop has all its tables"])
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


FORMS: Mapping[str, Callable[..., None]] = {"fhir": _fhir, "omop": _omop}
