"""What a release holds: its document, its tables and its series objects, read from the store by who may pull it.

Whether it may be pulled is in two small files: `release.json` is there while it is approved, `state.json` tells others
whom to ask. Nothing else of the lake is read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from radlake.config import StoreSettings
from radlake.errors import ConfigInvalid, PermanentError, SourceMissing
from radlake.lake.store import S3Options, Store, open_store

__all__ = ["Damaged", "Member", "Release", "ReleaseClosed", "ReleaseUnknown", "SeriesObject", "open_release", "runs_of"]

_CHUNK = 8 << 20
_MOST_TOLD = 10
_PLAIN = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,128}")  # what may become the name of a file
_MEMBERS = ["sop_instance_uid", "object_path", "object_offset", "instance_bytes", "digest"]


class ReleaseClosed(PermanentError):
    sentence = "The release {release} cannot be pulled: {reason}. Ask {contact}."


class ReleaseUnknown(SourceMissing):
    sentence = (
        "{path} has no release {release}, or these keys may not read it.\nName the lake that has it with --lake or "
        "RADLAKE_LAKE; `radlake cohort releases` lists what a lake has."
    )


class Damaged(PermanentError):
    sentence = "{path} is not what was approved: {reason}. Pull it again; if that does not help, ask {contact}."


@dataclass(frozen=True)
class Member:
    """A Part-10 file in a series object: SOP Instance UID, first byte, length, XXH3-128."""

    name: str
    offset: int
    length: int
    digest: str


@dataclass(frozen=True)
class SeriesObject:
    """A series of a release, as one stored ZIP.

    Attributes
    ----------
    path : str
        Below `objects` of the release.
    row : mapping
        Its row of the table `series`.
    """

    path: str
    n_bytes: int
    digest: str
    person: str
    study_uid: str
    series_uid: str
    members: tuple[Member, ...]
    row: Mapping[str, Any] = field(repr=False)

    @property
    def place(self) -> str:
        """`person/study/series`."""
        return f"{self.person}/{self.study_uid}/{self.series_uid}"


@dataclass(frozen=True)
class Release:
    """A release that may be pulled.

    Attributes
    ----------
    document : mapping
        `release.json`: what it holds, and who approved it for whom, for what and until when.
    store : Store
        Its folder; series objects lie below `objects/`.
    """

    release_id: str
    document: Mapping[str, Any]
    store: Store = field(repr=False)

    @property
    def contact(self) -> str:
        return str(self.document["contact"])

    def table_bytes(self, name: str) -> bytes:
        """A table's Parquet file, verified.

        Raises
        ------
        Damaged
        """
        return self._verified(f"tables/{name}.parquet", self.document["tables"][name])

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A table, or some columns of it; verified.

        Raises
        ------
        Damaged
        """
        return _read(self.table_bytes(name), columns=columns)

    def metadata(self) -> Iterator[tuple[str, bytes]]:
        """Files for catalogues of research data (Croissant, RO-Crate, DataCite), verified.

        Raises
        ------
        Damaged
        """
        for name, told in self.document.get("metadata", {}).items():
            if not _PLAIN.fullmatch(name):
                raise ConfigInvalid(path="The release", problems=[f"{name!r} cannot be the name of a file"])
            yield name, self._verified(name, told)

    def _verified(self, path: str, told: Mapping[str, Any]) -> bytes:
        n_bytes = told["bytes"]
        pieces = [
            self.store.read(path, offset=start, length=min(_CHUNK, n_bytes - start))
            for start in range(0, n_bytes, _CHUNK)
        ]
        content = b"".join(pieces)
        if hashlib.sha256(content).hexdigest() != told["sha256"]:
            raise Damaged(path=self.store.uri(path), reason="its SHA-256 differs", contact=self.contact)
        return content

    @cached_property
    def series_rows(self) -> list[dict[str, Any]]:
        """The table `series`, in its order."""
        return self.table("series").to_pylist()

    @property
    def series_uids(self) -> set[str]:
        return {row["series_instance_uid"] for row in self.series_rows}

    def series(self, wanted: Sequence[str] = ()) -> Iterator[SeriesObject]:
        """Series objects with their members, in the order of the table; all, or those wanted by Series Instance UID.

        Raises
        ------
        ConfigInvalid
            If one is wanted that the release does not have.
        """
        instances = _read(self.table_bytes("instance"), columns=_MEMBERS, read_dictionary=["object_path"])
        starts = runs_of(instances["object_path"])
        asked = set(wanted)
        rows = [row for row in self.series_rows if not asked or row["series_instance_uid"] in asked]
        _refuse_unknown(self, asked)
        for row in rows:
            yield _series_object(row, instances.slice(*starts[row["object_path"]]))


