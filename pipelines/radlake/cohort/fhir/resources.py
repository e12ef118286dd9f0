"""Rows of a release as FHIR R4 resources. Pure; a resource that is made is valid (hl7.org/fhir/R4).

Ids are those of the release: pseudonyms and UIDs of one project. What a release does not tell has no element: no
patient has a name or a birth date, no report a text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from radlake.cohort.codings import (
    DCM,
    GENDERS,
    Json,
    body_site,
    certainty,
    coding,
    finding,
    laterality,
    moment,
    number,
    procedure,
    told,
)
from radlake.cohort.studies import Row, Study, StudySeries

__all__ = ["AGE_BAND", "RELEASE", "diagnostic_report", "group", "group_id", "imaging_study", "observation", "patient"]

RELEASE = "urn:radlake:release"
AGE_BAND = "urn:radlake:fhir:age-at-index-exam"
_LONGEST_ID = 64
_PSEUDONYMISED = coding("http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "PSEUDED")
_RADIOLOGY = {"coding": [coding("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology")]}
_IMAGING = {"coding": [coding("http://terminology.hl7.org/CodeSystem/observation-category", "imaging")]}


def group_id(release_id: str) -> str:
    """The FHIR id of a release: an underscore is none of its characters, and two dots are in no release.

    >>> group_id("chest_ct.v1.0123456789ab.nodules")
    'chest..ct.v1.0123456789ab.nodules'
    """
    plain = release_id.replace("_", "..")
    return plain if len(plain) <= _LONGEST_ID else hashlib.sha256(release_id.encode()).hexdigest()


def group(release: Mapping[str, Any], persons: Iterable[str] = ()) -> Json:
    """A release; `persons` are its members, where they are told."""
    return _resource(
        "Group",
        group_id(release["release_id"]),
        release,
        identifier=[{"system": RELEASE, "value": release["release_id"]}],
        active=True,
        type="person",
        actual=True,
        name=release["title"]["en"],
        quantity=release["n_persons"],
        member=[{"entity": _reference("Patient", person)} for person in persons],
    )


def patient(row: Row, release: Mapping[str, Any]) -> Json:
    """A person: sex, and age band and place as coarse as the release tells them."""
    first, last = row["age_from_years"], row["age_to_years"]
    band = {"low": _years(first), "high": _years(last)} if first is not None else None
    return _resource(
        "Patient",
        row["person_pseudo_id"],
        release,
        extension=[{"url": AGE_BAND, "valueRange": band}] if band else None,
        identifier=[{"system": f"{RELEASE}:{release['release_id']}", "value": row["person_pseudo_id"]}],
        gender=GENDERS.get(row["patient_sex"], "unknown"),
        address=_address(row["region_code"]),
    )


def imaging_study(study: Study, release: Mapping[str, Any]) -> Json:
    """A study with its series and instances."""
    exam = study.exam
    return _resource(
        "ImagingStudy",
        study.uid,
        release,
        identifier=[{"system": "urn:dicom:uid", "value": f"urn:oid:{study.uid}"}],
        status="available",
        modality=[coding(DCM, modality) for modality in study.modalities],
        subject=_reference("Patient", exam["person_pseudo_id"]),
        started=moment(exam["study_at"]),
        numberOfSeries=len(study.series),
        numberOfInstances=study.n_instances,
        procedureCode=[procedure(exam)],
        series=[_series(one, exam) for one in study.series],
    )


def _series(series: StudySeries, exam: Row) -> Json:
    row = series.row
    return told(
        uid=series.uid,
        number=number(row["series_number"]),
        modality=coding(DCM, row["modality"]),
        description=row["series_description"],
        numberOfInstances=len(series.instances),
        bodySite=body_site(row, exam),
        laterality=laterality(row["laterality"]),
        started=moment(row["series_at"]),
        instance=[
            told(
                uid=one["sop_instance_uid"],
                sopClass=coding("urn:ietf:rfc:3986", f"urn:oid:{one['sop_class_uid']}"),
                number=number(one["instance_number"]),
            )
            for one in series.instances
        ],
    )


def observation(row: Row, exam: Row, release: Mapping[str, Any]) -> Json:
    """A finding that rules read from the report of an exam: present, possible or absent."""
    return _resource(
        "Observation",
        _observation_id(row),
        release,
        status="unknown",  # the release does not tell whether the report was final
        category=[_IMAGING],
        code=finding(row["finding_code"]),
        subject=_reference("Patient", row["person_pseudo_id"]),
        effectiveDateTime=moment(exam["study_at"]),
        valueCodeableConcept=certainty(row["certainty_code"]),
        method={"text": "Rules over the text of the report; the text is not released."},
    )


def diagnostic_report(
    exam: Row, findings: Sequence[Row], study_uids: Sequence[str], release: Mapping[str, Any]
) -> Json:
    """The report of an exam as far as it is released: its coded findings and the studies that it is of."""
    return _resource(
        "DiagnosticReport",
        exam["exam_pseudo_id"],
        release,
        status="unknown",
        category=[_RADIOLOGY],
        code=procedure(exam),
        subject=_reference("Patient", exam["person_pseudo_id"]),
        effectiveDateTime=moment(exam["study_at"]),
        result=[_reference("Observation", _observation_id(row)) for row in findings],
        imagingStudy=[_reference("ImagingStudy", uid) for uid in study_uids],
        conclusionCode=[finding(row["finding_code"]) for row in findings if row["certainty_code"] == "PRESENT"],
    )


def _resource(kind: str, identity: str, release: Mapping[str, Any], **elements: Any) -> Json:
    meta = {"lastUpdated": f"{release['approval']['approved_at']}Z", "security": [_PSEUDONYMISED]}
    return {"resourceType": kind, "id": identity, "meta": meta, **told(**elements)}


def _reference(kind: str, identity: str) -> Json:
    return {"reference": f"{kind}/{identity}"}


def _observation_id(row: Row) -> str:
    """One exam, finding and certainty."""
    return f"{row['exam_pseudo_id']}-{row['finding_code']}-{row['certainty_code'].lower()}".replace("_", "-")


def _years(value: int) -> Json:
    return {"value": value, "unit": "a", "system": "http://unitsofmeasure.org", "code": "a"}


def _address(region: str) -> list[Json]:
    """A place by its GB/T 2260 code: province, city and county as far as it tells them.

    >>> _address("320100")
    [{'country': 'CN', 'state': '32', 'city': '3201'}]
    >>> _address("UNKNOWN")
    []
    """
    if not region.isdecimal():
        return []
    levels = zip(("state", "city", "district"), (2, 4, 6), strict=True)
    return [{"country": "CN", **{name: region[:end] for name, end in levels if region[end - 2 : end] != "00"}}]
