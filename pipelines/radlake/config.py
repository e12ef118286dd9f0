"""Settings: read once at the entry point, then passed down as arguments.

Environment variables carry the prefix `RADLAKE_`. Secrets are references (`file:PATH`, `env:NAME`) that are
resolved at use and never stored. Hospitals and their nodes are YAML under review: see `radlake.net.node`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from radlake.errors import ConfigInvalid, KeyMissing

__all__ = ["CACHE_BYTES", "Settings", "StoreSettings", "resolve_secret"]

CACHE_BYTES = 50 * 10**9  # some 150 studies of 300 MB


class StoreSettings(BaseSettings):
    """Where the de-identified zone is and how to reach it: all that somebody needs who has no restricted zone.

    Attributes
    ----------
    lake : str
        Folder or `s3://bucket/prefix` of the de-identified zone: objects and tables.
    s3_endpoint_url, s3_access_key, s3_secret_key : str
        For an S3 store that is not AWS; the keys are references.
    s3_session_token : str
        Reference to the token of keys that end.
    s3_region, s3_ca_file, s3_addressing : str, Path, str
        Region of the bucket; PEM file of the authority of the store's certificate; `path` or `virtual`.
    s3_policy : Path
        YAML file of encryption, lock and storage class: see docs/how-to/use-s3.md.
    log_format : {"text", "json"}
        Lines for people, or a JSON object a line for what collects the logs of servers.
    """

    model_config = SettingsConfigDict(env_prefix="RADLAKE_", env_ignore_empty=True, extra="forbid", frozen=True)

    lake: str = "lake"
    s3_endpoint_url: str = ""
    s3_access_key: str = ""
    s3_secret_key: str = ""
    s3_session_token: str = ""
    s3_region: str = ""
    s3_ca_file: Path | None = None
    s3_addressing: Literal["", "path", "virtual"] = ""
    s3_policy: Path | None = None
    log_format: Literal["text", "json"] = "text"

    @field_validator("lake")
    @classmethod
    def _absolute(cls, value: str) -> str:
        value = value.removeprefix("file://")
        scheme, is_url, _ = value.partition("://")
        if is_url and scheme != "s3":
            raise ConfigInvalid(
                path="The lake", problems=[f"{scheme}:// is no store of a lake; name a folder or s3://"]
            )
        return value.rstrip("/") if "://" in value else str(Path(value).expanduser().resolve())

    @property
    def is_local(self) -> bool:
        return "://" not in self.lake


_ORIGIN = r"https?://[a-z0-9.-]+(:\d{1,5})?"


class Settings(StoreSettings):
    """Everything that a deployment may set, beside what `StoreSettings` has.

    Attributes
    ----------
    restricted : Path
        Local folder of the restricted zone: spool, quarantine, ledger, key. Default `<lake>/restricted`;
        must be set when the lake is not local.
    ledger : str
        SQLAlchemy URL, or a reference to it. Default: SQLite in the restricted zone.
    hospitals : Path
        YAML file (or folder of them) of hospitals and nodes. Default `<lake>/hospitals.yaml`.
    key : str
        Reference to the root key of pseudonyms. Default `file:<restricted>/root.key`.
    key_wrap : str
        Reference to the key-encryption key that the root key is wrapped with; empty: it lies in plain.
    profile : str
        De-identification profile: a name in schemas/profiles/ or a path.
    disclosure : str
        Disclosure policy of statistics: a name in schemas/disclosure/ or a path.
    verify_sample : int
        Instances of each batch that the referee re-reads, at most one of a series, before the batch is published.
    ae_title, scp_port : str, int
        Our application entity, and the port of our storage SCP for C-MOVE (0: none, but the demo takes a free one).
    cache : Path
        Local folder for series objects of hospitals that keep their pixels. Default `cache` in the lake's folder, or in
        the restricted zone when the lake is not local.
    cache_bytes : int
        What that folder may hold; what was used longest ago goes first.
    oidc : Path
        YAML file of an OpenID provider where people sign in to the pages; docs/how-to/accounts.md. Default: none.
    viewers : str
        Origins of viewers whose pages may read DICOMweb in a browser (CORS), separated by commas, as in
        `https://viewer.example,https://pacs.example:8443`. Default: none.
    workers : int
        Processes for de-identification; 0 = in this process.
    dask : str
        Where Dask does the de-identification instead: `local` (a cluster of `workers` processes of this machine) or
        the address of a scheduler (`tcp://host:port`, `tls://host:port`).
    worker_memory : str
        Most memory of a worker of the local cluster, as in `2GiB`; empty: its share of the machine.
    """

    restricted: Path = Path()
    ledger: str = ""
    hospitals: Path = Path()
    key: str = ""
    key_wrap: str = ""
    profile: str = "default"
    disclosure: str = "internal"
    verify_sample: int = Field(default=32, ge=1)
    ae_title: str = Field(default="RADLAKE", min_length=1, max_length=16)
    scp_port: int = Field(default=0, ge=0, le=65535)
    dask: str = Field(default="", pattern=r"^$|^local$|^\w+://.+$")
    worker_memory: str = Field(default="", pattern=r"^(\d+(\.\d+)?\s*[kMGT]i?B)?$")
    cache: Path | None = None
    oidc: Path | None = None
    viewers: str = Field(default="", pattern=rf"^$|^{_ORIGIN}(,{_ORIGIN})*$")
    cache_bytes: int = Field(default=CACHE_BYTES, ge=0)
    workers: int = Field(default_factory=lambda: min(os.cpu_count() or 1, 8), ge=0)

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: dict[str, object]) -> dict[str, object]:
        lake = cls._absolute(str(data.get("lake", "lake")))
        data = {key: value for key, value in data.items() if value not in ("", None)}
        if "restricted" not in data:
            if "://" in lake:
                raise ConfigInvalid(
                    path="settings",
                    problems=[
                        "RADLAKE_RESTRICTED: name a local folder; the restricted zone may not be in an object store"
                    ],
                )
            data["restricted"] = Path(lake) / "restricted"
        restricted = Path(str(data["restricted"])).expanduser().resolve()
        data["restricted"] = restricted
        data.setdefault("ledger", f"sqlite:///{restricted / 'ledger.db'}")
        data.setdefault("key", f"file:{restricted / 'root.key'}")
        data.setdefault("hospitals", (restricted.parent if "://" in lake else Path(lake)) / "hospitals.yaml")
        return data

    def prepare_restricted(self) -> Path:
        """Create the restricted zone, readable by its owner only."""
        self.restricted.mkdir(parents=True, exist_ok=True)
        self.restricted.chmod(stat.S_IRWXU)
        return self.restricted


def resolve_secret(ref: str) -> str:
    """Read a secret at the moment of use: `file:PATH` or `env:NAME`.

    Raises
    ------
    KeyMissing
        If the file or the variable does not exist or is empty.
    """
    kind, _, name = ref.partition(":")
    value = ""
    if kind == "file" and Path(name).is_file():
        value = Path(name).read_text(encoding="utf-8").strip()
    elif kind == "env":
        value = os.environ.get(name, "")
    if not value:
        raise KeyMissing(ref=ref)
    return value
