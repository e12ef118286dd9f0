"""The lake: series objects, tables, the ledger and the quarantine of a deployment.

`objects` and `tables` write, `duck` reads, `evidence` decides the state of a study and `ledger` keeps it, `turns` says
who harvests, `zones` what lies where, `upkeep` tidies.
"""

from __future__ import annotations

from radlake.lake.objects import ObjectStore, PackedSeries
from radlake.lake.store import S3Options
from radlake.lake.storedzip import PackedMember
from radlake.lake.zones import Lake

__all__ = ["Lake", "ObjectStore", "PackedMember", "PackedSeries", "S3Options"]
