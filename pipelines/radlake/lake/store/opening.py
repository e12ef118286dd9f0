"""The verbs of a store, and which store a URL means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Protocol

from radlake.lake.store.local import LocalStore
from radlake.lake.store.options import S3Options
from radlake.lake.store.s3 import S3Store

__all__ = ["Store", "open_store"]


class Store(Protocol):
    """A root that holds immutable files, named by `/`-separated paths below it."""

    def uri(self, name: str) -> str: ...
    def put(self, files: Mapping[str, Path]) -> None: ...
    def archive(self, name: str, source: Path, *, retain_until: datetime | None = None) -> None: ...
    def read(self, name: str, *, offset: int, length: int) -> bytes: ...
    def size(self, name: str) -> int | None: ...
    def list(self, prefix: str) -> Iterator[str]: ...
    def lock_of(self, name: str) -> str: ...
    def forget_older(self, name: str) -> None: ...
    def delete(self, name: str) -> None: ...


def open_store(url: str, *, options: S3Options | None = None) -> Store:
    if url.startswith("s3://"):
        return S3Store(url.rstrip("/"), options or S3Options())
    return LocalStore(Path(url.removeprefix("file://")))
