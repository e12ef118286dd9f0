"""What a file system or an object store raises, as our errors."""

from __future__ import annotations

import contextlib
import errno
import re
import ssl
from collections.abc import Iterator

from radlake.errors import ConfigInvalid, RadlakeError, SlowDown, SourceMissing, StoreFull, StoreUnavailable

__all__ = ["StoreRefused", "storage_errors"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_TEXTS = ("No space left on device", "Disk quota exceeded", "File too large")  # of engines that give no errno
_FULL_CODES = {"QuotaExceeded", "InsufficientCapacity", "XMinioStorageFull", "507"}
_REFUSED_CODES = {
    *("AccessDenied", "InvalidAccessKeyId", "InvalidToken", "ExpiredToken", "SignatureDoesNotMatch", "403"),
    *("NoSuchBucket", "NoSuchKey", "404", "InvalidRange", "416"),
}
_SLOW_CODES = {"SlowDown", "RequestLimitExceeded", "TooManyRequests", "Throttling", "429"}
_OTHER_REGION = "name the bucket's region in RADLAKE_S3_REGION"
_CONFIG_CODES = {
    **dict.fromkeys(("AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "301"), _OTHER_REGION),
    "RequestTimeTooSkewed": "set the clock of this machine",
}
_CODE = re.compile(r"<Code>(\w+)</Code>")
# Whose exceptions come from the store; `_internal` is delta-rs.
_STORE_MODULES = {"_duckdb", "_internal", "aiobotocore", "aiohttp", "botocore", "duckdb", "fsspec"}


class StoreRefused(Exception):
    """An answer of an S3 store that is not what was asked for.

    Attributes
    ----------
    status, code, message : int, str, str
        Of HTTP, and the store's own.
    region : str
        Where the bucket lies, when the store says it.
    """

    def __init__(self, *, status: int, code: str = "", message: str = "", region: str = "") -> None:
        self.status, self.code, self.message, self.region = status, code or str(status), message, region
        super().__init__(f"{status} {code}")


@contextlib.contextmanager
def storage_errors(path: str, *, let_through: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what a file system or an object store raises into our errors, where it enters."""
    try:
        yield
    except (RadlakeError, *let_through):
        raise
    except FileNotFoundError as exc:
        raise SourceMissing(path=path) from exc
    except ssl.SSLCertVerificationError as exc:
        problem = (
            "its certificate is not signed by an authority that we trust, or is not of this name"
            f" ({exc.verify_message}): name the authority's PEM file in RADLAKE_S3_CA_FILE"
        )
        raise ConfigInvalid(path=path, problems=[problem]) from exc
    except Exception as exc:
        if (ours := _translated(exc, path)) is None:
            raise
        raise ours from exc


def _translated(exc: Exception, path: str) -> RadlakeError | None:
    """Our error for a foreign one; none when it is not the store's."""
    code = _code(exc)
    is_told = any(text in str(exc) for text in _FULL_TEXTS)
    if getattr(exc, "errno", None) in _FULL or code in _FULL_CODES or is_told:
        return StoreFull(path=path, reason=code or "no space left")
    is_of_store = isinstance(exc, (OSError, StoreRefused)) or type(exc).__module__.partition(".")[0] in _STORE_MODULES
    if not path.startswith("s3://") or not is_of_store:
        return None
    if code in _SLOW_CODES:
        return SlowDown(node=path, reason=code)
    if code in _CONFIG_CODES or getattr(exc, "region", ""):
        there = f" (the store says {region})" if (region := getattr(exc, "region", "")) else ""
        remedy = _CONFIG_CODES.get(code, _OTHER_REGION)
        return ConfigInvalid(path=path, problems=[f"the store refused us ({code}): {remedy}{there}"])
    if isinstance(exc, PermissionError) or code in _REFUSED_CODES:
        return SourceMissing(path=path)
    return StoreUnavailable(path=path, reason=code or type(exc).__name__)


def _code(exc: BaseException) -> str:
    if isinstance(exc, StoreRefused):
        return exc.code
    # botocore keeps the answer; s3fs hides that exception in the cause of an OSError
    answer = getattr(exc, "response", None) or getattr(exc.__cause__, "response", None) or {}
    if code := answer.get("Error", {}).get("Code"):
        return str(code)
    match = _CODE.search(str(exc))  # delta-rs
    return match[1] if match else ""
