"""Series objects: one immutable stored ZIP of Part-10 files for each series and harvest.

Stored, not compressed: every instance is one range read, and any ZIP tool opens the whole (APPNOTE.TXT 4.4.5,
method 0). The bytes follow from the members alone and the name from the bytes, so doing a series again writes the
same file. Which instance lies where is the table `dicom.instance`'s to say; how the ZIP is laid out is `storedzip`'s.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import xxhash

from radlake.commit_points import reached
from radlake.errors import SourceMissing
from radlake.lake.store import S3Options, Store, open_store, storage_errors
from radlake.lake.storedzip import PackedMember, StoredZip

__all__ = ["MemberLost", "ObjectStore", "PackedSeries"]


class MemberLost(Exception):
    """The bytes of a member cannot be had to their end."""


@dataclass(frozen=True)
class PackedSeries:
    """A series object: its path below the store's root, its size and its members in order."""

    path: str
    n_bytes: int
    members: list[PackedMember]


@dataclass(frozen=True)
class ObjectStore:
    """Immutable objects below a local folder or `s3://bucket/prefix`; they are built in `scratch` first."""

    url: str
    storage_options: S3Options | None = None
    scratch: Path = Path()

    @cached_property
    def store(self) -> Store:
        return open_store(self.url, options=self.storage_options)

    def pack_series(
        self,
        prefix: str,
        members: Iterable[tuple[str, bytes | Iterable[bytes | memoryview]]],
        *,
        retain_until: datetime | None = None,
    ) -> PackedSeries:
        """Store one ZIP `<prefix>.<digest>.zip`; whole or not at all, once. Without a member nothing is stored.

        Parameters
        ----------
        prefix : str
            `<hospital>/<study>/<series>`.
        members : iterable of (name, content)
            `<SOP Instance UID>.dcm` and its bytes, or pieces of them, in the order in which they shall lie. A member
            whose pieces raise MemberLost is left out.
        retain_until : datetime, optional
            Until when an S3 store with a policy that locks shall refuse to delete it, at least (UTC).

        Raises
        ------
        StoreFull, StoreUnavailable
            Nothing is visible then.
        """
        with storage_errors(str(self.scratch)):
            self.scratch.mkdir(parents=True, exist_ok=True)
        built = self.scratch / f"object-{uuid.uuid4().hex}.zip"
        try:
            with storage_errors(str(self.scratch)), built.open("w+b", buffering=0) as file, StoredZip(file) as archive:
                for name, content in members:
                    with suppress(MemberLost):
                        archive.add(name, [content] if isinstance(content, bytes) else content)
            listing = "".join(f"{member.name} {member.digest}\n" for member in archive.members)
            path = f"{prefix}.{xxhash.xxh3_64_hexdigest(listing.encode('ascii'))}.zip"
            n_bytes = built.stat().st_size
            if archive.members and self.store.size(path) != n_bytes:
                reached("object.built")
                self.store.archive(path, built, retain_until=retain_until)
                reached("object.stored")
        finally:
            built.unlink(missing_ok=True)
        return PackedSeries(path, n_bytes, archive.members)

    def read(self, path: str, offset: int, length: int) -> bytes:
        """One range of an object.

        Raises
        ------
        SourceMissing
            If the object does not exist or ends before the range does.
        """
        content = self.store.read(path, offset=offset, length=length) if length else b""
        if len(content) != length:
            raise SourceMissing(path=self.store.uri(path))
        return content

    def size(self, path: str) -> int:
        """Bytes of an object."""
        n_bytes = self.store.size(path)
        if n_bytes is None:
            raise SourceMissing(path=self.store.uri(path))
        return n_bytes

    def list(self, prefix: str = "") -> Iterator[str]:
        """Paths of the objects whose path begins with `prefix`, sorted."""
        return self.store.list(prefix)

    def delete(self, path: str) -> None:
        """Remove an object; harmless when it is not there."""
        self.store.delete(path)
        reached("object.deleted")
