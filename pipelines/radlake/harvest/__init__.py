"""Harvest: query, retrieve and receive, from a node or a folder, into the spool."""

from radlake.harvest.folder import FolderListing, FolderStudy, list_folder
from radlake.harvest.pull import (
    PulledStudy,
    discover_studies,
    enter_found,
    is_due,
    least_tried_first,
    pull_study,
    spool_folder,
)
from radlake.harvest.pulling import Arrivals, pulling

__all__ = [
    "Arrivals",
    "FolderListing",
    "FolderStudy",
    "PulledStudy",
    "discover_studies",
    "enter_found",
    "is_due",
    "least_tried_first",
    "list_folder",
    "pull_study",
    "pulling",
    "spool_folder",
]
