"""The S3 client against a server that behaves as scripted, and its signatures against AWS's own examples."""

from __future__ import annotations

import pickle
import socketserver
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from radlake.errors import ConfigInvalid, RadlakeError, SlowDown, SourceMissing, StoreFull, StoreUnavailable
from radlake.lake.store import S3Options
from radlake.lake.store.client import Bucket, S3Client, pause
from radlake.lake.store.errors import StoreRefused, storage_errors
from radlake.lake.store.http1 import ConnectionLost
from radlake.lake.store.policy import S3Policy, policy_from_file
from radlake.lake.store.signature import UNSIGNED, Credentials, encoded_path, encoded_query, signed_headers

EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_SLOW = b"<Error><Code>SlowDown</Code></Error>"
BUSY = b"HTTP/1.1 503 Slow Down\r\nRetry-After: 7\r\nContent-Length: %d\r\n\r\n%b" % (len(_SLOW), _SLOW)
CLOSE = b""


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "payload", "signature"),
    [
        pytest.param(
            *("GET", "/test.txt", {}, {"range": "bytes=0-9"}, EMPTY),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            id="GET object",
        ),
        pytest.param(
            *("PUT", "/test$file.text", {}),
            {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            id="PUT object",
        ),
        pytest.param(
            *("GET", "/", {"lifecycle": ""}, {}, EMPTY),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            id="GET bucket lifecycle",
        ),
        pytest.param(
            *("GET", "/", {"max-keys": "2", "prefix": "J"}, {}, EMPTY),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            id="list objects",
        ),
    ],
)
def test_the_examples_of_the_s3_api_reference(method, path, query, headers, payload, signature):
    headers = signed_headers(
        method,
        encoded_path(path),
        encoded_query(query),
        {"host": "examplebucket.s3.amazonaws.com", **headers},
        payload_hash=payload,
        credentials=EXAMPLE,
        region="us-east-1",
        now=datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert headers["authorization"].endswith(f"Signature={signature}")


@given(key=st.text(min_size=1), query=st.dictionaries(st.text(min_size=1), st.text(), max_size=3), token=st.booleans())
def test_a_signature_is_the_one_of_botocore(key: str, query: dict[str, str], token: bool):
    if any("\ud800" <= letter <= "\udfff" for text in (key, *query, *query.values()) for letter in text):
        return
    secret_token = "t/+=" if token else ""
    path, asked = encoded_path(f"/bucket/{key}"), encoded_query(query)
    now = datetime.now(UTC)
    ours = signed_headers(
        "PUT",
        path,
        asked,
        {"host": "h:1"},
        payload_hash=UNSIGNED,
        credentials=Credentials("a", "s", secret_token),
        region="r",
        now=now,
    )
    request = AWSRequest("PUT", f"https://h:1{path}{f'?{asked}' if asked else ''}", headers={"host": "h:1"}, data=b"")
    request.context["timestamp"] = ours["x-amz-date"]
    request.headers["X-Amz-Date"] = ours["x-amz-date"]
    request.headers["X-Amz-Content-SHA256"] = UNSIGNED
    auth = S3SigV4Auth(BotoCredentials("a", "s", secret_token or None), "s3", "r")
    auth._modify_request_before_signing(request)
    request.headers.replace_header("X-Amz-Content-SHA256", UNSIGNED)
    text = auth.string_to_sign(request, auth.canonical_request(request))
    assert ours["authorization"].endswith(auth.signature(text, request))


def test_keys_are_in_no_text():
    options = S3Options(access_key="env:A", secret_key="env:B")
    client = S3Client(Bucket.at("http://h", "b", region="r", is_virtual=False), "r", lambda: EXAMPLE)
    shown = f"{EXAMPLE!r}{options!r}{client!r}"
    assert not any(secret in shown for secret in (EXAMPLE.access_key, EXAMPLE.secret_key, "env:"))


@dataclass
class Scripted:
    """What the server was sent: requests as text, and how often somebody connected."""

    port: int
    requests: list[bytes] = field(default_factory=list)
    n_connections: int = 0


@contextmanager
def server(answers: Sequence[bytes]) -> Iterator[Scripted]:
    """Answers one request after the other; CLOSE closes the connection instead, once the request has come."""
    left = list(answers)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            seen.n_connections += 1
            while line := self.rfile.readline():
                head, length = line, 0
                while (line := self.rfile.readline()).strip():
                    head += line
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                seen.requests.append(head + line + self.rfile.read(length))
                answer = left.pop(0)
                self.wfile.write(answer)
                if answer == CLOSE or answer.endswith(b"and close"):
                    return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as listening:
        seen = Scripted(listening.server_address[1])
        thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield seen
        finally:
            listening.shutdown()
            thread.join()


def client_of(seen: Scripted, slept: list[float]) -> closing[S3Client]:
    at = Bucket.at(f"http://127.0.0.1:{seen.port}", "b", region="r", is_virtual=False)
    return closing(S3Client(at, "r", lambda: EXAMPLE, sleep=slept.append, share=lambda: 0.5))


def test_it_waits_as_long_as_the_store_asks_and_keeps_its_connection():
    slept: list[float] = []
    with server([BUSY, OK, OK]) as seen, client_of(seen, slept) as client:
        assert client.ask("PUT", "a b", body=b"content").body == b"ok"
        assert client.ask("GET", "x").status == 200
    assert slept == [7.0]
    assert seen.n_connections == 1
    assert seen.requests[0].startswith(b"PUT /b/a%20b HTTP/1.1\r\n")
    assert seen.requests[0].endswith(b"content")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (BUSY, SlowDown),
        (b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n", StoreUnavailable),
        (CLOSE, StoreUnavailable),
        (b"nonsense\r\n\r\nand close", StoreUnavailable),
    ],
    ids=["slow down", "internal error", "closed", "no HTTP"],
)
def test_a_store_that_stays_busy_is_told_after_five_attempts(answer: bytes, error: type[RadlakeError]):
    slept: list[float] = []
    with (
        server([answer] * 5) as seen,
        client_of(seen, slept) as client,
        pytest.raises(error),
        storage_errors("s3://b/x"),
    ):
        client.ask("PUT", "x", body=b"content")
    assert (len(seen.requests), len(slept)) == (5, 4)