def open_release(settings: StoreSettings, release_id: str, *, today: date) -> Release:
    """A release that may be pulled today.

    Raises
    ------
    ReleaseClosed
        If it waits for approval, was revoked or has expired; it says whom to ask.
    ReleaseUnknown
        If there is no such release, or it may not be read with these keys.
    """
    if not _PLAIN.fullmatch(release_id):
        raise ConfigInvalid(path=release_id, problems=["it is neither a file nor the id of a release"])
    options = None if settings.is_local else S3Options.from_settings(settings)
    store = open_store(f"{settings.lake}/releases/{release_id}", options=options)
    if store.size("state.json") is None:
        raise ReleaseUnknown(path=settings.lake, release=release_id)
    told = _json(store, "state.json")
    if told["state"] != "approved":
        reason = (
            "it waits for approval"
            if told["state"] == "waiting"
            else "it was revoked, or somebody was withdrawn from it"
        )
        raise ReleaseClosed(release=release_id, reason=reason, contact=told["contact"])
    document = _json(store, "release.json")
    if date.fromisoformat(expires_on := document["approval"]["expires_on"]) < today:
        raise ReleaseClosed(release=release_id, reason=f"it expired on {expires_on}", contact=document["contact"])
    return Release(release_id, document, store)


def runs_of(values: pa.ChunkedArray) -> dict[str, tuple[int, int]]:
    """First row and number of rows of each value of a column whose equal values follow each other."""
    runs, start = dict[str, tuple[int, int]](), 0
    for run in values.value_counts().to_pylist():
        runs[run["values"]] = (start, run["counts"])
        start += run["counts"]
    return runs


def _json(store: Store, name: str) -> Any:
    n_bytes = store.size(name)
    if n_bytes is None:
        raise SourceMissing(path=store.uri(name))
    return json.loads(store.read(name, offset=0, length=n_bytes))


def _read(content: bytes, *, columns: Sequence[str] | None, read_dictionary: Sequence[str] = ()) -> pa.Table:
    """A Parquet file; pyarrow's `read_table` would import pandas first, which takes longer than many a pull."""
    with pq.ParquetFile(pa.BufferReader(content), read_dictionary=[*read_dictionary]) as file:
        return file.read(columns=columns and [*columns])


def _refuse_unknown(release: Release, asked: set[str]) -> None:
    known = release.series_uids
    unknown, problems = sorted(asked - known), []
    for uid in unknown[:_MOST_TOLD]:
        near = get_close_matches(uid, known, n=1)
        problems.append(f"the series {uid} is not in {release.release_id}" + (f"; nearest: {near[0]}" if near else ""))
    if len(unknown) > _MOST_TOLD:
        problems.append(f"nor are {len(unknown) - _MOST_TOLD:,} more of {len(asked):,}: is it of another release?")
    if problems:
        raise ConfigInvalid(path="The manifest", problems=problems)


def _series_object(row: Mapping[str, Any], instances: pa.Table) -> SeriesObject:
    columns = [instances[name].to_pylist() for name in _MEMBERS if name != "object_path"]
    members = tuple(Member(*values) for values in zip(*columns, strict=True))
    names = (row["person_pseudo_id"], row["study_instance_uid"], row["series_instance_uid"])
    if strange := [name for name in (*names, *(member.name for member in members)) if not _PLAIN.fullmatch(name)]:
        raise ConfigInvalid(path="The release", problems=[f"{name!r} cannot be the name of a file" for name in strange])
    return SeriesObject(row["object_path"], row["object_bytes"], row["object_digest"], *names, members, row)
