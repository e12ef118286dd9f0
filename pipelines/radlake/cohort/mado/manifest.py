"""A manifest of IHE MADO: all that both of its formats can say (RAD supplement 6.X.2, 6.X.3 and its mapping)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from radlake.cohort.codings import DCM, LOINC, SCT
from radlake.errors import PermanentError

__all__ = ["Coded", "Instance", "Manifest", "ManifestInvalid", "Series", "scheme_of", "system_of"]

_SYSTEMS = {"DCM": DCM, "SCT": SCT, "LN": LOINC}
_OTHER = "urn:radlake:coding-scheme:"


class ManifestInvalid(PermanentError):
    sentence = "It is no MADO manifest: {reason}."


@dataclass(frozen=True)
class Coded:
    """A coded concept by its DICOM coding scheme; without a code it is `meaning`, a text."""

    code: str
    scheme: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Instance:
    """An instance.

    Attributes
    ----------
    n_frames : int, optional
        Of a multi-frame image.
    title : Coded, optional
        Document title of a Key Object Selection; `description` is what it says of the selection.
    """

    uid: str
    sop_class: str
    number: int | None = None
    n_frames: int | None = None
    title: Coded | None = None
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Series:
    uid: str
    modality: str
    number: int | None = None
    description: str = ""
    started: datetime | None = None
    body_site: Coded | None = None
    laterality: Coded | None = None
    instances: tuple[Instance, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A study. Times are local, of China, in whole seconds.

    Attributes
    ----------
    uid : str
        SOP Instance UID of the KOS, identifier of the Bundle.
    issuer : str
        OID of who issued patient ID and accession number.
    location_uid : str
        OID of where the study can be had.
    wado_url : str
        Base URI of WADO-RS there; empty when it is not known.
    """

    uid: str
    created_at: datetime
    study_uid: str
    started: datetime | None
    patient_id: str
    issuer: str
    accession: str
    institution: str
    location_uid: str
    manufacturer: str = "radlake"
    description: str = ""
    patient_name: str = ""
    birth_date: date | None = None
    sex: str = ""
    procedures: tuple[Coded, ...] = ()
    regions: tuple[Coded, ...] = ()
    wado_url: str = ""
    series: tuple[Series, ...] = ()

    @property
    def modalities(self) -> list[str]:
        return sorted({series.modality for series in self.series})


def system_of(scheme: str) -> str:
    """System of FHIR of a DICOM coding scheme."""
    return _SYSTEMS.get(scheme, f"{_OTHER}{scheme}")


def scheme_of(system: str) -> str:
    """The coding scheme of a system of `system_of`."""
    schemes = {value: scheme for scheme, value in _SYSTEMS.items()}
    return schemes.get(system, system.removeprefix(_OTHER))
