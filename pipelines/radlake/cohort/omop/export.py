"""Write a release as OMOP into a folder that appears whole or not at all."""

from __future__ import annotations

import glob
import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from radlake.cohort.omop.concepts import concepts_file
from radlake.cohort.omop.convert import USED, Converted, convert
from radlake.cohort.omop.model import ddl
from radlake.cohort.pull import Release
from radlake.cohort.pull.targets import name_folder, place_whole
from radlake.commit_points import reached
from radlake.errors import ConfigInvalid
from radlake.lake.store import make_folder, storage_errors
from radlake.lake.store.local import sweep
from radlake.machine import fsync

__all__ = ["export_omop"]

_DEAD_AFTER = timedelta(days=1)


def export_omop(release: Release, folder: Path) -> Mapping[str, Any]:
    """Write tables as Parquet, `ddl.sql`, and `export.json` that tells what they hold and what they do not.

    The same release gives the same bytes.

    Parameters
    ----------
    folder : Path
        Must not be there.

    Returns
    -------
    mapping
        What `export.json` tells.

    Raises
    ------
    ConfigInvalid
        If the folder is there, or the release cannot be told in OMOP.
    Damaged
        If a table is not what was approved.
    StoreFull
    """
    _refuse_existing(folder)
    released = {name: release.table(name, columns) for name, columns in USED.items()}
    converted = convert(released, release.document)
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part")
    with storage_errors(str(folder)):
        try:
            make_folder(part)
            sweep(folder.parent, older_than=_DEAD_AFTER, pattern=f".{glob.escape(folder.name)}.{'?' * 32}.part")
            told = _write(part, release, converted)
            reached("export.written")
            _refuse_existing(folder)
            name_folder(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return told


def _write(part: Path, release: Release, converted: Converted) -> Mapping[str, Any]:
    files = {}
    for name, table in converted.tables.items():
        path = part / f"{name}.parquet"
        pq.write_table(table, path, compression="zstd", store_schema=False)
        fsync(path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        files[name] = {"n_rows": table.num_rows, "bytes": path.stat().st_size, "sha256": sha256}
    told = {
        "release_id": release.release_id,
        "approval": release.document["approval"],
        "model": ["OMOP CDM 5.4", "MI-CDM 1.0"],
        "concepts_version": str(concepts_file()["version"]),
        "tables": files,
        "unmapped": {group: dict(sorted(found.items())) for group, found in sorted(converted.unmapped.items())},
        "left_out": dict(sorted(converted.left_out.items())),
    }
    place_whole(part / "ddl.sql", f"{ddl()}\n".encode())
    place_whole(part / "export.json", f"{json.dumps(told, ensure_ascii=False, indent=1, sort_keys=True)}\n".encode())
    return told


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise ConfigInvalid(path=folder, problems=["it is there already; name a folder that is not"])
