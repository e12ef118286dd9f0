"""Headers of synthetic images: what a modality and its PACS write into the objects of a series.

Made to be de-identified: names, numbers, addresses and telephone numbers of the person stand where real ones stand,
also in comments, nested sequences and private elements. Modules after PS3.3; what differs from instance to instance,
pixels included, is added by `datasets`.
"""

from __future__ import annotations

import zlib
from typing import TypeVar

from radlake.synth.encoding import Attributes
from radlake.synth.phantom import SIDE
from radlake.synth.province import PREFECTURES, Exam, Hospital, Series, Study

__all__ = ["SOP_CLASS_UIDS", "series_header"]

SOP_CLASS_UIDS = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "MG": "1.2.840.10008.5.1.4.1.1.1.2",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "SC": "1.2.840.10008.5.1.4.1.1.7",
    "SR": "1.2.840.10008.5.1.4.1.1.88.67",
}
_MACHINES = {
    "CT": (("SIEMENS", "SOMATOM go.Top"), ("UIH", "uCT 760"), ("NMS", "NeuViz 128")),
    "MR": (("SIEMENS", "MAGNETOM Vida"), ("UIH", "uMR 780"), ("Philips", "Ingenia")),
    "DX": (("WDM", "WDM-DR"), ("GE Healthcare", "Definium 656"), ("Carestream", "DRX")),
    "MG": (("HOLOGIC, Inc.", "Selenia"),),
    "US": (("Mindray", "Resona 7"), ("SonoScape", "S60")),
}
_PHYSICIANS = ("Gu^Xin=顾^欣", "Yin^Hong=殷^红", "Shi^Lei=石^磊", "Mao^Ying=毛^颖", "Dai^Jun=戴^军")
# Anatomic regions of PS3.16 CID 4009 and mammography views of CID 4014, in SNOMED CT.
_REGIONS = {
    "CHEST": ("51185008", "Chest"),
    "KNEE": ("72696002", "Knee"),
    "HAND": ("85562004", "Hand"),
    "ANKLE": ("70258002", "Ankle joint"),
    "LSPINE": ("122496007", "Lumbar spine"),
    "PELVIS": ("12921003", "Pelvis"),
    "BREAST": ("76752008", "Breast"),
}
_VIEWS = {"CC": ("399162004", "cranio-caudal"), "MLO": ("399368009", "medio-lateral oblique")}
_OLD_CONSOLES = 12  # one radiography exam in so many says nothing about text in its pixels

_T = TypeVar("_T")


def series_header(exam: Exam, study: Study, series: Series, *, hospital: Hospital) -> Attributes:
    """Everything but the elements that differ from instance to instance."""
    kind = hospital.digital_radiography if series.plan.kind == "DX" else series.plan.kind
    header: Attributes = {"SpecificCharacterSet": hospital.charset, "SOPClassUID": SOP_CLASS_UIDS[kind]}
    header |= _patient(exam, hospital=hospital)
    header |= _study(exam, study, hospital=hospital)
    header |= _series(exam, study, series, kind=kind, hospital=hospital)
    header |= _IMAGE[kind](exam, series)
    header |= _private(exam, study, hospital=hospital)
    return header


def _is_spelled(hospital: Hospital) -> bool:
    """Names are spelled in Latin letters."""
    return hospital.charset == "ISO_IR 100"


def _number_of(text: str, below: int) -> int:
    """A number that the same text always gives."""
    return zlib.crc32(text.encode()) % below


def _pick(choices: tuple[_T, ...], text: str) -> _T:
    return choices[_number_of(text, len(choices))]


def _physician(role: str, exam: Exam, *, hospital: Hospital) -> str:
    name = _pick(_PHYSICIANS, f"{hospital.hospital_id} {role} {exam.exam_id}")
    return name.partition("=")[0] if _is_spelled(hospital) else name


