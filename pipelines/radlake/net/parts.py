"""Parts that several entries of the hospitals file share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, model_validator

__all__ = ["AETitle", "ConfigModel", "LocalPath", "SecretRef", "Tls"]


class ConfigModel(BaseModel):
    """A part of the hospitals file: every key is known, no value changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _ae_title(value: str) -> str:
    """PS3.5 6.2, VR AE: at most 16 characters of the default repertoire, no backslash, no control characters."""
    value = value.strip(" ")
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", value):
        raise ValueError("an AE title has 1 to 16 ASCII characters and no backslash")
    return value


def _reference(value: str) -> str:
    if not re.fullmatch(r"(env|file):.+", value):
        raise ValueError("write where the secret is, not the secret: env:NAME or file:PATH")
    return value


def _beside_the_yaml(value: Path, info: ValidationInfo) -> Path:
    base: Path = (info.context or {}).get("base", Path())
    return base / value.expanduser()


AETitle = Annotated[str, AfterValidator(_ae_title)]
SecretRef = Annotated[str, AfterValidator(_reference)]
LocalPath = Annotated[Path, AfterValidator(_beside_the_yaml)]


class Tls(ConfigModel):
    """PEM files. `ca` checks the node; `certificate` and `key` are shown to it, when it asks who we are."""

    ca: LocalPath | None = None
    certificate: LocalPath | None = None
    key: LocalPath | None = None

    @model_validator(mode="after")
    def _a_pair(self) -> Tls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key come together")
        return self
