"""How to reach an S3 store, for each library that talks to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from radlake.config import resolve_secret

__all__ = ["S3Options"]


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
