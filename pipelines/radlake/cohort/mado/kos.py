"""The manifest as a DICOM Key Object Selection: TID 2010 with an Image Library, TID 1600 to 1602 and 1609 (PS3.16).

The document is highdicom's; the library is made of plain items, because highdicom copies each item of a document
several times, which takes seconds for a CT.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import datetime, time
from functools import cache

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import DA, TM

from radlake.cohort.mado.manifest import Coded, Instance, Manifest, ManifestInvalid, Series
from radlake.deidentify.elements import Element, dataset, dictionary_vr, raw_element, sequence_element
from radlake.dicom.uids import is_image_class
from radlake.dicom.values import date_from_text, time_from_text

__all__ = ["KOS_CLASS", "kos_of", "manifest_from_kos"]

KOS_CLASS = "1.2.840.10008.5.1.4.1.1.88.59"
_WAVEFORM_CLASSES = "1.2.840.10008.5.1.4.1.1.9."
_TITLE = Code("131560", "DCM", "Manifest with Description")
_LIBRARY = Code("111028", "DCM", "Image Library")
_GROUP = Code("126200", "DCM", "Image Library Group")
_SOURCE = Code("260753009", "SCT", "Source")
_PROCEDURE = Code("121023", "DCM", "Procedure Code")
_MODALITY = Code("121139", "DCM", "Modality")
_REGION = Code("123014", "DCM", "Target Region")
_LATERALITY = Code("111027", "DCM", "Image Laterality")
_N_SERIES = Code("131565", "DCM", "Number of Study Related Series")
_SERIES_UID = Code("112002", "DCM", "Series Instance UID")
_SERIES_NUMBER = Code("113607", "DCM", "Series Number")
_SERIES_DESCRIPTION = Code("131563", "DCM", "Series Description")
_SERIES_DATE = Code("131561", "DCM", "Series Date")
_SERIES_TIME = Code("131562", "DCM", "Series Time")
_N_INSTANCES = Code("131564", "DCM", "Number of Series Related Instances")
_INSTANCE_NUMBER = Code("113609", "DCM", "Instance Number")
_N_FRAMES = Code("121140", "DCM", "Number of Frames")
_DOCUMENT_TITLE = Code("121144", "DCM", "Document Title")
_DESCRIPTION = Code("113012", "DCM", "Key Object Description")
_UNITS = {
    _N_SERIES: Code("{series}", "UCUM", "series"),
    _N_INSTANCES: Code("{instances}", "UCUM", "instances"),
    _N_FRAMES: Code("{frames}", "UCUM", "frames"),
}
_OFFSET = "+0800"
_OF_NOW = (
    "InstanceCreationDate",
    "InstanceCreationTime",
    "ContributingEquipmentSequence",
)  # equal ones are equal bytes


def kos_of(manifest: Manifest, *, series_uid: str) -> Dataset:
    """The KOS; `series_uid` is of the series that it lies in, which a manifest does not tell.

    Raises
    ------
    ManifestInvalid
        If it refers to no instance.
    """
    if not any(series.instances for series in manifest.series):
        raise ManifestInvalid(reason="it refers to no instance")
    first = _first_evidence(manifest)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The string .* is unlikely to represent the intended person name")
        document = KeyObjectSelectionDocument(
            evidence=[first],
            content=KeyObjectSelection(document_title=_TITLE, referenced_objects=[first]),
            series_instance_uid=series_uid,
            series_number=1,
            sop_instance_uid=manifest.uid,
            instance_number=1,
            manufacturer=manifest.manufacturer,
            institution_name=manifest.institution,
            requested_procedures=[_request(manifest)],
            specific_character_set="ISO_IR 192",
        )
    for keyword in _OF_NOW:
        document.pop(keyword, None)
    document.ContentDate, document.ContentTime = DA(_day(manifest.created_at)), TM(_time(manifest.created_at))
    document.TimezoneOffsetFromUTC = _OFFSET
    _tell_patient(document, manifest)
    if manifest.description:
        document.StudyDescription = manifest.description
    document.IssuerOfAccessionNumberSequence = [_issuer(manifest)]
    document.CurrentRequestedProcedureEvidenceSequence = [_evidence(manifest)]
    document.ContentSequence = [
        *(_coded_item(_PROCEDURE, one, "HAS CONCEPT MOD") for one in manifest.procedures),
        *(_reference(one) for series in manifest.series for one in series.instances),
        _library(manifest),
    ]
    return document


def manifest_from_kos(ds: Dataset) -> Manifest:
    """What a KOS says.

    Raises
    ------
    ManifestInvalid
        If it is no manifest with an Image Library, or refers to what it does not describe.
    """
    try:
        return _manifest(ds)
    except (AttributeError, IndexError, KeyError, StopIteration, ValueError) as exc:
        raise ManifestInvalid(reason=f"it cannot be read as one ({type(exc).__name__}: {exc})") from exc


def _first_evidence(manifest: Manifest) -> Dataset:
    """The head of an instance, from which highdicom takes patient and study."""
    series = next(series for series in manifest.series if series.instances)
    head = Dataset()
    head.StudyInstanceUID, head.SeriesInstanceUID = manifest.study_uid, series.uid
    head.SOPClassUID, head.SOPInstanceUID = series.instances[0].sop_class, series.instances[0].uid
    head.PatientID, head.PatientSex = manifest.patient_id, manifest.sex
    head.PatientName, head.ReferringPhysicianName = manifest.patient_name, ""
    head.PatientBirthDate = f"{manifest.birth_date:%Y%m%d}" if manifest.birth_date else ""
    head.AccessionNumber, head.StudyID = manifest.accession, ""
    head.StudyDate, head.StudyTime = (_day(manifest.started), _time(manifest.started)) if manifest.started else ("", "")
    return head


def _tell_patient(document: Dataset, manifest: Manifest) -> None:
    for patient in (document, other := Dataset()):
        patient.PatientID, patient.IssuerOfPatientID = manifest.patient_id, manifest.issuer
        patient.IssuerOfPatientIDQualifiersSequence = [_issuer(manifest)]
    other.TypeOfPatientID = "TEXT"
    document.OtherPatientIDsSequence = [other]


def _issuer(manifest: Manifest) -> Dataset:
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = manifest.issuer, "ISO"
    return issuer


def _request(manifest: Manifest) -> Dataset:
    request = Dataset()
    request.StudyInstanceUID, request.AccessionNumber = manifest.study_uid, manifest.accession
    request.IssuerOfAccessionNumberSequence = [_issuer(manifest)]
    request.PlacerOrderNumberImagingServiceRequest = ""
    request.FillerOrderNumberImagingServiceRequest = ""
    request.RequestedProcedureID = request.RequestedProcedureDescription = ""
    request.RequestedProcedureCodeSequence = []
    request.ReferencedStudySequence = []
    return request


def _evidence(manifest: Manifest) -> Dataset:
    """Hierarchical SOP Instance Reference (PS3.3 C.17.2.1)."""
    address = {"RetrieveURL": manifest.wado_url} if manifest.wado_url else {}
    series = [
        _of(
            SeriesInstanceUID=one.uid,
            RetrieveLocationUID=manifest.location_uid,
            ReferencedSOPSequence=[_sop(instance) for instance in one.instances],
            **address,
        )
        for one in manifest.series
    ]
    return _of(StudyInstanceUID=manifest.study_uid, ReferencedSeriesSequence=series)


def _library(manifest: Manifest) -> Dataset:
    return _container(
        _LIBRARY,
        [
            *(_coded_item(_MODALITY, Coded(name, "DCM", name)) for name in manifest.modalities),
            *(_coded_item(_REGION, region) for region in manifest.regions),
            _number_item(_N_SERIES, len(manifest.series)),
            *map(_group, manifest.series),
        ],
    )


def _group(series: Series) -> Dataset:
    items = [
        _coded_item(_MODALITY, Coded(series.modality, "DCM", series.modality)),
        _item("UIDREF", _SERIES_UID, UID=series.uid),
        _number_item(_N_INSTANCES, len(series.instances)),
    ]
    if series.started:
        items.append(_item("DATE", _SERIES_DATE, Date=_day(series.started)))
        items.append(_item("TIME", _SERIES_TIME, Time=_time(series.started)))
    if series.description:
        items.append(_text_item(_SERIES_DESCRIPTION, series.description))
    if series.number is not None:
        items.append(_text_item(_SERIES_NUMBER, str(series.number)))
    if series.body_site:
        items.append(_coded_item(_REGION, series.body_site))
    if series.laterality:
        items.append(_coded_item(_LATERALITY, series.laterality))
    return _container(_GROUP, [*items, *map(_entry, series.instances)])


def _entry(instance: Instance) -> Dataset:
    items = []
    if instance.number is not None:
        items.append(_text_item(_INSTANCE_NUMBER, str(instance.number)))
    if instance.n_frames is not None:
        items.append(_number_item(_N_FRAMES, instance.n_frames))
    if instance.title:
        items.append(_coded_item(_DOCUMENT_TITLE, instance.title))
    if instance.description:
        items.append(_text_item(_DESCRIPTION, instance.description))
    return _reference(instance, items=items)


def _reference(instance: Instance, *, items: list[Dataset] | None = None) -> Dataset:
    if is_image_class(instance.sop_class):
        kind = "IMAGE"
    else:
        kind = "WAVEFORM" if instance.sop_class.startswith(_WAVEFORM_CLASSES) else "COMPOSITE"
    below = {"ContentSequence": items} if items else {}
    return _item(kind, _SOURCE, "CONTAINS", ReferencedSOPSequence=[_sop(instance)], **below)


def _sop(instance: Instance) -> Dataset:
    return _of(ReferencedSOPClassUID=instance.sop_class, ReferencedSOPInstanceUID=instance.uid)


def _container(name: Code, items: list[Dataset]) -> Dataset:
    return _item("CONTAINER", name, "CONTAINS", ContinuityOfContent="SEPARATE", ContentSequence=items)


def _coded_item(name: Code, value: Coded, relationship: str = "HAS ACQ CONTEXT") -> Dataset:
    if not value.code:
        return _text_item(name, value.meaning)
    return _item("CODE", name, relationship, ConceptCodeSequence=_coded(value))


def _text_item(name: Code, value: str) -> Dataset:
    return _item("TEXT", name, TextValue=value)


def _number_item(name: Code, value: int) -> Dataset:
    measured = _of(MeasurementUnitsCodeSequence=_name(_UNITS[name]), NumericValue=str(value))
    return _item("NUM", name, MeasuredValueSequence=[measured])


def _item(kind: str, name: Code, relationship: str = "HAS ACQ CONTEXT", /, **values: str | list[Dataset]) -> Dataset:
    return _of(RelationshipType=relationship, ValueType=kind, ConceptNameCodeSequence=_name(name), **values)


@cache
def _name(code: Code) -> list[Dataset]:
    return _coded(Coded(code.value, code.scheme_designator, code.meaning))


def _coded(value: Coded) -> list[Dataset]:
    return [_of(CodeValue=value.code, CodingSchemeDesignator=value.scheme, CodeMeaning=value.meaning)]


def _of(**values: str | list[Dataset]) -> Dataset:
    """An item by the keywords of its attributes; a manifest has thousands, and pydicom converts each value twice."""
    elements: dict[BaseTag, Element] = {}
    for keyword, value in values.items():
        tag = _tag(keyword)
        if isinstance(value, list):
            elements[tag] = sequence_element(tag, value)
        else:
            elements[tag] = raw_element(tag, dictionary_vr(tag) or "", value.encode())
    return dataset(dict(sorted(elements.items())))


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def _day(at: datetime) -> str:
    return f"{at:%Y%m%d}"


def _time(at: datetime) -> str:
    return f"{at:%H%M%S}"


def _manifest(ds: Dataset) -> Manifest:
    title = ds.ConceptNameCodeSequence[0]
    if (title.CodeValue, title.CodingSchemeDesignator) != (_TITLE.value, _TITLE.scheme_designator):
        raise ManifestInvalid(reason=f"its title is {title.CodeMeaning!r}")
    [study] = ds.CurrentRequestedProcedureEvidenceSequence
    of_series = {str(one.SeriesInstanceUID): one for one in study.ReferencedSeriesSequence}
    [library] = _named(ds, _LIBRARY)
    series = tuple(_series(group, of_series) for group in _named(library, _GROUP))
    if {one.uid for one in series} != set(of_series):
        raise ManifestInvalid(reason="its series and those of its Image Library differ")
    first = study.ReferencedSeriesSequence[0]
    return Manifest(
        uid=str(ds.SOPInstanceUID),
        created_at=_moment(ds.ContentDate, ds.ContentTime),
        study_uid=str(ds.StudyInstanceUID),
        started=_moment(ds.StudyDate, ds.StudyTime) if ds.StudyDate else None,
        patient_id=ds.PatientID,
        issuer=ds.IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID,
        accession=ds.AccessionNumber,
        institution=ds.InstitutionName,
        location_uid=str(first.RetrieveLocationUID),
        manufacturer=ds.Manufacturer,
        description=ds.get("StudyDescription", ""),
        patient_name=str(ds.PatientName),
        birth_date=date_from_text(ds.PatientBirthDate),
        sex=ds.PatientSex,
        procedures=tuple(_codes(ds, _PROCEDURE)),
        regions=tuple(_codes(library, _REGION)),
        wado_url=first.get("RetrieveURL", ""),
        series=series,
    )


def _series(group: Dataset, of_series: dict[str, Dataset]) -> Series:
    [uid] = [str(item.UID) for item in _named(group, _SERIES_UID)]
    classes = {str(one.ReferencedSOPInstanceUID): one for one in of_series[uid].ReferencedSOPSequence}
    entries = [item for item in group.ContentSequence if "ReferencedSOPSequence" in item]
    instances = tuple(map(_instance, entries))
    if {one.uid for one in instances} != set(classes):
        raise ManifestInvalid(reason=f"the instances of series {uid} and those of its Image Library Group differ")
    day, clock = _value(group, _SERIES_DATE, "Date"), _value(group, _SERIES_TIME, "Time")
    number = _value(group, _SERIES_NUMBER, "TextValue")
    return Series(
        uid=uid,
        modality=next(_codes(group, _MODALITY)).code,
        number=int(number) if number else None,
        description=_value(group, _SERIES_DESCRIPTION, "TextValue") or "",
        started=_moment(day, clock) if day else None,
        body_site=next(_codes(group, _REGION), None),
        laterality=next(_codes(group, _LATERALITY), None),
        instances=instances,
    )


def _instance(entry: Dataset) -> Instance:
    sop = entry.ReferencedSOPSequence[0]
    number = _value(entry, _INSTANCE_NUMBER, "TextValue")
    [frames] = [item.MeasuredValueSequence[0].NumericValue for item in _named(entry, _N_FRAMES)] or [None]
    return Instance(
        uid=str(sop.ReferencedSOPInstanceUID),
        sop_class=str(sop.ReferencedSOPClassUID),
        number=int(number) if number else None,
        n_frames=int(frames) if frames is not None else None,
        title=next(_codes(entry, _DOCUMENT_TITLE), None),
        description=_value(entry, _DESCRIPTION, "TextValue") or "",
    )


def _named(parent: Dataset, name: Code) -> Iterator[Dataset]:
    for item in parent.get("ContentSequence", []):
        concept = item.ConceptNameCodeSequence[0]
        if (concept.CodeValue, concept.CodingSchemeDesignator) == (name.value, name.scheme_designator):
            yield item


def _codes(parent: Dataset, name: Code) -> Iterator[Coded]:
    for item in _named(parent, name):
        if item.ValueType == "TEXT":
            yield Coded("", "", item.TextValue)
        else:
            code = item.ConceptCodeSequence[0]
            yield Coded(code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning)


def _value(parent: Dataset, name: Code, keyword: str) -> str | None:
    return next((str(item[keyword].value) for item in _named(parent, name)), None)


def _moment(day: str, clock: str | None) -> datetime:
    found = date_from_text(str(day))
    if found is None:
        raise ManifestInvalid(reason=f"{day!r} is no date")
    return datetime.combine(found, time_from_text(str(clock or "")) or time())
