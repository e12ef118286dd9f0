"""Harvest: query, retrieve and receive, from a node or a folder, into the spool."""

from radlake.harvest.folder import FolderListing, FolderStudy, list_folder
from radlake.harvest.pull import PulledStudy, discover_studies, pull_study, spool_folder

__all__ = [
    "FolderListing",
    "FolderStudy",
    "PulledStudy",
    "discover_studies",
    "list_folder",
    "pull_study",
    "spool_folder",
]
