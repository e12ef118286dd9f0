"""What a file system or an object store raises, as our errors."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from typing import Any

from radlake.errors import RadlakeError, SourceMissing, StoreFull, StoreUnavailable

__all__ = ["answer_of", "storage_errors"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_CODES = {"QuotaExceeded", "InsufficientCapacity", "XMinioStorageFull", "507"}
_REFUSED_CODES = {"AccessDenied", "InvalidAccessKeyId", "InvalidRange", "NoSuchBucket", "SignatureDoesNotMatch", "403"}
_CODE = re.compile(r"<Code>(\w+)</Code>")
# Whose exceptions come from the store; `_internal` is delta-rs.
_STORE_MODULES = {"_duckdb", "_internal", "aiobotocore", "aiohttp", "botocore", "duckdb", "fsspec"}


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


def answer_of(exc: BaseException) -> dict[str, Any]:
    """What S3 answered, as botocore keeps it; s3fs hides that exception in the cause of an OSError."""
    return getattr(exc, "response", None) or getattr(exc.__cause__, "response", None) or {}


def _code(exc: BaseException) -> str:
    if code := answer_of(exc).get("Error", {}).get("Code"):
        return str(code)
    match = _CODE.search(str(exc))  # delta-rs
    return match[1] if match else ""
