"""Put: objects of 0.5 MiB and of 50 MiB into a real Ceph RGW, with TLS and without.

Counted is the client alone. Every contestant sends from files, waits for each answer, and checks the certificate. s3fs,
botocore and pyarrow are told not to send trailing checksums: with them they cannot write to RGW over TLS.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.measure import Done, Place, Prepare, compare, print_table

__all__ = ["main"]

_BUCKET = "bench"
_CHECKSUMS = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}


@dataclass(frozen=True)
class _Gate:
    """A way into the store, and what is sent there: one file, many times."""

    endpoint_url: str
    ca_file: str
    keys: Path
    file: Path
    n_puts: int

    @property
    def is_tls(self) -> bool:
        return self.endpoint_url.startswith("https")

    def key(self, name: str) -> str:
        return (self.keys / name).read_text()


def main(place: Place, *, scale: float) -> None:
    """200 small objects and 5 large ones at scale 1."""
    if not all(map(shutil.which, ("radosgw", "ceph-mon", "ceph-osd"))):
        print("skipped: all puts, Ceph is not installed")
        return
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from support.rgw import running_rgw  # pyright: ignore[reportMissingImports]

    with running_rgw() as rgw:
        rgw.options.filesystem().mkdir(_BUCKET)
        for n_bytes, n_puts in ((512 << 10, max(10, round(200 * scale))), (50 << 20, max(2, round(5 * scale)))):
            file = place.folder / "object"
            file.write_bytes(os.urandom(n_bytes))
            for endpoint_url in (rgw.endpoint_url, rgw.tls_endpoint_url):
                gate = _Gate(endpoint_url, str(rgw.ca_file), rgw.folder, file, n_puts)
                _compare_puts(gate, place=place, n_bytes=n_bytes)


def _compare_puts(gate: _Gate, *, place: Place, n_bytes: int) -> None:
    contestants: dict[str, Prepare] = {
        "radlake": partial(_sending, _radlake, gate),
        "s3fs": partial(_sending, _s3fs, gate),
        "botocore": partial(_sending, _botocore, gate),
        "pyarrow": partial(_sending, _pyarrow, gate),
    }
    measured = compare(contestants, place=place, may_fail={"botocore", "pyarrow"})
    title = f"PUT of {n_bytes / (1 << 20):g} MiB, {'TLS' if gate.is_tls else 'http'}"
    print_table(measured, title=title, unit="object", peers=["s3fs", "botocore"])


def _sending(connect: Callable[[_Gate], Callable[[str], object]], gate: _Gate, out: Path) -> Callable[[], Done]:
    put = connect(gate)
    put(f"{out.name}/first")

    def run() -> Done:
        for number in range(gate.n_puts):
            put(f"{out.name}/{number}")
        return Done(gate.n_puts)

    return run


def _radlake(gate: _Gate) -> Callable[[str], object]:
    from radlake.lake.store import S3Options, S3Store

    options = S3Options(
        endpoint_url=gate.endpoint_url,
        ca_file=gate.ca_file,
        access_key=f"file:{gate.keys / 'access_key'}",
        secret_key=f"file:{gate.keys / 'secret_key'}",
    )
    store = S3Store(f"s3://{_BUCKET}", options)

    def put(name: str) -> None:
        link = gate.file.with_name("link")
        link.hardlink_to(gate.file)  # a store removes what it has taken
        store.archive(name, link)

    return put


def _s3fs(gate: _Gate) -> Callable[[str], object]:
    import s3fs

    filesystem = s3fs.S3FileSystem(
        key=gate.key("access_key"),
        secret=gate.key("secret_key"),
        endpoint_url=gate.endpoint_url,
        use_listings_cache=False,
        client_kwargs={"verify": gate.ca_file},
        config_kwargs=_CHECKSUMS,
    )
    return lambda name: filesystem.put_file(str(gate.file), f"{_BUCKET}/{name}", chunksize=16 << 20, max_concurrency=4)


def _botocore(gate: _Gate) -> Callable[[str], object]:
    from botocore.config import Config
    from botocore.session import Session

    client = Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=gate.endpoint_url,
        verify=gate.ca_file,
        aws_access_key_id=gate.key("access_key"),
        aws_secret_access_key=gate.key("secret_key"),
        config=Config(**_CHECKSUMS),
    )

    def put(name: str) -> None:
        with gate.file.open("rb") as body:
            client.put_object(Bucket=_BUCKET, Key=name, Body=body)

    return put


def _pyarrow(gate: _Gate) -> Callable[[str], object]:
    os.environ.update({f"AWS_{name.upper()}": value for name, value in _CHECKSUMS.items()})
    from pyarrow import fs

    scheme, _, host = gate.endpoint_url.partition("://")
    filesystem = fs.S3FileSystem(
        access_key=gate.key("access_key"),
        secret_key=gate.key("secret_key"),
        region="us-east-1",
        scheme=scheme,
        endpoint_override=host,
        tls_ca_file_path=gate.ca_file,
    )

    def put(name: str) -> None:
        with filesystem.open_output_stream(f"{_BUCKET}/{name}") as target:
            target.write(gate.file.read_bytes())

    return put
