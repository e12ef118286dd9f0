"""An S3 prefix as a store: a PUT makes an object appear."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from radlake.errors import ConfigInvalid
from radlake.lake.store.errors import answer_of, storage_errors
from radlake.lake.store.options import S3Options

__all__ = ["S3Store"]

# Of a large file 4 parts are in memory at once (s3fs alone would take 500 MB); 10,000 parts are 156 GiB.
_PART = 16 << 20


@dataclass(frozen=True)
class S3Store:
    """Objects below an S3 prefix: a PUT makes them appear."""

    root: str
    options: S3Options

    @property
    def fs(self) -> Any:
        return _filesystem(self.options, os.getpid())

    def uri(self, name: str) -> str:
        return f"{self.root}/{name}"

    def require_conditional_put(self) -> None:
        """Refuse a store on which two writers could overwrite each other's commit.

        Of two PUTs with `If-None-Match: *` to one name the second must be answered 412 (RFC 9110, 13.1.2). Some S3
        products ignore the header; it is tried once in a process.

        Raises
        ------
        ConfigInvalid
        """
        _require_conditional_put(self, os.getpid())

    def put(self, files: Mapping[str, Path]) -> None:
        with storage_errors(self.root):
            self.fs.put(
                [str(path) for path in files.values()],
                [self.uri(name) for name in files],
                batch_size=8,
                chunksize=_PART,
                max_concurrency=4,
            )
        for path in files.values():
            path.unlink()

    def read(self, name: str, *, offset: int, length: int) -> bytes:
        with storage_errors(self.uri(name)):
            return self.fs.cat_file(self.uri(name), start=offset, end=offset + length)

    def size(self, name: str) -> int | None:
        with storage_errors(self.uri(name)):
            try:
                return self.fs.info(self.uri(name), refresh=True)["size"]
            except FileNotFoundError:
                return None

    def list(self, prefix: str) -> Iterator[str]:
        bucket_and_prefix = self.root.removeprefix("s3://")
        folder, _, start = self.uri(prefix).rpartition("/")
        with storage_errors(self.root):
            found = sorted(self.fs.find(folder, prefix=start, refresh=True))
        return (name.removeprefix(f"{bucket_and_prefix}/") for name in found)

    def delete(self, name: str) -> None:
        with storage_errors(self.uri(name)), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.uri(name))


@cache
def _require_conditional_put(store: S3Store, pid: int) -> None:  # noqa: ARG001  (a fork asks again: harmless)
    bucket, _, key = store.uri(f".probe/{uuid.uuid4().hex}").removeprefix("s3://").partition("/")

    def answer() -> int:
        try:
            store.fs.call_s3("put_object", Bucket=bucket, Key=key, Body=b"", IfNoneMatch="*")
        except Exception as exc:
            status = answer_of(exc).get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status not in (412, 501):
                raise
            return status
        return 200

    with storage_errors(store.root):
        first, second = answer(), answer()
        if first == 200:
            store.fs.call_s3("delete_object", Bucket=bucket, Key=key)
    if (first, second) != (200, 412):
        raise ConfigInvalid(
            path=store.root,
            problems=[
                f"it answered {first} and {second} to two PUTs of one name with If-None-Match: *, and 200 and 412 are"
                " needed: two writers could overwrite each other's commits",
                "use a store with conditional PUT (AWS S3, Ceph RGW, MinIO), or a local folder",
            ],
        )


@cache
def _filesystem(options: S3Options, pid: int) -> Any:  # noqa: ARG001  (an event loop does not survive a fork)
    return options.filesystem()
