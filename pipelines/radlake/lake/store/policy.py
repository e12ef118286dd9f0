"""What an S3 store is told to do with what it keeps: encrypt it, lock it, and how dear a shelf it gets.

The policy is a YAML file under review (RADLAKE_S3_POLICY):

    encryption: aws:kms          # or AES256 (keys of the store); left out: as the bucket says
    kms_key_id: imaging-2026
    objects:                     # series objects only: tables are compacted, and must go away
      storage_class: STANDARD_IA
      lock: COMPLIANCE           # or GOVERNANCE; the bucket must have been created with object lock
      lock_days: 5475
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from radlake.errors import ConfigInvalid

__all__ = ["ObjectPolicy", "S3Policy", "policy_from_file"]


class ObjectPolicy(BaseModel):
    """Of series objects.

    Attributes
    ----------
    storage_class : str
        One that the store knows; empty: the bucket's.
    lock : {"", "GOVERNANCE", "COMPLIANCE"}
        Nobody ends a COMPLIANCE lock before its time, not even the store's administrator.
    lock_days : int
        The least time, from the day of the harvest on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    storage_class: str = ""
    lock: Literal["", "GOVERNANCE", "COMPLIANCE"] = ""
    lock_days: int = Field(default=0, ge=0)


class S3Policy(BaseModel):
    """Headers that go with what is stored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encryption: Literal["", "AES256", "aws:kms"] = ""
    kms_key_id: str = ""
    objects: ObjectPolicy = ObjectPolicy()

    @model_validator(mode="after")
    def _key_fits(self) -> S3Policy:
        if self.kms_key_id and self.encryption != "aws:kms":
            raise ValueError("kms_key_id goes with encryption aws:kms only")
        return self

    def headers(self) -> dict[str, str]:
        """Of every object."""
        headers = {"x-amz-server-side-encryption": self.encryption} if self.encryption else {}
        if self.kms_key_id:
            headers["x-amz-server-side-encryption-aws-kms-key-id"] = self.kms_key_id
        return headers

    def object_headers(self, *, now: datetime, retain_until: datetime | None = None) -> dict[str, str]:
        """Of a series object.

        Parameters
        ----------
        retain_until : datetime, optional
            End of the study's retention (UTC); of it and `lock_days` from `now` the later one counts. Without a lock
            mode it is not the store's business.
        """
        headers = self.headers()
        if self.objects.storage_class:
            headers["x-amz-storage-class"] = self.objects.storage_class
        until = max(now + timedelta(days=self.objects.lock_days), retain_until or now)
        if self.objects.lock and until > now:
            headers["x-amz-object-lock-mode"] = self.objects.lock
            headers["x-amz-object-lock-retain-until-date"] = until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return headers


def policy_from_file(path: Path) -> S3Policy:
    """Read a policy.

    Raises
    ------
    ConfigInvalid
        With all problems at once.
    """
    try:
        return S3Policy.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except ValidationError as exc:
        problems = [f"{'.'.join(map(str, error['loc'])) or 'policy'}: {error['msg']}" for error in exc.errors()]
        raise ConfigInvalid(path=str(path), problems=problems) from None
    except (OSError, ValueError, yaml.YAMLError) as exc:
        raise ConfigInvalid(path=str(path), problems=[f"it cannot be read ({type(exc).__name__})"]) from exc
