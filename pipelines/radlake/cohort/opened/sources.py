"""Where the bytes of an opened release come from: a folder that was pulled, or the store itself.

Both are values without open files: they go to the workers of a Dask cluster with the task that reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from radlake.cohort.pull import Release
from radlake.cohort.pull.released import Damaged
from radlake.errors import SourceMissing

__all__ = ["FolderSource", "Source", "StoreSource"]

Row = Mapping[str, Any]  # of the table `instance`


class Source(Protocol):
    """Tables and instances of one release."""

    @property
    def document(self) -> Mapping[str, Any]: ...
    def table(self, name: str) -> pa.Table: ...
    def head(self, row: Row) -> bytes:
        """A Part-10 file up to its pixels, or all of it when it has none."""
        ...

    def instance(self, row: Row) -> bytes:
        """A whole Part-10 file."""
        ...


@dataclass(frozen=True)
class FolderSource:
    """A folder that was pulled, as DICOM tree or series ZIPs."""

    folder: Path

    @property
    def document(self) -> Mapping[str, Any]:
        path = self.folder / "release.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise SourceMissing(path=path) from exc

    def table(self, name: str) -> pa.Table:
        path = self.folder / "tables" / f"{name}.parquet"
        if not path.is_file():
            raise SourceMissing(path=path)
        return pq.read_table(path)

    def head(self, row: Row) -> bytes:
        return self._read(row, row["pixel_offset"] or row["instance_bytes"])

    def instance(self, row: Row) -> bytes:
        return self._read(row, row["instance_bytes"])

    def _read(self, row: Row, length: int) -> bytes:
        study = Path(row["person_pseudo_id"]) / row["study_instance_uid"]
        path = self.folder / "dicom" / study / row["series_instance_uid"] / f"{row['sop_instance_uid']}.dcm"
        start = 0
        if not path.is_file():
            path, start = self.folder / "zip" / study / row["object_path"].rpartition("/")[2], row["object_offset"]
        if not path.is_file():
            told = f"{self.folder} (it has no pixels of series {row['series_instance_uid']}: pull it as dicom or zip)"
            raise SourceMissing(path=told)
        with path.open("rb") as file:
            file.seek(start)
            return file.read(length)


@dataclass(frozen=True)
class StoreSource:
    """The store: an instance is one range read, and looked at by its digest."""

    release: Release = field(repr=False)

    @property
    def document(self) -> Mapping[str, Any]:
        return self.release.document

    def table(self, name: str) -> pa.Table:
        return self.release.table(name)

    def head(self, row: Row) -> bytes:
        return self._read(row, row["pixel_offset"] or row["instance_bytes"])

    def instance(self, row: Row) -> bytes:
        content = self._read(row, row["instance_bytes"])
        if xxhash.xxh3_128_hexdigest(content) != row["digest"]:
            reason = f"{row['sop_instance_uid']} has another digest"
            raise Damaged(path=row["object_path"], reason=reason, contact=self.release.contact)
        return content

    def _read(self, row: Row, length: int) -> bytes:
        return self.release.store.read(f"objects/{row['object_path']}", offset=row["object_offset"], length=length)