def test_a_kept_connection_that_the_store_has_closed_is_no_failure():
    slept: list[float] = []
    with server([OK + b"and close", OK]) as seen, client_of(seen, slept) as client:
        client.ask("PUT", "x", body=b"content")
        client.ask("PUT", "y", body=b"content")
    assert (slept, seen.n_connections) == ([], 2)


def test_chunked_answers_and_those_without_length():
    answers = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;x=1\r\nabc\r\n2\r\nde\r\n0\r\nt: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nto the end, and close",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
    )
    with server(answers) as seen, client_of(seen, []) as client:
        assert client.ask("GET", "a").body == b"abcde"
        assert client.ask("GET", "a").body == b"to the end, and close"
        assert client.ask("DELETE", "a", expect=(204,)).body == b""
        assert client.ask("HEAD", "a").headers["content-length"] == "99"


def test_an_answer_that_breaks_off_is_not_taken_for_whole():
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nand close"
    with server([cut] * 5) as seen, client_of(seen, []) as client, pytest.raises(ConnectionLost):
        client.ask("GET", "a")


@pytest.mark.parametrize(
    ("status", "code", "region", "error", "text"),
    [
        (403, "SignatureDoesNotMatch", "", SourceMissing, "permissions"),
        (507, "", "", StoreFull, "507"),
        (403, "QuotaExceeded", "", StoreFull, "QuotaExceeded"),
        (400, "AuthorizationHeaderMalformed", "cn-north-1", ConfigInvalid, "RADLAKE_S3_REGION.*cn-north-1"),
        (301, "", "eu-west-1", ConfigInvalid, "eu-west-1"),
        (403, "RequestTimeTooSkewed", "", ConfigInvalid, "clock"),
        (500, "InternalError", "", StoreUnavailable, "InternalError"),
    ],
)
def test_what_a_store_refuses_is_told_with_what_to_do(status, code, region, error, text):
    with pytest.raises(error, match=text) as caught, storage_errors("s3://b/x"):
        raise StoreRefused(status=status, code=code, region=region)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_pauses_double_are_shared_out_and_end():
    assert [pause(n, share=1.0) for n in range(4)] == [0.25, 0.5, 1.0, 2.0]
    assert pause(0, share=0.0) == 0.0
    assert pause(0, retry_after="3", share=0.5) == 3.0
    assert pause(0, retry_after="Wed, 21 Oct 2026 07:28:00 GMT", share=1.0) == 0.25
    assert pause(30, share=1.0) == pause(0, retry_after="9999", share=0.0) == 20.0


