"""An S3 prefix as a store: a PUT makes an object appear."""

from __future__ import annotations

import base64
import contextlib
import mmap
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from isal import isal_zlib

from radlake.errors import ConfigInvalid, ObjectLocked
from radlake.lake.store.client import S3Client
from radlake.lake.store.errors import StoreRefused, storage_errors
from radlake.lake.store.http1 import Answer, Body
from radlake.lake.store.options import S3Options

__all__ = ["S3Store"]

# One PUT is one request, and one part what a lost connection costs. 10,000 parts are the most that S3 takes.
_LARGEST_PUT = 32 << 20
_PART = 16 << 20
_MOST_PARTS = 10_000
_AT_ONCE = 8
_UPLOAD_ID = re.compile(rb"<UploadId>([^<]+)</UploadId>")


@dataclass(frozen=True)
class S3Store:
    """Objects below an S3 prefix."""

    root: str
    options: S3Options

    @property
    def fs(self) -> Any:
        """The s3fs file system, for libraries that want one."""
        return _filesystem(self.options, os.getpid())

    @property
    def client(self) -> S3Client:
        return _client(self.options, self._place[0], os.getpid())

    @cached_property
    def _place(self) -> tuple[str, str]:
        bucket, _, prefix = self.root.removeprefix("s3://").partition("/")
        return bucket, f"{prefix}/" if prefix else ""

    def uri(self, name: str) -> str:
        return f"{self.root}/{name}"

    def key(self, name: str) -> str:
        """Name of an object in its bucket."""
        return self._place[1] + name

    def require_conditional_put(self) -> None:
        """Refuse a store on which two writers could overwrite each other's commit.

        Of two PUTs with `If-None-Match: *` to one name the second must be answered 412 (RFC 9110, 13.1.2). Some S3
        products ignore the header; it is tried once in a process.

        Raises
        ------
        ConfigInvalid
        """
        self._require_encryption()
        _require_conditional_put(self, os.getpid())

    def make_bucket(self) -> None:
        """Make the bucket, unless it is there."""
        bucket = self._place[0]
        with storage_errors(self.root):
            if not self.fs.exists(bucket):
                self.fs.mkdir(bucket)

    def put(self, files: Mapping[str, Path]) -> None:
        """Send local files to their names and remove them here."""
        self._require_encryption()
        headers = self.options.policy.headers()
        with storage_errors(self.root):
            _ = self.client  # before the threads, of which each would make one of its own
            _at_once([partial(self._send, name, path, headers) for name, path in files.items()])
        for path in files.values():
            path.unlink()

    def archive(self, name: str, source: Path, *, retain_until: datetime | None = None) -> None:
        """Send one file as a record, which the policy may lock, and remove it here."""
        self._require_encryption()
        headers = self.options.policy.object_headers(now=datetime.now(UTC), retain_until=retain_until)
        with storage_errors(self.uri(name)):
            self._send(name, source, headers)
        source.unlink()

    def read(self, name: str, *, offset: int, length: int) -> bytes:
        wanted = {"range": f"bytes={offset}-{offset + length - 1}"}
        if not length:
            return b""
        with storage_errors(self.uri(name)):
            return self.client.ask("GET", self.key(name), headers=wanted, expect=(206,)).body

    def size(self, name: str) -> int | None:
        with storage_errors(self.uri(name)):
            answer = self.client.ask("HEAD", self.key(name), expect=(200, 404))
        return int(answer.headers["content-length"]) if answer.status == 200 else None

    def list(self, prefix: str) -> Iterator[str]:
        bucket_and_prefix = self.root.removeprefix("s3://")
        folder, _, start = self.uri(prefix).rpartition("/")
        with storage_errors(self.root):
            found = sorted(self.fs.find(folder, prefix=start, refresh=True))
        return (name.removeprefix(f"{bucket_and_prefix}/") for name in found)

    def lock_of(self, name: str) -> str:
        """Why the store refuses to delete an object now: the kind of lock and its end; empty when it does not."""
        with storage_errors(self.uri(name)):
            found = self.client.ask("HEAD", self.key(name), expect=(200, 404))
        try:
            _refuse_locked(self.uri(name), found)
        except ObjectLocked as exc:
            return f"{exc.facts['mode']} until {exc.facts['until']}"
        return ""

    def forget_older(self, name: str) -> None:
        """Delete what bore the name before, and what deletions left behind a marker, in a bucket with versions."""
        key = self.key(name)
        with storage_errors(self.uri(name)):
            asked = {"versions": "", "prefix": key, "encoding-type": "url"}
            listed = self.client.ask("GET", "", query=asked).body.decode()
            for entry in re.findall(r"<(?:Version|DeleteMarker)>.*?</(?:Version|DeleteMarker)>", listed, re.DOTALL):
                told = dict(re.findall(r"<(Key|VersionId|IsLatest)>(.*?)</", entry))
                if unquote(told["Key"]) == key and told["IsLatest"] == "false":
                    query = {"versionId": told["VersionId"]}
                    self.client.ask("DELETE", key, query=query, expect=(200, 204, 404))

    def delete(self, name: str) -> None:
        """Remove an object with all its versions; harmless when it is not there.

        In a bucket with versions (one with object lock has them) a plain DELETE would only hide it.

        Raises
        ------
        ObjectLocked
            Nothing is hidden or removed then.
        """
        key = self.key(name)
        with storage_errors(self.uri(name)):
            while True:
                found = self.client.ask("HEAD", key, expect=(200, 404))
                version = found.headers.get("x-amz-version-id", "")
                if found.status == 404 and not (version and found.headers.get("x-amz-delete-marker")):
                    return
                _refuse_locked(self.uri(name), found)
                query = {"versionId": version} if version else {}
                self.client.ask("DELETE", key, query=query, expect=(200, 204, 404))
                if not version:
                    return

    def _require_encryption(self) -> None:
        if self.options.policy.encryption:
            _require_encryption(self, os.getpid())

    def _send(self, name: str, path: Path, headers: Mapping[str, str]) -> None:
        with _content(path) as content:
            try:
                if len(content) <= _LARGEST_PUT:
                    self.client.ask("PUT", self.key(name), headers={**headers, **_checksum(content)}, body=content)
                else:
                    self._send_parts(self.key(name), content, headers)
            except StoreRefused as exc:
                raise _policy_refused(exc, self.root, headers) from exc

    def _send_parts(self, key: str, content: Body, headers: Mapping[str, str]) -> None:
        """A multipart upload; the object appears with the last request. RGW heeds no If-None-Match there."""
        begun = self.client.ask(
            "POST", key, query={"uploads": ""}, headers={**headers, "x-amz-checksum-algorithm": "CRC32"}
        )
        found = _UPLOAD_ID.search(begun.body)
        upload = {"uploadId": found[1].decode() if found else ""}
        size = max(_PART, -(-len(content) // _MOST_PARTS))

        def send(number: int) -> str:
            part = memoryview(content)[(number - 1) * size : number * size]
            with part:
                sums = _checksum(part)
                query = {**upload, "partNumber": str(number)}
                etag = self.client.ask("PUT", key, query=query, headers=sums, body=part).headers["etag"]
            crc = sums["x-amz-checksum-crc32"]
            return (
                f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><ChecksumCRC32>{crc}</ChecksumCRC32></Part>"
            )

        try:
            parts = _at_once([partial(send, number) for number in range(1, -(-len(content) // size) + 1)])
            body = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()
            self._complete(key, upload, body, n_bytes=len(content))
        except BaseException:
            with contextlib.suppress(Exception):  # what stays is invisible, and the bucket's rule removes it
                self.client.ask("DELETE", key, query=upload, expect=(204, 404))
            raise

    def _complete(self, key: str, upload: Mapping[str, str], body: bytes, *, n_bytes: int) -> None:
        try:
            done = self.client.ask("POST", key, query=upload, body=body)
        except StoreRefused as exc:
            # Asked twice, since the first answer was lost: then the upload is gone, and the object is there.
            there = self.client.ask("HEAD", key, expect=(200, 404)) if exc.code == "NoSuchUpload" else Answer(404, {})
            if there.headers.get("content-length") != str(n_bytes) or there.status != 200:
                raise
            return
        if b"<Error>" in done.body:  # S3 answers 200 before it knows
            raise StoreRefused(status=500, code="InternalError")


@cache
def _require_conditional_put(store: S3Store, pid: int) -> None:  # noqa: ARG001  (a fork asks again: harmless)
    key = store.key(f".probe/{uuid.uuid4().hex}")

    def answer() -> int:
        condition = {"if-none-match": "*", **store.options.policy.headers()}
        try:
            return store.client.ask("PUT", key, headers=condition, expect=(200, 412)).status
        except StoreRefused as exc:
            if exc.status != 501:
                raise
            return exc.status

    with storage_errors(store.root):
        first, second = answer(), answer()
        if first == 200:
            store.client.ask("DELETE", key, expect=(200, 204, 404))
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
def _require_encryption(store: S3Store, pid: int) -> None:  # noqa: ARG001  (a fork asks again: harmless)
    """Refuse a store that takes the header and does not encrypt: RGW without keys of its own does so with AES256."""
    key, headers = store.key(f".probe/{uuid.uuid4().hex}"), store.options.policy.headers()
    with storage_errors(store.root):
        try:
            answer = store.client.ask("PUT", key, headers=headers)
        except StoreRefused as exc:
            raise _policy_refused(exc, store.root, headers) from exc
        store.client.ask("DELETE", key, expect=(200, 204, 404))
    if (said := answer.headers.get("x-amz-server-side-encryption", "")) != store.options.policy.encryption:
        problem = (
            f"encryption: {store.options.policy.encryption} was asked for, and the store answered {said or 'nothing'};"
            " give it keys for that, or name another encryption in RADLAKE_S3_POLICY"
        )
        raise ConfigInvalid(path=store.root, problems=[problem])


def _policy_refused(exc: StoreRefused, root: str, headers: Mapping[str, str]) -> Exception:
    """Why an object was refused, when it is for what the policy asks."""
    is_policy = exc.status in (400, 501) or "kms" in f"{exc.code} {exc.message}".lower()
    if not headers or not is_policy or exc.region:
        return exc
    asked = ", ".join(f"{name.removeprefix('x-amz-')}: {value}" for name, value in headers.items())
    problems = [
        f"it refused an object ({exc.code}) with {asked}",
        "a lock needs a bucket that was made with object lock, a storage class and an encryption key one that the store"
        " knows; correct RADLAKE_S3_POLICY or the store",
    ]
    return ConfigInvalid(path=root, problems=problems)


def _refuse_locked(uri: str, found: Answer) -> None:
    """Tell of a lock before the store only says 403."""
    until = found.headers.get("x-amz-object-lock-retain-until-date", "")
    mode = found.headers.get("x-amz-object-lock-mode", "")
    if found.headers.get("x-amz-object-lock-legal-hold", "").upper() == "ON":
        raise ObjectLocked(path=uri, mode="legal hold", until="it is lifted")
    if mode and until and datetime.fromisoformat(until.replace("Z", "+00:00")) > datetime.now(UTC):
        raise ObjectLocked(path=uri, mode=mode, until=until)


def _at_once(calls: list[Callable[[], Any]]) -> Iterable[Any]:
    """The results of all calls, in order."""
    if len(calls) == 1:
        return [calls[0]()]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda call: call(), calls))


@contextlib.contextmanager
def _content(path: Path) -> Iterator[Body]:
    with path.open("rb") as file:
        if not path.stat().st_size:  # nothing cannot be mapped
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            yield view


def _checksum(content: Body) -> dict[str, str]:
    """What AWS compares the bytes with; of other products some do not look at it."""
    crc = isal_zlib.crc32(content).to_bytes(4, "big")
    return {"x-amz-checksum-crc32": base64.b64encode(crc).decode("ascii")}


@cache
def _filesystem(options: S3Options, pid: int) -> Any:  # noqa: ARG001  (an event loop does not survive a fork)
    return options.filesystem()


@cache
def _client(options: S3Options, bucket: str, pid: int) -> S3Client:  # noqa: ARG001  (a fork would share connections)
    return options.client(bucket)
