"""What Ceph RGW does otherwise than AWS, and what a policy asks of it: over TLS, with our client and s3fs."""

from __future__ import annotations

import socket
import uuid
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from radlake.errors import ConfigInvalid, ObjectLocked
from radlake.lake import Lake, S3Options
from radlake.lake.store import S3Store
from radlake.lake.store.errors import StoreRefused
from radlake.lake.store.policy import ObjectPolicy, S3Policy
from radlake.lake.store.signature import UNSIGNED, encoded_path, signed_headers
from support.rgw import Rgw

pytestmark = pytest.mark.rgw

MEMBERS = [("1.2.3.dcm", b"pixels" * 1000)]
KMS = S3Policy(encryption="aws:kms", kms_key_id="lake-key")


@pytest.fixture
def store(rgw: Rgw) -> S3Store:
    return S3Store(f"{rgw.bucket()}/lake", rgw.tls_options)


def file_of(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / uuid.uuid4().hex
    path.write_bytes(content)
    return path


def lake_of(url: str, restricted: Path, options: S3Options) -> Lake:
    return Lake(url=url, restricted=restricted, storage_options=options)


def test_everything_goes_over_tls(store: S3Store, tmp_path: Path):
    names = ["a b+c%.bin", "患者/é~.bin", "empty.bin", "large.bin"]
    contents = [b"one", b"two", b"", bytes(range(256)) * (160 << 10)]
    store.put({name: file_of(tmp_path, content) for name, content in zip(names, contents, strict=True)})
    assert list(store.list("")) == sorted(names)
    for name, content in zip(names, contents, strict=True):
        assert store.size(name) == len(content)
        assert store.read(name, offset=0, length=len(content)) == content
        assert store.fs.cat_file(store.uri(name)) == content, "s3fs reads what our client wrote"
        store.delete(name)
    assert list(tmp_path.iterdir()) == []
    assert list(store.list("")) == []


def test_a_multipart_upload_that_fails_leaves_nothing(store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    client, asked = store.client, type(store.client).ask

    def failing(self: object, method: str, key: str, **how: object) -> object:
        if how.get("query", {}).get("partNumber") == "3":
            raise ConnectionResetError
        return asked(client, method, key, **how)

    monkeypatch.setattr(type(client), "ask", failing)
    with pytest.raises(Exception, match="ConnectionResetError"):
        store.put({"large.bin": file_of(tmp_path, b"x" * (48 << 20))})
    monkeypatch.undo()
    assert b"<Upload>" not in client.ask("GET", "", query={"uploads": ""}).body
    assert store.size("large.bin") is None


def test_an_authority_that_is_not_trusted_is_a_matter_of_settings(rgw: Rgw, tmp_path: Path):
    store = S3Store(f"{rgw.bucket()}/lake", replace(rgw.tls_options, ca_file=""))
    with pytest.raises(ConfigInvalid, match="RADLAKE_S3_CA_FILE"):
        store.put({"x": file_of(tmp_path, b"x")})
    with pytest.raises(ConfigInvalid, match="authority in PEM"):
        replace(rgw.tls_options, ca_file=str(file_of(tmp_path, b"no certificate"))).client("b")


def test_s3fs_sends_over_tls_only_without_trailing_checksums(rgw: Rgw, tmp_path: Path):
    """botocore's default is a body without a length: 411 MissingContentLength (pyarrow and pyiceberg alike)."""
    url, fs = rgw.bucket(), rgw.tls_options.filesystem()
    fs.pipe_file(f"{url}/x", b"content")
    assert fs.cat_file(f"{url}/x") == b"content"
    ours, fs.config_kwargs = fs.config_kwargs, {}
    try:
        fs.connect(refresh=True)
        with pytest.raises(OSError):
            fs.pipe_file(f"{url}/y", b"content")
    finally:  # s3fs keeps one instance for all who ask alike
        fs.config_kwargs = ours
        fs.connect(refresh=True)
    assert not fs.exists(f"{url}/y")


def test_a_body_without_a_length_is_refused_and_an_empty_one_has_a_length(store: S3Store, rgw: Rgw):
    assert store.client.ask("PUT", store.key("empty")).status == 200
    assert store.size("empty") == 0
    host = rgw.endpoint_url.removeprefix("http://")
    path = encoded_path(f"/{store.root.removeprefix('s3://')}/x")
    headers = signed_headers(
        *("PUT", path, "", {"host": host}),
        payload_hash=UNSIGNED,
        credentials=store.client.credentials(),
        region="us-east-1",
        now=datetime.now(UTC),
    )
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", int(host.partition(":")[2]))) as raw:
        raw.sendall(f"PUT {path} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
        assert b" 411 " in raw.recv(100)


def test_a_conditional_put_is_kept_but_not_the_one_of_a_multipart_upload(store: S3Store):
    client, key = store.client, store.key("x")
    only_new = {"if-none-match": "*"}
    etag = client.ask("PUT", key, body=b"first", headers=only_new).headers["etag"]
    assert client.ask("PUT", key, body=b"second", headers=only_new, expect=(412,)).status == 412
    assert client.ask("PUT", key, body=b"third", headers={"if-match": etag.strip('"')}).status == 200
    etag = client.ask("HEAD", key).headers["etag"]
    assert client.ask("PUT", key, body=b"x", headers={"if-match": etag}, expect=(412,)).status == 412, "quoted: never"

    begun = client.ask("POST", key, query={"uploads": ""}).body.decode()
    upload = begun.partition("<UploadId>")[2].partition("</UploadId>")[0]
    part = client.ask("PUT", key, query={"uploadId": upload, "partNumber": "1"}, body=b"overwrites").headers["etag"]
    xml = (
        f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{part}</ETag></Part></CompleteMultipartUpload>"
    )
    client.ask("POST", key, query={"uploadId": upload}, headers=only_new, body=xml.encode())
    assert store.read("x", offset=0, length=10) == b"overwrites"


def test_a_file_that_s3fs_must_create_is_refused_with_an_error_of_its_own(store: S3Store):
    store.fs.pipe_file(store.uri("x"), b"first", mode="create")
    with pytest.raises(OSError):  # on RGW EINVAL; FileExistsError is an OSError too
        store.fs.pipe_file(store.uri("x"), b"second", mode="create")
    assert store.read("x", offset=0, length=5) == b"first"


def test_a_region_is_asked_for_only_where_a_bucket_is_made(rgw: Rgw, tmp_path: Path):
    elsewhere = replace(rgw.tls_options, region="cn-east-1")
    store = S3Store(f"{rgw.bucket()}/lake", elsewhere)
    store.put({"x": file_of(tmp_path, b"x")})
    assert store.size("x") == 1
    where = b"<CreateBucketConfiguration><LocationConstraint>cn-east-1</LocationConstraint></CreateBucketConfiguration>"
    with (
        closing(elsewhere.client(f"test-{uuid.uuid4().hex}")) as client,
        pytest.raises(StoreRefused, match="InvalidLocationConstraint"),
    ):
        client.ask("PUT", "", body=where)


def test_objects_and_tables_are_encrypted_by_policy(rgw: Rgw, tmp_path: Path):
    lake = lake_of(f"{rgw.bucket()}/lake", tmp_path, replace(rgw.tls_options, policy=KMS))
    series = lake.objects.pack_series("h1/1/2", MEMBERS)
    store = lake.objects.store
    assert isinstance(store, S3Store)
    stored = store.client.ask("HEAD", store.key(series.path)).headers
    assert stored["x-amz-server-side-encryption"] == "aws:kms"
    assert stored["x-amz-server-side-encryption-aws-kms-key-id"] == "lake-key"
    member = series.members[0]
    assert lake.objects.read(series.path, member.offset, member.length) == MEMBERS[0][1]


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        pytest.param(S3Policy(encryption="AES256"), "answered nothing", id="takes the header and does not encrypt"),
        pytest.param(S3Policy(encryption="aws:kms", kms_key_id="none"), "kms-key-id: none", id="no such key"),
        pytest.param(S3Policy(objects=ObjectPolicy(storage_class="COLD")), "storage-class: COLD", id="no such class"),
        pytest.param(
            S3Policy(objects=ObjectPolicy(lock="GOVERNANCE", lock_days=1)), "made with object lock", id="no lock"
        ),
    ],
)
def test_a_store_that_cannot_do_what_the_policy_asks_is_told(rgw: Rgw, tmp_path: Path, policy: S3Policy, problem: str):
    lake = lake_of(f"{rgw.bucket()}/lake", tmp_path, replace(rgw.tls_options, policy=policy))
    with pytest.raises(ConfigInvalid, match=problem):
        lake.objects.pack_series("h1/1/2", MEMBERS)
    assert list(lake.objects.list("")) == []


def test_a_locked_object_stays_and_says_until_when(rgw: Rgw, tmp_path: Path):
    policy = S3Policy(objects=ObjectPolicy(lock="COMPLIANCE", lock_days=1))
    options = replace(rgw.tls_options, policy=policy)
    bucket = f"test-{uuid.uuid4().hex}"
    with closing(options.client(bucket)) as client:
        client.ask("PUT", "", headers={"x-amz-bucket-object-lock-enabled": "true"})
    lake = lake_of(f"s3://{bucket}/lake", tmp_path, options)
    until = datetime.now(UTC) + timedelta(days=30)
    series = lake.objects.pack_series("h1/1/2", MEMBERS, retain_until=until)
    with pytest.raises(ObjectLocked, match=f"COMPLIANCE.*until {until:%Y-%m-%d}"):
        lake.objects.delete(series.path)
    assert list(lake.objects.list("")) == [series.path], "not even hidden behind a delete marker"

    store = S3Store(f"s3://{bucket}/lake/objects", replace(options, policy=S3Policy()))
    for _ in range(2):
        store.put({"free": file_of(tmp_path, b"x")})
    store.delete("free")
    versions = store.client.ask("GET", "", query={"versions": "", "prefix": store.key("free")}).body
    assert b"<Version>" not in versions, "of what is not locked no version is left"
