"""Columns of a release as values of FHIR: codings of DICOM, SNOMED CT and LOINC by their systems' URIs, times. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from radlake.findings.rules import load_rules
from radlake.vocab.load import UNKNOWN, vocabulary

__all__ = ["CHINA", "DCM", "GENDERS", "IMAGING_STUDY", "LOINC", "SCT", "Json", "body_site", "certainty", "coding",
           "finding", "laterality", "moment", "number", "procedure", "regions", "told"]  # fmt: skip

DCM = "http://dicom.nema.org/resources/ontology/DCM"
SCT = "http://snomed.info/sct"
LOINC = "http://loinc.org"
CHINA = timezone(timedelta(hours=8))
IMAGING_STUDY = {"system": LOINC, "code": "18748-4", "display": "Diagnostic imaging study"}
GENDERS = {"M": "male", "F": "female", "O": "other"}
_SIDES = {"L": ("7771000", "Left"), "R": ("24028007", "Right"), "B": ("51440002", "Right and left")}
_CERTAINTIES = {
    "PRESENT": ("52101004", "Present"),
    "POSSIBLE": ("371930009", "Possible"),
    "ABSENT": ("2667000", "Absent"),
}
_REGIONS = {
    "63337009": "Lower trunk",
    "38266002": "Whole body",
    "53120007": "Upper limb",
    "61685007": "Lower limb",
    "67734004": "Upper trunk",
    "774007": "Head and neck",
    "113257007": "Cardiovascular system",
    "80891009": "Heart",
    "76752008": "Breast",
    "1141981001": "Spine",
}

Json = dict[str, Any]


def coding(system: str, code: str, display: str = "") -> Json:
    return {"system": system, "code": code, **({"display": display} if display else {})}


def told(**elements: Any) -> Json:
    """Elements that have a value: FHIR knows neither null nor an empty one."""
    return {name: value for name, value in elements.items() if value not in (None, "", [], {})}


def number(value: int | None) -> int | None:
    """An unsignedInt: numbers of DICOM may be negative."""
    return value if value is not None and value >= 0 else None


def moment(at: datetime | None) -> str | None:
    """Local time of the hospitals as a FHIR dateTime; dates of a release are shifted, its zone is China's."""
    return None if at is None else at.replace(tzinfo=CHINA).isoformat(timespec="seconds")


def procedure(exam: Mapping[str, Any]) -> Json:
    """What was examined: LOINC where it is known at our grain, and always words."""
    code = exam["loinc_code"]
    known = coding(LOINC, code) if code != "NONE" else IMAGING_STUDY
    return {"coding": [known], "text": f"{exam['modality_group']} {exam['body_part_code']}"}


def body_site(series: Mapping[str, Any], exam: Mapping[str, Any]) -> Json | None:
    """The one body part of a series, by its own header or else by its exam."""
    known = vocabulary()
    parts = known.part_of_term.get(series["body_part_examined"] or "") or frozenset(exam["body_part_code"].split("+"))
    [part] = parts if len(parts) == 1 else [UNKNOWN]
    return coding(SCT, known.sct_of[part], part) if part in known.sct_of else None


def regions(exam: Mapping[str, Any]) -> list[Json]:
    """Anatomical regions of IHE RAD MADO that the parts of an exam lie in."""
    known = vocabulary().region_of
    found = {known[part] for part in exam["body_part_code"].split("+") if part in known}
    return [coding(SCT, code, _REGIONS[code]) for code in sorted(found)]


def laterality(side: str | None) -> Json | None:
    return coding(SCT, *_SIDES[side]) if side in _SIDES else None


def finding(code: str) -> Json:
    """A finding; coded where the rules are certain of its SNOMED CT code."""
    sct = load_rules().codes.get(code, "")
    return {**({"coding": [coding(SCT, sct)]} if sct else {}), "text": code.replace("_", " ")}


def certainty(code: str) -> Json:
    return {"coding": [coding(SCT, *_CERTAINTIES[code])]}
