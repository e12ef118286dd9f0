"""IHE MADO (RAD supplement, 2026): what a study holds and where it can be had, as a DICOM KOS and as FHIR.

`manifest` is what both say, `kos` and `bundle` write and read it, `released` makes those of a release.
"""

from __future__ import annotations

from radlake.cohort.mado.bundle import bundle_of, manifest_from_bundle
from radlake.cohort.mado.kos import kos_of, manifest_from_kos
from radlake.cohort.mado.manifest import Coded, Instance, Manifest, ManifestInvalid, Series
from radlake.cohort.mado.released import export_mado

__all__ = [
    "Coded",
    "Instance",
    "Manifest",
    "ManifestInvalid",
    "Series",
    "bundle_of",
    "export_mado",
    "kos_of",
    "manifest_from_bundle",
    "manifest_from_kos",
]
