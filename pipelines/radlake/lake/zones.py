"""The two zones of a deployment and where each thing lies in them.

<lake>/objects/  <lake>/tables/                               the de-identified zone, local or S3
<lake>/cache/                                                 of the same zone, always local; bounded
<restricted>/tables/  scratch/  spool/  staged/  quarantine/   the restricted zone, always local
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from radlake.config import CACHE_BYTES, Settings
from radlake.lake.cache import ObjectCache
from radlake.lake.objects import ObjectStore
from radlake.lake.store import S3Options

if TYPE_CHECKING:
    from radlake.contracts import Table
    from radlake.lake.tables import TableStore

__all__ = ["Lake"]


@dataclass(frozen=True, kw_only=True)
class Lake:
    """Both zones of a lake; a value without open files or connections, to hand to worker processes."""

    url: str
    restricted: Path
    storage_options: S3Options | None = None
    cache_folder: Path | None = None
    cache_bytes: int = CACHE_BYTES

    @classmethod
    def from_settings(cls, settings: Settings) -> Lake:
        return cls(
            url=settings.lake,
            restricted=settings.restricted,
            storage_options=None if settings.is_local else S3Options.from_settings(settings),
            cache_folder=settings.cache,
            cache_bytes=settings.cache_bytes,
        )

    @property
    def scratch(self) -> Path:
        """Folder of the restricted zone for files that are being made."""
        return self.restricted / "scratch"

    @property
    def spool(self) -> Path:
        """Folder of received files that are not ingested yet."""
        return self.restricted / "spool"

    @property
    def staged(self) -> Path:
        """Folder of batches that passed the gate and are not committed yet."""
        return self.restricted / "staged"

    @property
    def quarantine(self) -> Path:
        """Folder of the bytes that were set aside."""
        return self.restricted / "quarantine"

    @property
    def objects(self) -> ObjectStore:
        return ObjectStore(f"{self.url}/objects", storage_options=self.storage_options, scratch=self.scratch)

    @property
    def cache(self) -> ObjectCache:
        """Series objects of hospitals that keep their pixels; always a local folder."""
        beside = self.restricted if "://" in self.url else Path(self.url)
        return ObjectCache(self.cache_folder or beside / "cache", self.cache_bytes)

    @property
    def tables(self) -> TableStore:
        """De-identified tables and masked statistics."""
        from radlake.lake.tables import TableStore  # Arrow and Delta: workers that only store objects need neither

        return TableStore(f"{self.url}/tables", storage_options=self.storage_options, scratch=self.scratch)

    def version(self, name: str) -> int | None:
        """Latest version of a table in the zone of its contract, None when it does not exist."""
        from radlake.contracts import load_table

        table = load_table(name)
        return self.store_of(table).version(table)

    def exists(self, name: str) -> bool:
        """Whether there is a table in the zone of its contract."""
        from radlake.contracts import load_table

        table = load_table(name)
        return self.store_of(table).exists(table)

    def store_of(self, table: Table) -> TableStore:
        """The store of the zone of a table; the exact rows behind a released statistic are in the restricted one."""
        return self.tables if table.zone == "lake" else self.restricted_tables

    @property
    def restricted_tables(self) -> TableStore:
        """Exact statistics."""
        from radlake.lake.tables import TableStore

        return TableStore(str(self.restricted / "tables"))
