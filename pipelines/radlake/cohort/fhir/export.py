"""Write a release as files of FHIR resources, one a line and one file a type (Bulk Data Access 3.0.0, NDJSON).

Resources come one after the other, so that a release may be larger than the memory. The first of each type and then
one of a thousand are read by the R4 models of fhir.resources.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from radlake.cohort.codings import Json
from radlake.cohort.fhir.resources import diagnostic_report, group, imaging_study, observation, patient
from radlake.cohort.pull.released import Release
from radlake.cohort.studies import Row, studies
from radlake.errors import ConfigInvalid, PermanentError
from radlake.lake.store import make_folder, storage_errors
from radlake.machine import fsync

__all__ = ["TYPES", "export_fhir", "require_valid"]

_READ_EVERY = 1000


class ResourceInvalid(PermanentError):
    sentence = (
        "A {type} of {release} is not valid FHIR R4 ({reason}). Nothing was written of its type; tell who runs radlake."
    )


def export_fhir(
    release: Release, folder: Path, *, types: Sequence[str] = (), progress: Callable[[str, int], None] = lambda *_: None
) -> dict[str, int]:
    """Write `folder/<type>.ndjson` of each type, or of those named; returns how many resources each has.

    A type without resources has no file. A file appears whole or not at all.

    Raises
    ------
    ConfigInvalid
        If there is no such type.
    Damaged, ResourceInvalid, StoreFull
    """
    if unknown := sorted(set(types) - set(TYPES)):
        problems = [f"there is no {name}; there are {', '.join(TYPES)}" for name in unknown]
        raise ConfigInvalid(path="The types of resources", problems=problems)
    counts = {}
    with storage_errors(str(folder)):
        make_folder(folder)
        for name in types or TYPES:
            counts[name] = _write(folder / f"{name}.ndjson", _checked(name, release), partial(progress, name))
    return {name: count for name, count in counts.items() if count}


def require_valid(resource: Mapping[str, Any]) -> None:
    """Read a resource by its model.

    Raises
    ------
    pydantic.ValidationError
    """
    name = resource["resourceType"]
    getattr(import_module(f"fhir.resources.R4B.{name.lower()}"), name).model_validate(resource)


def _write(path: Path, resources: Iterator[Json], progress: Callable[[int], None]) -> int:
    part, n = path.with_name(f".{path.name}.part"), 0
    with part.open("w", encoding="utf-8") as file:
        for n, resource in enumerate(resources, 1):
            file.write(json.dumps(resource, ensure_ascii=False, separators=(",", ":")) + "\n")
            if n % _READ_EVERY == 0:
                progress(n)
        file.flush()
        os.fsync(file.fileno())
    if not n:
        part.unlink()
        path.unlink(missing_ok=True)
        return 0
    part.replace(path)
    fsync(path.parent)
    progress(n)
    return n


def _checked(name: str, release: Release) -> Iterator[Json]:
    for n, resource in enumerate(_RESOURCES[name](release)):
        if n % _READ_EVERY == 0:
            try:
                require_valid(resource)
            except ValidationError as exc:
                where = {".".join(map(str, error["loc"])) for error in exc.errors()}
                raise ResourceInvalid(type=name, release=release.release_id, reason=", ".join(sorted(where))) from exc
        yield resource


def _patients(release: Release) -> Iterator[Json]:
    for row in _rows(release, "person"):
        yield patient(row, release.document)


def _groups(release: Release) -> Iterator[Json]:
    yield group(release.document, (row["person_pseudo_id"] for row in _rows(release, "person")))


def _imaging_studies(release: Release) -> Iterator[Json]:
    for study in studies(release.table):
        yield imaging_study(study, release.document)


def _observations(release: Release) -> Iterator[Json]:
    exams = _exams(release)
    for row in _rows(release, "finding"):
        yield observation(row, exams[row["exam_pseudo_id"]], release.document)


def _diagnostic_reports(release: Release) -> Iterator[Json]:
    """Of exams of whose reports something is released."""
    exams = _exams(release)
    study_uids: dict[str, dict[str, None]] = {}
    for row in release.series_rows:
        study_uids.setdefault(row["exam_pseudo_id"], {})[row["study_instance_uid"]] = None
    for exam, findings in groupby(_rows(release, "finding"), key=lambda row: row["exam_pseudo_id"]):
        yield diagnostic_report(exams[exam], list(findings), list(study_uids.get(exam, ())), release.document)


def _rows(release: Release, table: str) -> list[Row]:
    return release.table(table).to_pylist()


def _exams(release: Release) -> dict[str, Row]:
    return {row["exam_pseudo_id"]: row for row in _rows(release, "exam")}


_RESOURCES: Mapping[str, Callable[[Release], Iterator[Json]]] = {
    "Patient": _patients,
    "Group": _groups,
    "ImagingStudy": _imaging_studies,
    "DiagnosticReport": _diagnostic_reports,
    "Observation": _observations,
}
TYPES = tuple(_RESOURCES)
