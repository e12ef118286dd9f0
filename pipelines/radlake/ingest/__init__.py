"""Ingest: the way of studies from a node or folder into the lake."""

from radlake.ingest.run import Progress, harvest_folder, harvest_hospital, replay_quarantine
from radlake.ingest.summary import HarvestSummary, total
from radlake.ingest.workers import workers

__all__ = ["HarvestSummary", "Progress", "harvest_folder", "harvest_hospital", "replay_quarantine", "total", "workers"]
