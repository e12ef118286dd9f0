"""Results that came home: their rows in the restricted zone, their objects below `results/` of the lake.

    results/RELEASE/PERSON/STUDY/INSTANCE.DIGEST.zip     stored ZIP: INSTANCE.dcm, then INSTANCE.json

Names are the release's. An object without a row is one that a kill left; taking the same folder again enters it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import xxhash

from radlake.cohort.pull.chunks import file_digest
from radlake.errors import SourceMissing
from radlake.lake import Lake, ObjectStore, duck
from radlake.lake.store import make_folder, storage_errors
from radlake.machine import fsync

__all__ = ["TABLE", "get_results", "results_store", "taken_results"]

TABLE = "research.derived_object"
_PIECE = 8 << 20


def results_store(lake: Lake) -> ObjectStore:
    """Where the objects lie."""
    return ObjectStore(f"{lake.url}/results", storage_options=lake.storage_options, scratch=lake.scratch)


def taken_results(lake: Lake, release_id: str | None = None) -> list[dict[str, Any]]:
    """Rows of a release, or of all, in the order of the table."""
    if not lake.exists(TABLE):
        return []
    where, values = ("", []) if release_id is None else ("WHERE release_id = ?", [release_id])
    with duck.connect(lake, zone="restricted", tables=[TABLE]) as connection:
        found = connection.sql(f"FROM {TABLE} {where} ORDER BY ALL", params=values)
        return found.to_arrow_table().to_pylist()


def get_results(lake: Lake, release_id: str, folder: Path) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """Write every result of a release below a folder as its researcher wrote it; one that is there stays.

    Yields
    ------
    tuple of mapping and bool
        Its row, and whether it was written now.

    Raises
    ------
    SourceMissing
        If an object is gone, or is not what was taken.
    StoreFull
    """
    store = results_store(lake)
    for row in taken_results(lake, release_id):
        path = folder / row["person_pseudo_id"] / row["study_instance_uid"] / f"{row['sop_instance_uid']}.dcm"
        is_new = not (path.is_file() and file_digest(path) == row["digest"])
        if is_new:
            with storage_errors(str(folder)):
                make_folder(path.parent)
                _place(store, row, path.with_suffix(".json"), start="provenance_offset", length="provenance_bytes")
                _place(store, row, path, start="object_offset", length="instance_bytes", digest=row["digest"])
        yield row, is_new


def _place(
    store: ObjectStore, row: Mapping[str, Any], path: Path, *, start: str, length: str, digest: str = ""
) -> None:
    """A member of an object as a file that appears whole or not at all."""
    part, state = path.with_name(f".{path.name}.part"), xxhash.xxh3_128()
    try:
        with part.open("wb") as file:
            for at in range(0, row[length], _PIECE):
                piece = store.read(row["object_path"], row[start] + at, min(_PIECE, row[length] - at))
                state.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if digest and state.hexdigest() != digest:
            raise SourceMissing(path=f"{store.store.uri(row['object_path'])} as it was taken (its digest differs)")
        part.replace(path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    fsync(path.parent)
