"""A release as FHIR R4 (4.0.1): Patient, Group, ImagingStudy, DiagnosticReport and Observation, from its tables alone.

`radlake.cohort.codings` says what columns mean in codes, `resources` makes one resource of rows, `export` writes them
all as files.
"""

from __future__ import annotations

from radlake.cohort.fhir.export import TYPES, export_fhir

__all__ = ["TYPES", "export_fhir"]