def _code(value: str, meaning: str, scheme: str = "SCT") -> list[Attributes]:
    return [{"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}]


def _patient(exam: Exam, *, hospital: Hospital) -> Attributes:
    person, spelled = exam.person, _is_spelled(hospital)
    if not exam.patient_id:
        name = "Unknown^Unknown" if spelled else "Wuming^Shi=无名^氏"
        return {"PatientName": name, "PatientID": "", "PatientBirthDate": "", "PatientSex": person.sex}
    header: Attributes = {
        "PatientName": person.name_spelled if spelled else person.name,
        "PatientID": exam.patient_id,
        "IssuerOfPatientID": hospital.hospital_id.upper(),
        "PatientBirthDate": f"{person.birth_date:%Y%m%d}",
        "PatientSex": person.sex,
        "PatientAge": f"{int((exam.day - person.birth_date).days / 365.25):03d}Y",
        "PatientWeight": str(45 + _number_of(person.person_id, 50)),
        "PatientTelephoneNumbers": person.phone,
    }
    if exam.has_national_id and hospital.charset == "GB18030":
        header["OtherPatientIDs"] = person.national_id
    elif exam.has_national_id:
        header["OtherPatientIDsSequence"] = [
            {"PatientID": person.national_id, "IssuerOfPatientID": "MPS", "TypeOfPatientID": "TEXT"}
        ]
    city_zh, city_en, _ = PREFECTURES[hospital.region_code]
    house = _number_of(person.phone, 200) + 1
    if spelled:
        header["PatientAddress"] = f"{house} Example Road, {city_en}"
        header["PatientComments"] = f"Contact {person.name_spelled.replace('^', ' ')} tel {person.phone}"
        header["AdditionalPatientHistory"] = f"Cough for two weeks, MRN {exam.patient_id}"
    else:
        header["PatientAddress"] = f"江苏省{city_zh}市示例路{house}号"
        header["PatientComments"] = f"联系人{person.name_zh}，电话{person.phone}"
        header["AdditionalPatientHistory"] = f"患者{person.name_zh}，门诊号{exam.patient_id}，咳嗽两周"
    return header


def _study(exam: Exam, study: Study, *, hospital: Hospital) -> Attributes:
    description = _description(exam, hospital=hospital)
    return {
        "StudyInstanceUID": study.study_instance_uid,
        "StudyDate": f"{study.started_at:%Y%m%d}",
        "StudyTime": f"{study.started_at:%H%M%S}",
        "StudyID": exam.accession_number[-6:],
        "AccessionNumber": exam.accession_number,
        "StudyDescription": description,
        "RequestedProcedureDescription": description,
        "ReferringPhysicianName": _physician("referring", exam, hospital=hospital),
        "NameOfPhysiciansReadingStudy": _physician("reading", exam, hospital=hospital),
        "RequestingPhysician": _physician("requesting", exam, hospital=hospital),
        "AdmissionID": f"A{exam.accession_number}",
        "CurrentPatientLocation": "ER" if exam.is_emergency else "OPD",
    }


def _description(exam: Exam, *, hospital: Hospital) -> str:
    """As people type it: now and then with the name of the patient behind it."""
    person, protocol = exam.person, exam.protocol
    is_named = bool(exam.patient_id) and _number_of(exam.exam_id, 30) == 0
    if _is_spelled(hospital):
        side = {"L": "Left ", "R": "Right "}.get(exam.laterality, "")
        technique, _, rest = protocol.name_en.partition(" ")
        return f"{technique} {side}{rest}" + (f" {person.name_spelled.replace('^', ' ')}" if is_named else "")
    side = {"L": "左", "R": "右"}.get(exam.laterality, "")
    return f"{side}{protocol.name_zh}" + (f" {person.name_zh}" if is_named else "")


def _series(exam: Exam, study: Study, series: Series, *, kind: str, hospital: Hospital) -> Attributes:
    protocol, spelled = exam.protocol, _is_spelled(hospital)
    day, time = f"{study.started_at:%Y%m%d}", f"{study.started_at:%H%M%S}"
    manufacturer, model = _pick(_MACHINES[protocol.modality], f"{hospital.hospital_id} {protocol.modality}")
    header: Attributes = {
        "SeriesInstanceUID": series.series_instance_uid,
        "SeriesNumber": str(series.number),
        "SeriesDescription": series.plan.description,
        "SeriesDate": day,
        "SeriesTime": time,
        "Modality": "OT" if kind == "SC" else kind,
        "InstanceCreationDate": day,
        "InstanceCreationTime": time,
        "ContentDate": day,
        "Manufacturer": manufacturer,
        "ManufacturerModelName": model,
        "DeviceSerialNumber": str(10_000 + _number_of(f"{hospital.hospital_id} {kind}", 90_000)),
        "SoftwareVersions": "VB20A",
        "StationName": f"{hospital.ae_title[:8]}{protocol.modality}01",
        "InstitutionName": hospital.name_en if spelled else hospital.name_zh,
        "InstitutionalDepartmentName": "Radiology" if spelled else "放射科",
        "InstitutionAddress": "1 Example Road" if spelled else "江苏省示例路1号",
        "OperatorsName": _physician("operator", exam, hospital=hospital),
        "PerformingPhysicianName": _physician("performing", exam, hospital=hospital),
        "PerformedProcedureStepStartDate": day,
        "PerformedProcedureStepStartTime": time,
        "PerformedProcedureStepID": exam.accession_number,
        "RequestAttributesSequence": [
            {
                "RequestedProcedureID": exam.accession_number,
                "ScheduledProcedureStepID": exam.accession_number,
                "RequestedProcedureDescription": _description(exam, hospital=hospital),
            }
        ],
    }
    is_acquired = kind not in ("SC", "SR", "US")
    if is_acquired:
        header |= {"AcquisitionDate": day, "ProtocolName": protocol.name_en}
        if exam.has_body_part:
            header["BodyPartExamined"] = protocol.body_part
    if kind not in ("DX", "MG", "SR"):  # these name the side in each image, or nowhere
        if exam.laterality in ("L", "R"):
            header["Laterality"] = exam.laterality
        elif "BodyPartExamined" not in header:
            header["Laterality"] = ""
    if kind in ("CT", "MR"):
        header["FrameOfReferenceUID"] = f"{study.study_instance_uid}.0"
        header["PositionReferenceIndicator"] = ""
        header["PatientPosition"] = "FFS" if protocol.body_part == "KNEE" else "HFS"
        if protocol.has_contrast and series.number > 1:
            header["ContrastBolusAgent"] = "Iohexol" if kind == "CT" else "Gadobutrol"
    return header


def _pixel_module(*, bits: int) -> Attributes:
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": SIDE,
        "Columns": SIDE,
        "BitsAllocated": 16 if bits > 8 else 8,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
    }


def _plane(*, spacing: str, thickness: str) -> Attributes:
    return {
        "PixelSpacing": [spacing, spacing],
        "SliceThickness": thickness,
        "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
    }


def _ct(exam: Exam, series: Series) -> Attributes:
    kind = "LOCALIZER" if series.plan.description == "Topogram" else "AXIAL"
    return {
        **_pixel_module(bits=12),
        **_plane(spacing="4", thickness="5"),
        **({"BurnedInAnnotation": "NO"} if kind == "LOCALIZER" else {}),
        "ImageType": ["ORIGINAL", "PRIMARY", kind],
        "AcquisitionNumber": str(series.number),
        "RescaleIntercept": "-1024",
        "RescaleSlope": "1",
        "RescaleType": "HU",
        "WindowCenter": "40",
        "WindowWidth": "400",
        "KVP": "120",
        "XRayTubeCurrent": "180",
        "ExposureTime": "500",
        "Exposure": "90",
        "ConvolutionKernel": "Br40",
        "ScanOptions": "SPIRAL MODE",
        "CTDIvol": 5.5 + _number_of(exam.exam_id, 60) / 10,
    }


def _mr(_: Exam, series: Series) -> Attributes:
    is_spin_echo = " SE " in series.plan.description
    return {
        **_pixel_module(bits=12),
        **_plane(spacing="2.5", thickness="5"),
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "ScanningSequence": "SE",
        "SequenceVariant": "NONE" if is_spin_echo else "SK",
        "ScanOptions": "",
        "MRAcquisitionType": "2D",
        "RepetitionTime": "500" if is_spin_echo else "3500",
        "EchoTime": "10" if is_spin_echo else "95",
        "EchoTrainLength": "1" if is_spin_echo else "15",
        "FlipAngle": "90",
        "MagneticFieldStrength": "1.5",
        "WindowCenter": "800",
        "WindowWidth": "1600",
    }


def _dx(exam: Exam, series: Series) -> Attributes:
    return {
        **_pixel_module(bits=12),
        "ImageType": ["ORIGINAL", "PRIMARY", ""],
        "PixelIntensityRelationship": "LOG",
        "PixelIntensityRelationshipSign": -1,
        "RescaleIntercept": "0",
        "RescaleSlope": "1",
        "RescaleType": "US",
        "PresentationLUTShape": "IDENTITY",
        "LossyImageCompression": "00",
        "BurnedInAnnotation": "NO",
        "WindowCenter": "2048",
        "WindowWidth": "4096",
        "PresentationIntentType": "FOR PRESENTATION",
        "PatientOrientation": ["L", "F"],
        "AcquisitionContextSequence": [],
        "PositionerType": "",
        "DetectorType": "DIRECT",
        "ImagerPixelSpacing": ["2.8", "2.8"],
        "FieldOfViewShape": "RECTANGLE",
        "KVP": "75",
        "Exposure": "4",
        "ViewPosition": series.plan.view,
        "AnatomicRegionSequence": _code(*_REGIONS[exam.protocol.body_part]),
        "ImageLaterality": exam.laterality or "U",
    }


def _mg(exam: Exam, series: Series) -> Attributes:
    view = _code(*_VIEWS[series.plan.view])
    view[0]["ViewModifierCodeSequence"] = []
    return {
        **_dx(exam, series),
        "ImageLaterality": series.plan.description[0],
        "PositionerType": "MAMMOGRAPHIC",
        "OrganExposed": "BREAST",
        "BreastImplantPresent": "NO",
        "ViewCodeSequence": view,
    }


def _cr(exam: Exam, series: Series) -> Attributes:
    header: Attributes = {
        **_pixel_module(bits=12),
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "PatientOrientation": ["L", "F"],
        "ViewPosition": series.plan.view,
        "ImagerPixelSpacing": ["2.8", "2.8"],
        "KVP": "75",
        "PlateID": "P1",
        "WindowCenter": "2048",
        "WindowWidth": "4096",
    }
    if _number_of(exam.exam_id, _OLD_CONSOLES):
        header["BurnedInAnnotation"] = "NO"
    return header if exam.has_body_part else {**header, "BodyPartExamined": ""}


def _us(_: Exam, __: Series) -> Attributes:
    return {
        **_pixel_module(bits=8),
        "ImageType": ["ORIGINAL", "PRIMARY", "ABDOMINAL", "0001"],
        "PatientOrientation": "",
        "BurnedInAnnotation": "YES",
        "LossyImageCompression": "00",
    }


def _sc(_: Exam, __: Series) -> Attributes:
    return {
        **_pixel_module(bits=8),
        "ImageType": ["DERIVED", "SECONDARY"],
        "ConversionType": "WSD",
        "PatientOrientation": "",
        "BurnedInAnnotation": "YES",
    }


def _sr(exam: Exam, _: Series) -> Attributes:
    """A radiation dose report with its totals only (PS3.16 TID 10011)."""
    total = 150 + _number_of(exam.exam_id, 500)
    return {
        "CompletionFlag": "COMPLETE",
        "VerificationFlag": "UNVERIFIED",
        "ReferencedPerformedProcedureStepSequence": [],
        "PerformedProcedureCodeSequence": [],
        "ValueType": "CONTAINER",
        "ContinuityOfContent": "SEPARATE",
        "ConceptNameCodeSequence": _code("113701", "X-Ray Radiation Dose Report", "DCM"),
        "ContentTemplateSequence": [{"MappingResource": "DCMR", "TemplateIdentifier": "10011"}],
        "ContentSequence": [
            {
                **_item("HAS OBS CONTEXT", "PNAME", "121008", "Person Observer Name"),
                "PersonName": _PHYSICIANS[0].partition("=")[0],
            },
            {
                **_item("CONTAINS", "CONTAINER", "113811", "CT Accumulated Dose Data"),
                "ContinuityOfContent": "SEPARATE",
                "ContentSequence": [
                    _measurement("113812", "Total Number of Irradiation Events", "2", "{events}", "events"),
                    _measurement("113813", "CT Dose Length Product Total", str(total), "mGy.cm", "mGy.cm"),
                ],
            },
        ],
    }


def _item(relationship: str, value_type: str, code: str, meaning: str) -> Attributes:
    return {
        "RelationshipType": relationship,
        "ValueType": value_type,
        "ConceptNameCodeSequence": _code(code, meaning, "DCM"),
    }


def _measurement(code: str, meaning: str, value: str, unit: str, unit_meaning: str) -> Attributes:
    measured: Attributes = {
        "MeasurementUnitsCodeSequence": _code(unit, unit_meaning, "UCUM"),
        "NumericValue": value,
    }
    return {**_item("CONTAINS", "NUM", code, meaning), "MeasuredValueSequence": [measured]}


_IMAGE = {"CT": _ct, "MR": _mr, "DX": _dx, "CR": _cr, "MG": _mg, "US": _us, "SC": _sc, "SR": _sr}


def _private(exam: Exam, study: Study, *, hospital: Hospital) -> Attributes:
    """What the PACS adds for itself: it copies the person into its own elements."""
    name = exam.person.name_spelled if _is_spelled(hospital) else exam.person.name_zh
    nested: Attributes = {
        (0x00110010, "LO"): "EXAMPLE PACS 1.0",
        (0x00111003, "UI"): study.study_instance_uid,
        "PatientID": exam.patient_id,
    }
    return {
        (0x00110010, "LO"): "EXAMPLE PACS 1.0",
        (0x00111001, "LO"): name if exam.patient_id else "",
        (0x00111002, "LO"): exam.person.national_id if exam.has_national_id else "",
        (0x00111010, "SQ"): [nested],
        (0x00111020, "DS"): "1.5",
    }
