"""A hospital that keeps its pixels in a folder, and its lake."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from radlake.config import Settings
from radlake.ingest import harvest_folder
from radlake.lake import Lake
from radlake.net import Hospital, load_hospitals
from radlake.residency import SeriesObject, objects_of
from support.dicom import ct_study, image_study, write
from support.lakes import settings_of

__all__ = ["cached", "copied", "harvested", "kept_objects", "the_hospital", "write_archive"]


def write_archive(folder: Path) -> Path:
    """Two studies of three and two instances."""
    for s, study in enumerate([ct_study(n=3, patient="李雷"), image_study("MR", n=2, patient_id="P2")]):
        for n, ds in enumerate(study):
            write(ds, folder / f"{s}" / f"{n}.dcm")
    return folder


def harvested(folder: Path, archive: Path, *, policy: str = "index", **given: Any) -> Settings:
    """A lake with the archive of hospital h1, of which nothing is cached unless a bound is given."""
    settings = settings_of(folder, **{"cache_bytes": 0, **given})
    entry = f"hospital_id: h1, name_zh: 样例, name_en: Sample, storage_policy: {policy}"
    settings.hospitals.write_text(f"hospitals:\n  - {{{entry}, node: {{kind: folder, path: '{archive}'}}}}\n")
    harvest_folder(settings, archive, hospital=the_hospital(settings))
    return settings


def the_hospital(settings: Settings) -> Hospital:
    return load_hospitals(settings.hospitals)["h1"]


def kept_objects(settings: Settings) -> list[SeriesObject]:
    """Series objects that the hospital keeps, the CT first."""
    found = objects_of(Lake.from_settings(settings), residency="index")
    return sorted(found, key=lambda item: -len(item.instances))


def cached(settings: Settings) -> dict[str, str]:
    """SHA-256 of every object in the cache, by its path."""
    root = Lake.from_settings(settings).cache.root
    files = [path for path in root.glob("*/*/*.zip") if not path.relative_to(root).as_posix().startswith(".")]
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def copied(archive: Path, folder: Path) -> Path:
    """The same archive for a test that changes it."""
    return Path(shutil.copytree(archive, folder))
