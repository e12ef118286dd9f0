"""Ingest: the way of studies from a node or folder into the lake.

What the runs need (the ledger, Arrow, the quality gate) is loaded with the first run: a worker process imports this
package too, and lives with half of the memory.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radlake.ingest.progress import Progress
    from radlake.ingest.run import (
        ReceivedStudy,
        harvest_folder,
        harvest_hospital,
        ingest_received,
        replay_quarantine,
    )
    from radlake.ingest.summary import HarvestSummary, total

__all__ = [
    "HarvestSummary",
    "Progress",
    "ReceivedStudy",
    "harvest_folder",
    "harvest_hospital",
    "ingest_received",
    "replay_quarantine",
    "total",
]

_MODULES = {"HarvestSummary": "summary", "Progress": "progress", "total": "summary"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    return getattr(import_module(f"radlake.ingest.{_MODULES.get(name, 'run')}"), name)
