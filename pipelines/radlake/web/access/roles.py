"""Roles, and the one table of what each may do. A route names a right; nobody asks for a role by name."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

__all__ = ["MAY", "Right", "Role"]


class Role(StrEnum):
    VIEWER = "viewer"
    ANALYST = "analyst"
    RESEARCHER = "researcher"
    ENGINEER = "engineer"
    DOCTOR = "doctor"
    ADMIN = "admin"


class Right(StrEnum):
    """What a route asks for.

    `service`: how fast uploads, reports and images are, and reminders. `statistics`: the other published numbers.
    `operations`: the gate, builds and storage. `export`: files of tables. `lineage`: where a number comes from.
    `exams`: de-identified exams, one by one. `images`: de-identified images and their headers, by DICOMweb.
    `releases`: approved releases of cohorts, by FHIR and as manifests. `audit`: who saw what.
    """

    SERVICE = "service"
    STATISTICS = "statistics"
    OPERATIONS = "operations"
    EXPORT = "export"
    LINEAGE = "lineage"
    EXAMS = "exams"
    IMAGES = "images"
    RELEASES = "releases"
    AUDIT = "audit"


_SEES = frozenset({Right.SERVICE, Right.STATISTICS})
_ANALYSES = _SEES | {Right.OPERATIONS, Right.EXPORT, Right.LINEAGE}

MAY: Mapping[Role, frozenset[Right]] = {
    Role.VIEWER: _SEES,
    Role.ANALYST: _ANALYSES,
    Role.RESEARCHER: _ANALYSES | {Right.EXAMS, Right.IMAGES, Right.RELEASES},
    Role.ENGINEER: _ANALYSES | {Right.EXAMS, Right.IMAGES},
    Role.DOCTOR: frozenset({Right.SERVICE}),
    Role.ADMIN: _ANALYSES | {Right.AUDIT},
}
