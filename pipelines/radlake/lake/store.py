"""Where bytes lie: a local folder or an S3 prefix, with the same verbs.

A file appears whole or not at all, and is never changed afterwards. Which files make up a table is the log's business
(`tables`), what is in an object is `objects`'.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from radlake.config import resolve_secret
from radlake.errors import ConfigInvalid, RadlakeError, SourceMissing, StoreFull, StoreUnavailable

__all__ = [
    "LocalStore",
    "S3Options",
    "S3Store",
    "Store",
    "fsync",
    "make_folder",
    "open_store",
    "storage_errors",
    "sweep",
]

# Of a large file 4 parts are in memory at once (s3fs alone would take 500 MB); 10,000 parts are 156 GiB.
_PART = 16 << 20

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_CODES = {"QuotaExceeded", "InsufficientCapacity", "XMinioStorageFull", "507"}
_REFUSED_CODES = {"AccessDenied", "InvalidAccessKeyId", "InvalidRange", "NoSuchBucket", "SignatureDoesNotMatch", "403"}
_CODE = re.compile(r"<Code>(\w+)</Code>")
# Whose exceptions come from the store; `_internal` is delta-rs.
_STORE_MODULES = {"_duckdb", "_internal", "aiobotocore", "aiohttp", "botocore", "duckdb", "fsspec"}


@dataclass(frozen=True, kw_only=True)
class S3Options:
    """How to reach an S3 store. Keys are references that are resolved at use; empty ones follow AWS's own chain."""

    endpoint_url: str = ""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    region: str = ""

    def for_delta(self) -> dict[str, str]:
        """Options of delta-rs. Commits need `If-None-Match` (conditional PUT), never a lock service."""
        options = {"aws_conditional_put": "etag"}
        if self.endpoint_url:
            options |= {"aws_endpoint_url": self.endpoint_url, "aws_allow_http": "true"}
        if self.endpoint_url or self.region:
            options["aws_region"] = self.region or "us-east-1"
        if self.access_key:
            options["aws_access_key_id"] = resolve_secret(self.access_key)
            options["aws_secret_access_key"] = resolve_secret(self.secret_key)
        return options

    def filesystem(self) -> Any:
        """The s3fs file system of these options."""
        import s3fs  # 0.7 s: only when the store is S3

        keys: dict[str, Any] = {}
        if self.access_key:
            keys = {"key": resolve_secret(self.access_key), "secret": resolve_secret(self.secret_key)}
        return s3fs.S3FileSystem(
            endpoint_url=self.endpoint_url or None,
            use_listings_cache=False,
            default_fill_cache=False,
            config_kwargs={
                "retries": {"max_attempts": 3, "mode": "standard"},
                "connect_timeout": 10,
                "read_timeout": 60,
            },
            **keys,
        )


class Store(Protocol):
    """A root that holds immutable files, named by `/`-separated paths below it."""

    def uri(self, name: str) -> str: ...
    def put(self, files: Mapping[str, Path]) -> None: ...
    def read(self, name: str, *, offset: int, length: int) -> bytes: ...
    def size(self, name: str) -> int | None: ...
    def list(self, prefix: str) -> Iterator[str]: ...
    def delete(self, name: str) -> None: ...


def open_store(url: str, *, options: S3Options | None = None) -> Store:
    if url.startswith("s3://"):
        return S3Store(url.rstrip("/"), options or S3Options())
    return LocalStore(Path(url.removeprefix("file://")))


@dataclass(frozen=True)
class LocalStore:
    """Files below a local folder: a rename makes them appear, fsync makes them stay."""

    root: Path

    def uri(self, name: str) -> str:
        return str(self.root / name)

    def put(self, files: Mapping[str, Path]) -> None:
        """Move local files to their names: durable when this returns."""
        folders = set()
        with storage_errors(str(self.root)):
            for name, source in files.items():
                target = self.root / name
                make_folder(target.parent)
                fsync(source)
                try:
                    source.replace(target)
                except OSError as exc:
                    if exc.errno != errno.EXDEV:
                        raise
                    self._copy_in(source, target)
                folders.add(target.parent)
            for folder in folders:
                fsync(folder)

    def _copy_in(self, source: Path, target: Path) -> None:
        part = target.parent / f".{target.name}.{uuid.uuid4().hex}.part"
        try:
            shutil.copyfile(source, part)
            fsync(part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        source.unlink()

    def read(self, name: str, *, offset: int, length: int) -> bytes:
        with storage_errors(self.uri(name)), (self.root / name).open("rb") as file:
            return os.pread(file.fileno(), length, offset)

    def size(self, name: str) -> int | None:
        try:
            return (self.root / name).stat().st_size
        except FileNotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[str]:
        """Names below a prefix, sorted; files that are still being written are not listed."""
        start = self.root / prefix
        start = start if prefix == "" or start.is_dir() else start.parent
        for folder, folders, names in os.walk(start):
            folders.sort()
            for name in sorted(names):
                path = (Path(folder) / name).relative_to(self.root).as_posix()
                if path.startswith(prefix) and not name.startswith("."):
                    yield path

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)


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
            status = _answer(exc).get("ResponseMetadata", {}).get("HTTPStatusCode")
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


@contextlib.contextmanager
def storage_errors(path: str, *, let_through: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what a file system or an object store raises into our errors, where it enters."""
    try:
        yield
    except (RadlakeError, *let_through):
        raise
    except FileNotFoundError as exc:
        raise SourceMissing(path=path) from exc
    except Exception as exc:
        code = _code(exc)
        if getattr(exc, "errno", None) in _FULL or code in _FULL_CODES or "No space left on device" in str(exc):
            raise StoreFull(path=path, reason=code or "no space left") from exc
        is_of_store = isinstance(exc, OSError) or type(exc).__module__.partition(".")[0] in _STORE_MODULES
        if not path.startswith("s3://") or not is_of_store:
            raise
        if isinstance(exc, PermissionError) or code in _REFUSED_CODES:
            raise SourceMissing(path=path) from exc
        raise StoreUnavailable(path=path, reason=code or type(exc).__name__) from exc


def _answer(exc: BaseException) -> dict[str, Any]:
    """What S3 answered, as botocore keeps it; s3fs hides that exception in the cause of an OSError."""
    return getattr(exc, "response", None) or getattr(exc.__cause__, "response", None) or {}


def _code(exc: BaseException) -> str:
    if code := _answer(exc).get("Error", {}).get("Code"):
        return str(code)
    match = _CODE.search(str(exc))  # delta-rs
    return match[1] if match else ""


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they survive a loss of power."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        fsync(folder.parent)


def fsync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path, *, older_than: timedelta, pattern: str = "*") -> None:
    """Remove what dead processes left in a local folder for files that are being made."""
    limit = time.time() - older_than.total_seconds()
    for entry in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            if entry.stat().st_mtime < limit:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
