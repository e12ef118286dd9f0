"""The manifest as FHIR R4: a document Bundle with Composition, ImagingStudy, Patient, Endpoint and its creator."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any
from xml.sax.saxutils import escape

from radlake.cohort.codings import CHINA, DCM, GENDERS, IMAGING_STUDY, Json, moment, told
from radlake.cohort.mado.manifest import Coded, Instance, Manifest, ManifestInvalid, Series, scheme_of, system_of

__all__ = ["bundle_of", "manifest_from_bundle"]

_PROFILES = "https://profiles.ihe.net/RAD/MADO/StructureDefinition"
_REGION = f"{_PROFILES}/MadoAnatomicalRegionExtension"
_FRAMES = f"{_PROFILES}/MadoNumberOfFrames"
_TITLE = f"{_PROFILES}/MadoKeyObjectDocumentTitle"
_LOCATION = f"{_PROFILES}/MadoRetrieveLocationUIDExtension"
_ABSENT = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}
_URI = "urn:ietf:rfc:3986"
_STUDY_UID = Coded("110180", "DCM", "Study Instance UID")
_ACCESSION = Coded("121022", "DCM", "Accession Number")
_KIND = {"coding": [IMAGING_STUDY]}
_CREATOR = {"coding": [{"system": f"{_PROFILES.replace('StructureDefinition', 'CodeSystem')}/MadoDeviceType",
                        "code": "mado-creator", "display": "MADO Creator"}]}  # fmt: skip
_WADO = {"system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type", "code": "dicom-wado-rs"}
_MIME_TYPES = ["application/dicom", "application/octet-stream", "application/dicom+xml", "application/json"]
_XHTML = "http://www.w3.org/1999/xhtml"


def bundle_of(manifest: Manifest) -> Json:
    """The Bundle."""
    study = _study(manifest)
    created = moment(manifest.created_at)
    patient = {
        "resourceType": "Patient",
        "identifier": [{"system": f"urn:oid:{manifest.issuer}", "value": manifest.patient_id}],
        **told(
            name=[{"text": manifest.patient_name}] if manifest.patient_name else None,
            gender=GENDERS.get(manifest.sex),
            birthDate=manifest.birth_date.isoformat() if manifest.birth_date else None,
        ),
    }
    organization = {"resourceType": "Organization", "name": manifest.institution}
    device = {"resourceType": "Device", "type": _CREATOR, "manufacturer": manifest.manufacturer,
              "owner": _reference(manifest, "Organization")}  # fmt: skip
    endpoint = {
        "resourceType": "Endpoint",
        "extension": [{"url": _LOCATION, "valueString": manifest.location_uid}],
        "status": "active",
        "connectionType": _WADO,
        "payloadType": [{"text": "DICOM WADO-RS"}],
        "payloadMimeType": _MIME_TYPES,
        **({"address": manifest.wado_url} if manifest.wado_url else {"_address": _ABSENT}),
    }
    title = study["procedureCode"][0]["text"] if manifest.procedures else "Imaging study"
    composition = {
        "resourceType": "Composition",
        "text": {"status": "generated", "div": f'<div xmlns="{_XHTML}">{escape(title)}</div>'},
        "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{manifest.uid}"},
        "status": "final",
        "type": _KIND,
        "category": [_KIND],
        "subject": _reference(manifest, "Patient"),
        "date": created,
        "author": [_reference(manifest, "Device"), _reference(manifest, "Organization")],
        "title": title,
    }
    resources = (composition, study, patient, endpoint, device, organization)
    return {
        "resourceType": "Bundle",
        "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{manifest.uid}"},
        "type": "document",
        "timestamp": created,
        "entry": [{"fullUrl": _url(manifest, one["resourceType"]), "resource": one} for one in resources],
    }


def manifest_from_bundle(bundle: Mapping[str, Any]) -> Manifest:
    """What a Bundle says.

    Raises
    ------
    ManifestInvalid
        If it is no manifest.
    """
    try:
        return _manifest(bundle)
    except (KeyError, IndexError, TypeError, ValueError, StopIteration) as exc:
        raise ManifestInvalid(reason=f"it cannot be read as one ({type(exc).__name__}: {exc})") from exc


def _study(manifest: Manifest) -> Json:
    accession = {
        "type": {"coding": [_coding(_ACCESSION), _ACSN]},
        "system": f"urn:oid:{manifest.issuer}",
        "value": manifest.accession,
    }
    return {
        "resourceType": "ImagingStudy",
        **told(extension=[{"url": _REGION, "valueCodeableConcept": _concept(one)} for one in manifest.regions]),
        "identifier": [
            {
                "type": {"coding": [_coding(_STUDY_UID)]},
                "system": "urn:dicom:uid",
                "value": f"urn:oid:{manifest.study_uid}",
            }
        ],
        "status": "available",
        "modality": [{"system": DCM, "code": name} for name in manifest.modalities],
        "subject": _reference(manifest, "Patient"),
        **told(
            started=moment(manifest.started),
            basedOn=[{"type": "ServiceRequest", "identifier": accession}] if manifest.accession else None,
        ),
        "numberOfSeries": len(manifest.series),
        "numberOfInstances": sum(len(series.instances) for series in manifest.series),
        **told(
            procedureCode=[_concept(one) for one in manifest.procedures],
            description=manifest.description,
            series=[_series(manifest, one) for one in manifest.series],
        ),
    }


_ACSN = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}


def _series(manifest: Manifest, series: Series) -> Json:
    return told(
        uid=series.uid,
        number=series.number,
        modality={"system": DCM, "code": series.modality},
        description=series.description,
        numberOfInstances=len(series.instances),
        endpoint=[_reference(manifest, "Endpoint")],
        bodySite=series.body_site and _coding(series.body_site),
        laterality=series.laterality and _coding(series.laterality),
        started=moment(series.started),
        instance=[_instance(one) for one in series.instances],
    )


def _instance(instance: Instance) -> Json:
    frames = [{"url": _FRAMES, "valueInteger": instance.n_frames}] if instance.n_frames is not None else []
    title = [{"url": _TITLE, "valueCodeableConcept": _concept(instance.title)}] if instance.title else []
    return told(
        extension=[*frames, *title],
        uid=instance.uid,
        sopClass={"system": _URI, "code": f"urn:oid:{instance.sop_class}"},
        number=instance.number,
        title=instance.description,
    )


def _manifest(bundle: Mapping[str, Any]) -> Manifest:
    resources = {entry["resource"]["resourceType"]: entry["resource"] for entry in bundle["entry"]}
    study, patient, endpoint = (resources[name] for name in ("ImagingStudy", "Patient", "Endpoint"))
    [identifier] = patient["identifier"]
    [study_uid] = [_uid(one["value"]) for one in study["identifier"] if one["system"] == "urn:dicom:uid"]
    sexes = {gender: sex for sex, gender in GENDERS.items()}
    return Manifest(
        uid=_uid(bundle["identifier"]["value"]),
        created_at=_local(bundle["timestamp"]),
        study_uid=study_uid,
        started=_local(study["started"]) if "started" in study else None,
        patient_id=identifier["value"],
        issuer=_uid(identifier["system"]),
        accession=study["basedOn"][0]["identifier"]["value"] if "basedOn" in study else "",
        institution=resources["Organization"]["name"],
        location_uid=_extension(endpoint, _LOCATION)["valueString"],
        manufacturer=resources["Device"]["manufacturer"],
        description=study.get("description", ""),
        patient_name=patient["name"][0]["text"] if "name" in patient else "",
        birth_date=date.fromisoformat(patient["birthDate"]) if "birthDate" in patient else None,
        sex=sexes.get(patient.get("gender", ""), ""),
        procedures=tuple(_coded_of(one) for one in study.get("procedureCode", ())),
        regions=tuple(
            _coded_of(one["valueCodeableConcept"]) for one in study.get("extension", ()) if one["url"] == _REGION
        ),
        wado_url=endpoint.get("address", ""),
        series=tuple(map(_series_of, study.get("series", ()))),
    )


def _series_of(series: Mapping[str, Any]) -> Series:
    return Series(
        uid=series["uid"],
        modality=series["modality"]["code"],
        number=series.get("number"),
        description=series.get("description", ""),
        started=_local(series["started"]) if "started" in series else None,
        body_site=_coded_of({"coding": [series["bodySite"]]}) if "bodySite" in series else None,
        laterality=_coded_of({"coding": [series["laterality"]]}) if "laterality" in series else None,
        instances=tuple(map(_instance_of, series.get("instance", ()))),
    )


def _instance_of(instance: Mapping[str, Any]) -> Instance:
    frames, title = _extension(instance, _FRAMES), _extension(instance, _TITLE)
    return Instance(
        uid=instance["uid"],
        sop_class=_uid(instance["sopClass"]["code"]),
        number=instance.get("number"),
        n_frames=frames.get("valueInteger"),
        title=_coded_of(title["valueCodeableConcept"]) if title else None,
        description=instance.get("title", ""),
    )


def _extension(of: Mapping[str, Any], url: str) -> Mapping[str, Any]:
    return next((one for one in of.get("extension", ()) if one["url"] == url), {})


def _concept(value: Coded) -> Json:
    return {**({"coding": [_coding(value)]} if value.code else {}), "text": value.meaning}


def _coding(value: Coded) -> Json:
    """One without a code is a text for people."""
    known = {"system": system_of(value.scheme), "code": value.code} if value.code else {}
    return {**known, "display": value.meaning}


def _coded_of(concept: Mapping[str, Any]) -> Coded:
    [coding] = concept.get("coding") or [{}]
    meaning = coding.get("display") or concept.get("text", "")
    return Coded(coding.get("code", ""), scheme_of(coding.get("system", "")), meaning)


def _reference(manifest: Manifest, kind: str) -> Json:
    return {"reference": _url(manifest, kind), "type": kind}


def _url(manifest: Manifest, kind: str) -> str:
    """Of an entry; the same manifest has the same ones."""
    return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, f'{manifest.uid}/{kind}')}"


def _uid(uri: str) -> str:
    return uri.removeprefix("urn:oid:")


def _local(instant: str) -> datetime:
    return datetime.fromisoformat(instant).astimezone(CHINA).replace(tzinfo=None, microsecond=0)
