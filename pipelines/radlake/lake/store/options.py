"""How to reach an S3 store, for each library that talks to it."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from radlake.config import StoreSettings, resolve_secret
from radlake.errors import ConfigInvalid
from radlake.lake.store.client import Bucket, S3Client
from radlake.lake.store.policy import S3Policy, policy_from_file
from radlake.lake.store.signature import Credentials

__all__ = ["S3Options"]

_KEYS_STAY_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class S3Options:
    """How to reach an S3 store. Keys are references that are resolved at use; empty ones follow AWS's own chain.

    Attributes
    ----------
    endpoint_url : str
        Empty: AWS.
    region : str
        Part of every signature; `us-east-1` when empty, which other products than AWS take.
    ca_file : str
        PEM file of the authority that signed the store's certificate; empty: those that the machine trusts.
    addressing : {"", "path", "virtual"}
        Whether the bucket stands in the path or in the name of the host; empty: in the path, but not at AWS.
    """

    endpoint_url: str = ""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    region: str = ""
    ca_file: str = ""
    addressing: Literal["", "path", "virtual"] = ""
    policy: S3Policy = field(default_factory=S3Policy)

    @classmethod
    def from_settings(cls, settings: StoreSettings) -> S3Options:
        return cls(
            endpoint_url=settings.s3_endpoint_url,
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key,
            session_token=settings.s3_session_token,
            region=settings.s3_region,
            ca_file=str(settings.s3_ca_file or ""),
            addressing=settings.s3_addressing,
            policy=policy_from_file(settings.s3_policy) if settings.s3_policy else S3Policy(),
        )

    def client(self, bucket: str) -> S3Client:
        """Our own client of a bucket: see `client`."""
        region = self.region or "us-east-1"
        at = Bucket.at(self.endpoint_url, bucket, region=region, is_virtual=self._is_virtual(bucket))
        return S3Client(at, region, self._credentials(), self._context() if at.is_tls else None)

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
        if self.session_token:
            options["aws_session_token"] = resolve_secret(self.session_token)
        if self.addressing:
            options["aws_virtual_hosted_style_request"] = str(self.addressing == "virtual").lower()
        if self.policy.encryption:
            options["aws_server_side_encryption"] = self.policy.encryption
        if self.policy.kms_key_id:
            options["aws_sse_kms_key_id"] = self.policy.kms_key_id
        if self.ca_file:
            os.environ.setdefault("SSL_CERT_FILE", self.ca_file)  # delta-rs learns of an authority in no other way
        return options

    def filesystem(self) -> Any:
        """The s3fs file system of these options."""
        import s3fs  # 0.7 s: only when the store is S3

        keys: dict[str, Any] = {}
        if self.access_key:
            keys = {"key": resolve_secret(self.access_key), "secret": resolve_secret(self.secret_key)}
        if self.session_token:
            keys["token"] = resolve_secret(self.session_token)
        given = {"verify": self.ca_file, "region_name": self.region}
        return s3fs.S3FileSystem(
            endpoint_url=self.endpoint_url or None,
            use_listings_cache=False,
            default_fill_cache=False,
            client_kwargs={name: value for name, value in given.items() if value},
            config_kwargs={
                "retries": {"max_attempts": 3, "mode": "standard"},
                "connect_timeout": 10,
                "read_timeout": 60,
                # Over TLS botocore would send checksums as trailers of a body without a length: RGW answers 411.
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
                "s3": {"addressing_style": self.addressing or "auto"},
            },
            **keys,
        )

    def _is_virtual(self, bucket: str) -> bool:
        # A certificate for *.s3.amazonaws.com is none for a bucket with a dot in its name.
        return self.addressing == "virtual" or (not self.addressing and not self.endpoint_url and "." not in bucket)

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_file or None)
        except OSError as exc:
            raise ConfigInvalid(path=self.ca_file, problems=["it holds no certificate authority in PEM"]) from exc

    def _credentials(self) -> Callable[[], Credentials]:
        """The keys at each moment: those of short life are read anew once a minute."""
        if not self.access_key:
            return _chain()
        read_at, known = 0.0, Credentials("", "")

        def current() -> Credentials:
            nonlocal read_at, known
            if not known.access_key or time.monotonic() - read_at > _KEYS_STAY_SECONDS:
                token = resolve_secret(self.session_token) if self.session_token else ""
                known = Credentials(resolve_secret(self.access_key), resolve_secret(self.secret_key), token)
                read_at = time.monotonic()
            return known

        return current


def _chain() -> Callable[[], Credentials]:
    """Keys as AWS's own tools find them: environment, profile, role of the machine."""
    from botocore.session import Session  # comes with s3fs

    found = Session().get_credentials()
    if found is None:
        problem = "no keys: set RADLAKE_S3_ACCESS_KEY and RADLAKE_S3_SECRET_KEY to file:PATH or env:NAME"
        raise ConfigInvalid(path="The S3 store", problems=[problem])

    def current() -> Credentials:
        keys = found.get_frozen_credentials()
        return Credentials(keys.access_key, keys.secret_key, keys.token or "")

    return current
