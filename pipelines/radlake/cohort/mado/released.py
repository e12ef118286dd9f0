"""Manifests of a release: a KOS for each study, some hundred in a ZIP beside the tables; they say what those say.

A release is no PACS: where its images can be had is an OID of its own. Who puts them into a PACS makes manifests with
an address (`export_mado`).
"""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from pydicom import dcmread

from radlake.cohort.codings import body_site, laterality, number, procedure, regions
from radlake.cohort.mado.bundle import bundle_of
from radlake.cohort.mado.kos import kos_of, manifest_from_kos
from radlake.cohort.mado.manifest import Coded, Instance, Manifest, Series, scheme_of
from radlake.cohort.pull.released import Release
from radlake.cohort.pull.targets import place_whole
from radlake.cohort.studies import Row, Study, StudySeries, Tables, studies
from radlake.dicom.part10 import encode_instance
from radlake.errors import ConfigInvalid
from radlake.lake.store import storage_errors

__all__ = ["export_mado", "manifest_file", "manifests_of", "packed"]

_PREFIX = "manifests-"
_BATCH = 200  # studies of a ZIP
_NEVER = datetime(1900, 1, 1)
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first time of a ZIP: equal manifests are equal bytes


def manifest_file(number: int) -> str:
    """Name of a ZIP; they count from 1."""
    return f"{_PREFIX}{number:05d}.zip"


def manifests_of(table: Tables, *, institution: str, uid: Callable[[str], str]) -> Iterator[list[Manifest]]:
    """The manifests of every study, as many at once as make a ZIP.

    Parameters
    ----------
    institution : str
        Who answers for them.
    uid : callable
        Makes a UID of a text, in the keys of the project.
    """
    persons = {row["person_pseudo_id"]: row for row in table("person", None).to_pylist()}
    of_release = {"institution": institution, "issuer": uid("issuer"), "location_uid": uid("location")}
    found = (
        _manifest(study, persons[study.exam["person_pseudo_id"]], uid=uid(f"manifest {study.uid}"), **of_release)
        for study in studies(table)
    )
    while batch := list(islice(found, _BATCH)):
        yield batch


def packed(manifests: Sequence[Manifest]) -> bytes:
    """A ZIP with `PERSON/STUDY.dcm` of each."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for manifest in manifests:
            kos = kos_of(manifest, series_uid=_derived(manifest.uid, "series"))
            archive.writestr(zipfile.ZipInfo(f"{_place(manifest)}.dcm", _LONG_AGO), encode_instance(kos), 8)
    return content.getvalue()


def export_mado(
    release: Release, folder: Path, *, wado_url: str = "", progress: Callable[[str, int], None] = lambda *_: None
) -> dict[str, int]:
    """Write `folder/PERSON/STUDY.dcm` (KOS) and `STUDY.json` (FHIR Bundle) of each study; returns how many.

    Parameters
    ----------
    wado_url : str
        Base URI of the WADO-RS where the holder keeps the images; a manifest that tells it has a UID of its own.

    Raises
    ------
    ConfigInvalid
        If the release was made before releases carried manifests.
    Damaged, StoreFull
    """
    n = 0
    with storage_errors(str(folder)):
        for name, content in release.metadata():
            if not name.startswith(_PREFIX):
                continue
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for member in archive.namelist():
                    _export(archive.read(member), folder, wado_url)
                    n += 1
            progress("manifests", n)
    if not n:
        problem = "it carries no manifests: it is older than they are. Ask for it to be made and approved again"
        raise ConfigInvalid(path=release.release_id, problems=[problem])
    return {"manifests": n}


def _export(content: bytes, folder: Path, wado_url: str) -> None:
    manifest = manifest_from_kos(dcmread(io.BytesIO(content)))
    if wado_url:
        manifest = replace(manifest, uid=_derived(manifest.uid, wado_url), wado_url=wado_url)
        content = encode_instance(kos_of(manifest, series_uid=_derived(manifest.uid, "series")))
    place_whole(folder / f"{_place(manifest)}.dcm", content)
    bundle = json.dumps(bundle_of(manifest), ensure_ascii=False, indent=1) + "\n"
    place_whole(folder / f"{_place(manifest)}.json", bundle.encode())


def _place(manifest: Manifest) -> str:
    return f"{manifest.patient_id}/{manifest.study_uid}"


def _derived(uid: str, of: str) -> str:
    """A UID that follows from another one."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{uid} {of}').int}"


def _manifest(study: Study, person: Row, *, uid: str, institution: str, issuer: str, location_uid: str) -> Manifest:
    exam = study.exam
    started = _whole(exam["study_at"])
    named = procedure(exam)
    [known] = named["coding"]
    return Manifest(
        uid=uid,
        created_at=started or _NEVER,  # of a release made again it is the same
        study_uid=study.uid,
        started=started,
        patient_id=person["person_pseudo_id"],
        patient_name=person["person_pseudo_id"],
        sex=person["patient_sex"] if person["patient_sex"] in ("M", "F", "O") else "",
        issuer=issuer,
        accession=exam["exam_pseudo_id"],
        institution=institution[:64],
        location_uid=location_uid,
        procedures=(Coded(known["code"], scheme_of(known["system"]), named["text"]),),
        regions=tuple(map(_coded, regions(exam))),
        series=tuple(_series(one, exam) for one in study.series),
    )


def _series(series: StudySeries, exam: Row) -> Series:
    row = series.row
    site, side = body_site(row, exam), laterality(row["laterality"])
    return Series(
        uid=series.uid,
        modality=row["modality"],
        number=number(row["series_number"]),
        description=row["series_description"] or "",
        started=_whole(row["series_at"]),
        body_site=_coded(site) if site else None,
        laterality=_coded(side) if side else None,
        instances=tuple(
            Instance(
                uid=one["sop_instance_uid"],
                sop_class=one["sop_class_uid"],
                number=number(one["instance_number"]),
                n_frames=one["n_frames"] if (one["n_frames"] or 1) > 1 else None,
            )
            for one in series.instances
        ),
    )


def _coded(coding: Mapping[str, Any]) -> Coded:
    return Coded(coding["code"], scheme_of(coding["system"]), coding["display"])


def _whole(at: datetime | None) -> datetime | None:
    return at and at.replace(microsecond=0)