@pytest.mark.parametrize(
    ("endpoint", "is_virtual", "expected"),
    [
        ("", True, Bucket(True, "b.s3.cn-north-1.amazonaws.com", "")),
        ("https://s3.local:8443", False, Bucket(True, "s3.local:8443", "/b")),
        ("http://s3.local/gate/", False, Bucket(False, "s3.local", "/gate/b")),
        ("https://s3.local", True, Bucket(True, "b.s3.local", "")),
    ],
)
def test_where_a_bucket_is(endpoint: str, is_virtual: bool, expected: Bucket):
    assert Bucket.at(endpoint, "b", region="cn-north-1", is_virtual=is_virtual) == expected


def test_a_dot_in_the_name_of_a_bucket_keeps_it_in_the_path(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("K", "x")
    options = S3Options(access_key="env:K", secret_key="env:K", region="eu-west-1")
    assert options.client("imaging").bucket == Bucket(True, "imaging.s3.eu-west-1.amazonaws.com", "")
    assert options.client("my.imaging").bucket == Bucket(True, "s3.eu-west-1.amazonaws.com", "/my.imaging")
    context = options.client("imaging").context
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_keys_of_short_life_come_with_their_token(monkeypatch: pytest.MonkeyPatch):
    for name in "AST":
        monkeypatch.setenv(name, f"value-{name}")
    given = S3Options(access_key="env:A", secret_key="env:S", session_token="env:T")
    assert given.client("b").credentials() == Credentials("value-A", "value-S", "value-T")
    assert given.for_delta()["aws_session_token"] == "value-T"


def test_without_keys_the_chain_of_aws_is_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "credentials").write_text(
        "[imaging]\naws_access_key_id = A\naws_secret_access_key = S\naws_session_token = T\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "imaging")
    assert S3Options().client("b").credentials() == Credentials("A", "S", "T")


NOW = datetime(2026, 11, 22, tzinfo=UTC)


def test_a_policy_says_what_goes_with_an_object(tmp_path: Path):
    file = tmp_path / "policy.yaml"
    file.write_text(
        "encryption: aws:kms\nkms_key_id: k1\nobjects: {storage_class: STANDARD_IA, lock: COMPLIANCE, lock_days: 10}\n"
    )
    policy = policy_from_file(file)
    encryption = {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "k1",
    }
    assert policy.headers() == encryption, "tables are never locked"

    def locked_until(retain_until: datetime | None) -> str:
        headers = policy.object_headers(now=NOW, retain_until=retain_until)
        assert headers.items() >= {**encryption, "x-amz-storage-class": "STANDARD_IA"}.items()
        assert headers["x-amz-object-lock-mode"] == "COMPLIANCE"
        return headers["x-amz-object-lock-retain-until-date"]

    assert locked_until(None) == "2026-12-02T00:00:00Z"
    assert locked_until(NOW + timedelta(days=3)) == "2026-12-02T00:00:00Z"
    assert locked_until(NOW + timedelta(days=30)) == "2026-12-22T00:00:00Z"
    assert S3Policy().object_headers(now=NOW, retain_until=NOW + timedelta(days=9)) == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("encryption: rot13", "encryption"),
        ("kms_key_id: k1", "aws:kms"),
        ("objects: {lock: FOREVER}", "objects.lock"),
        ("lock: COMPLIANCE", "lock"),
        ("[", "cannot be read"),
    ],
)
def test_a_policy_that_is_not_understood_is_refused(tmp_path: Path, text: str, problem: str):
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(ConfigInvalid, match=problem):
        policy_from_file(tmp_path / "policy.yaml")
