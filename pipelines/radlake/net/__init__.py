"""Nodes: where hospitals keep their images, and how to ask for them over DIMSE and DICOMweb."""

from __future__ import annotations

from radlake.net.client import ArchiveClient, NodeClient, RetrieveResult, StudyFound, Window, connect
from radlake.net.node import DimseNode, FolderNode, Hospital, Node, PushNode, WebNode, load_hospitals

__all__ = [
    "ArchiveClient",
    "DimseNode",
    "FolderNode",
    "Hospital",
    "Node",
    "NodeClient",
    "PushNode",
    "RetrieveResult",
    "StudyFound",
    "WebNode",
    "Window",
    "connect",
    "load_hospitals",
]
