"""Lakes for benchmarks, on disk and on a real S3 store."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radlake.config import Settings

__all__ = ["s3_store", "settings_of"]

_KEY = "5f" * 32
_TESTS = Path(__file__).resolve().parents[1] / "tests"


def settings_of(folder: Path, *, s3: Mapping[str, str], **given: Any) -> Settings:
    """Settings of a new lake with a root key: its restricted zone in the folder, the lake too unless S3 is given."""
    from radlake.config import Settings

    lake = f"{s3['bucket']}/{folder.name}" if s3 else str(folder / "lake")
    keys = {name: value for name, value in s3.items() if name != "bucket"}
    settings = Settings(lake=lake, restricted=folder / "restricted", **given, **keys)  # pyright: ignore[reportArgumentType]
    (settings.prepare_restricted() / "root.key").write_text(_KEY)
    return settings


@contextmanager
def s3_store() -> Iterator[dict[str, str]]:
    """Settings of a real Ceph RGW with an empty bucket; empty when there is none."""
    sys.path.insert(0, str(_TESTS))
    if not shutil.which("radosgw"):
        print("skipped: S3, Ceph RGW is not installed")
        yield {}
        return
    from support.rgw import running_rgw  # pyright: ignore[reportMissingImports]  (of the tests)

    with running_rgw() as rgw:
        yield {
            "bucket": rgw.bucket(),
            "s3_endpoint_url": rgw.endpoint_url,
            "s3_access_key": rgw.options.access_key,
            "s3_secret_key": rgw.options.secret_key,
        }
