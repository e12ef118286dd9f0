"""Builders of DICOM data sets for every test: small, deterministic, whole (CT, MR and SR pass dciodvfy).

    ct_study(n=3, patient="李雷")            three CT slices of one series
    image_study("US", n=1, frames=4)        any image modality
    sr_document(), rdsr(), pdf_document(), presentation_state(of=ct_study(n=1)[0])
    write(ds, path)                         with pydicom's own writer, so that it can judge ours

Same arguments, same bytes. UIDs come from `uid("any", "words")`. Names include Chinese, spaces, GB18030.
"""

from __future__ import annotations

import copy
import datetime as dt
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from radlake.dicom.part10 import encode_parts

__all__ = [
    "SOP_CLASSES",
    "bare_bytes",
    "compressed",
    "ct_study",
    "dicom_bytes",
    "encapsulated",
    "encode_located",
    "image_study",
    "mr_study",
    "pdf_document",
    "presentation_state",
    "rdsr",
    "sr_document",
    "uid",
    "write",
    "write_all",
]

SOP_CLASSES = {
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "MG": "1.2.840.10008.5.1.4.1.1.1.2",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "US-multiframe": "1.2.840.10008.5.1.4.1.1.3.1",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "OT": "1.2.840.10008.5.1.4.1.1.7",
    "XA": "1.2.840.10008.5.1.4.1.1.12.1",
    "NM": "1.2.840.10008.5.1.4.1.1.20",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}


def uid(*words: object) -> str:
    """A valid UID that depends on the words only."""
    return str(generate_uid(entropy_srcs=["radlake tests", *map(str, words)]))


def ct_study(n: int = 3, **options: Any) -> list[Dataset]:
    """CT slices of one series; see `image_study` for the options."""
    return image_study("CT", n=n, **{"body_part": "CHEST", "description": "胸部平扫", **options})


def mr_study(n: int = 3, **options: Any) -> list[Dataset]:
    return image_study("MR", n=n, **{"body_part": "BRAIN", "description": "头颅平扫", **options})


def image_study(
    modality: str,
    *,
    n: int = 1,
    series: int = 1,
    frames: int | None = None,
    rows: int = 16,
    columns: int = 16,
    patient: str = "李雷",
    patient_id: str = "P0001",
    birth_date: str = "19700102",
    sex: str = "M",
    study: object = 1,
    study_date: str | dt.date = "20260301",
    study_time: str = "083000",
    accession: str = "A0001",
    hospital: str = "苏州样例第一医院",
    manufacturer: str = "UIH",
    description: str = "",
    body_part: str = "",
    charset: str | None = "ISO_IR 192",
    seed: int = 0,
    **attributes: Any,
) -> list[Dataset]:
    """Instances of one study: `series` series of `n` instances each.

    Parameters
    ----------
    modality : str
        A modality of `SOP_CLASSES`.
    frames : int, optional
        Number of Frames; US becomes a US multi-frame image.
    patient, patient_id : str
        The patient as written by the hospital.
    study : object
        Names the study: same patient_id and study, same Study Instance UID.
    charset : str, optional
        Specific Character Set; None leaves the attribute out.
    attributes
        Further attributes by keyword; None removes one.
    """
    day = study_date if isinstance(study_date, str) else f"{study_date:%Y%m%d}"
    instances = []
    for number_of_series in range(1, series + 1):
        for number in range(1, n + 1):
            ds = _header(
                "US-multiframe" if modality == "US" and frames else modality,
                names=(patient_id, study, number_of_series, number),
                charset=charset,
            )
            ds.Modality = modality
            ds.PatientName = patient
            ds.PatientID = patient_id
            ds.PatientBirthDate = birth_date
            ds.PatientSex = sex
            ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = day
            ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = study_time
            ds.StudyID = "1"
            ds.AccessionNumber = accession
            ds.InstitutionName = hospital
            ds.Manufacturer = manufacturer
            ds.ManufacturerModelName = "uCT 760" if modality == "CT" else "Model 1"
            ds.ReferringPhysicianName = "王^医生"
            ds.StudyDescription = description
            ds.SeriesDescription = description
            ds.BodyPartExamined = body_part
            ds.SeriesNumber = number_of_series
            ds.InstanceNumber = number
            ds.ImageType = (
                ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "OTHER"]
                if modality in ("CT", "MR")
                else ["ORIGINAL", "PRIMARY"]
            )
            if modality in ("CT", "MR", "PT"):
                ds.FrameOfReferenceUID = uid("frame of reference", patient_id, study)
                ds.PositionReferenceIndicator = ""
                ds.ImagePositionPatient = [-100.0, -100.0, 5.0 * number]
                ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
                ds.PixelSpacing = [0.7, 0.7]
                ds.SliceThickness = 5
                ds.PatientPosition = "HFS"
            if modality == "CT":
                ds.KVP = 120
                ds.AcquisitionNumber = 1
                ds.RescaleIntercept = -1024
                ds.RescaleSlope = 1
                ds.RescaleType = "HU"
                ds.CTDIvol = 8.5
            if modality == "MR":
                ds.MagneticFieldStrength = 3
                ds.ScanningSequence = "SE"
                ds.SequenceVariant = "NONE"
                ds.ScanOptions = ""
                ds.MRAcquisitionType = "2D"
                ds.RepetitionTime = 500
                ds.EchoTime = 20
                ds.EchoTrainLength = 1
            _add_pixels(ds, rows=rows, columns=columns, frames=frames, seed=seed + 100 * number_of_series + number)
            for keyword, value in attributes.items():
                if value is None:
                    if keyword in ds:
                        delattr(ds, keyword)
                else:
                    setattr(ds, keyword, value)
            instances.append(ds)
    return instances


def sr_document(
    *,
    text: str = "两肺纹理清晰。",
    title: str = "检查报告",
    patient: str = "李雷",
    patient_id: str = "P0001",
    **attributes: Any,
) -> Dataset:
    """A Basic Text SR with one text item."""
    ds = _document("1.2.840.10008.5.1.4.1.1.88.11", "SR", patient=patient, patient_id=patient_id)
    ds.ValueType = "CONTAINER"
    ds.ContinuityOfContent = "SEPARATE"
    ds.CompletionFlag = "COMPLETE"
    ds.VerificationFlag = "UNVERIFIED"
    ds.PerformedProcedureCodeSequence = Sequence()
    ds.ReferencedPerformedProcedureStepSequence = Sequence()
    ds.ConceptNameCodeSequence = Sequence([_code("18748-4", "LN", title)])
    item = Dataset()
    item.RelationshipType = "CONTAINS"
    item.ValueType = "TEXT"
    item.ConceptNameCodeSequence = Sequence([_code("121071", "DCM", "Finding")])
    item.TextValue = text
    ds.ContentSequence = Sequence([item])
    return _with(ds, attributes)


def rdsr(*, dlp: float = 350.0, patient: str = "李雷", patient_id: str = "P0001", **attributes: Any) -> Dataset:
    """An X-Ray Radiation Dose SR with one accumulated dose length product."""
    ds = sr_document(patient=patient, patient_id=patient_id)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.67"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid("rdsr", patient_id)
    ds.ConceptNameCodeSequence = Sequence([_code("113701", "DCM", "X-Ray Radiation Dose Report")])
    value = Dataset()
    value.NumericValue = dlp
    value.MeasurementUnitsCodeSequence = Sequence([_code("mGy.cm", "UCUM", "mGy.cm")])
    number = Dataset()
    number.RelationshipType = "CONTAINS"
    number.ValueType = "NUM"
    number.ConceptNameCodeSequence = Sequence([_code("113813", "DCM", "CT Dose Length Product Total")])
    number.MeasuredValueSequence = Sequence([value])
    group = Dataset()
    group.RelationshipType = "CONTAINS"
    group.ValueType = "CONTAINER"
    group.ContinuityOfContent = "SEPARATE"
    group.ConceptNameCodeSequence = Sequence([_code("113811", "DCM", "CT Accumulated Dose Data")])
    group.ContentSequence = Sequence([number])
    ds.ContentSequence = Sequence([group])
    return _with(ds, attributes)


def pdf_document(*, payload: bytes = b"%PDF-1.4 test", patient: str = "李雷", patient_id: str = "P0001") -> Dataset:
    ds = _document(EncapsulatedPDFStorage, "DOC", patient=patient, patient_id=patient_id)
    ds.BurnedInAnnotation = "YES"
    ds.DocumentTitle = f"{patient} 报告"
    ds.ConceptNameCodeSequence = Sequence()
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocument = payload + b"\0" * (len(payload) % 2)
    ds.EncapsulatedDocumentLength = len(payload)
    return ds


def presentation_state(*, of: Dataset, text: str = "李雷 病灶") -> Dataset:
    """A Grayscale Softcopy Presentation State with one graphic text on the image `of`."""
    ds = _document("1.2.840.10008.5.1.4.1.1.11.1", "PR", patient=str(of.PatientName), patient_id=str(of.PatientID))
    ds.StudyInstanceUID = of.StudyInstanceUID
    ds.ContentLabel = "STATE"
    ds.ContentDescription = text
    ds.PresentationCreationDate = of.StudyDate
    ds.PresentationCreationTime = of.StudyTime
    ds.ContentCreatorName = "王^医生"
    image = Dataset()
    image.ReferencedSOPClassUID = of.SOPClassUID
    image.ReferencedSOPInstanceUID = of.SOPInstanceUID
    series = Dataset()
    series.SeriesInstanceUID = of.SeriesInstanceUID
    series.ReferencedImageSequence = Sequence([image])
    ds.ReferencedSeriesSequence = Sequence([series])
    note = Dataset()
    note.AnchorPointAnnotationUnits = "PIXEL"
    note.UnformattedTextValue = text
    note.AnchorPoint = [1.0, 1.0]
    note.AnchorPointVisibility = "N"
    annotation = Dataset()
    annotation.GraphicLayer = "LAYER1"
    annotation.TextObjectSequence = Sequence([note])
    ds.GraphicAnnotationSequence = Sequence([annotation])
    return ds


def compressed(ds: Dataset, *, transfer_syntax: str = RLELossless) -> Dataset:
    """A copy with encapsulated pixel data (RLE needs nothing; JPEG-LS uses pyjpegls)."""
    twin = pydicom.dcmread(io.BytesIO(dicom_bytes(ds)))
    twin.compress(transfer_syntax, generate_instance_uid=False)
    return twin


def encapsulated(ds: Dataset, fragments: Iterable[bytes], *, transfer_syntax: str) -> Dataset:
    """A copy whose pixel data are the given compressed frames, whatever they hold."""
    twin = pydicom.dcmread(io.BytesIO(dicom_bytes(ds)))
    twin.PixelData = encapsulate(list(fragments))
    twin["PixelData"].VR = "OB"
    twin["PixelData"].is_undefined_length = True
    twin.file_meta.TransferSyntaxUID = transfer_syntax
    return twin


def dicom_bytes(ds: Dataset, *, transfer_syntax: str | None = None) -> bytes:
    """Part-10 bytes by pydicom's writer, in the given transfer syntax (little or big endian, deflated)."""
    out = io.BytesIO()
    syntax = transfer_syntax or ds.file_meta.TransferSyntaxUID
    twin = copy.deepcopy(ds)
    twin.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian and "PixelData" in twin and twin.BitsAllocated == 16:
        twin.PixelData = np.frombuffer(twin.PixelData, "<u2").astype(">u2").tobytes()
    if syntax == ExplicitVRBigEndian:
        pydicom.dcmwrite(out, twin, implicit_vr=False, little_endian=False, enforce_file_format=True)
    else:
        pydicom.dcmwrite(out, twin, enforce_file_format=True)
    return out.getvalue()


def bare_bytes(ds: Dataset, *, implicit: bool = False) -> bytes:
    """The data set alone: no preamble, no file meta, little endian."""
    out = DicomBytesIO()
    out.is_little_endian = True
    out.is_implicit_VR = implicit
    write_dataset(out, copy.deepcopy(ds))
    return out.getvalue()


def write(ds: Dataset, path: Path, *, transfer_syntax: str | None = None) -> Path:
    """Write with pydicom; parents are created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dicom_bytes(ds, transfer_syntax=transfer_syntax))
    return path


def write_all(datasets: Iterable[Dataset], folder: Path, **options: Any) -> list[Path]:
    """Write as folder/<SOPInstanceUID>.dcm."""
    return [write(ds, folder / f"{ds.SOPInstanceUID}.dcm", **options) for ds in datasets]


def _header(kind: str, *, names: tuple[object, ...], charset: str | None) -> Dataset:
    patient_id, study, number_of_series, number = names
    ds = Dataset()
    if charset is not None:
        ds.SpecificCharacterSet = charset
    ds.SOPClassUID = SOP_CLASSES.get(kind, kind)
    ds.SOPInstanceUID = uid(kind, patient_id, study, number_of_series, number)
    ds.StudyInstanceUID = uid("study", patient_id, study)
    ds.SeriesInstanceUID = uid("series", kind, patient_id, study, number_of_series)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _document(sop_class: str, modality: str, *, patient: str, patient_id: str) -> Dataset:
    ds = _header(sop_class, names=(patient_id, 1, modality, 1), charset="ISO_IR 192")
    ds.Modality = modality
    ds.PatientName = patient
    ds.PatientID = patient_id
    ds.PatientBirthDate = "19700102"
    ds.PatientSex = "M"
    ds.StudyDate = ds.ContentDate = "20260301"
    ds.StudyTime = ds.ContentTime = "083000"
    ds.StudyID = "1"
    ds.AccessionNumber = "A0001"
    ds.ReferringPhysicianName = "王^医生"
    ds.Manufacturer = "UIH"
    ds.SeriesNumber = 9
    ds.InstanceNumber = 1
    return ds


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue = value
    code.CodingSchemeDesignator = scheme
    code.CodeMeaning = meaning
    return code


def _add_pixels(ds: Dataset, *, rows: int, columns: int, frames: int | None, seed: int) -> None:
    """A bright disc on a noisy background: 16 bit for CT, MR, PT, NM and X-ray, 8 bit for ultrasound and others."""
    bits = 8 if ds.Modality in ("US", "OT", "XA") else 16
    noise = np.random.default_rng(seed).integers(0, 40, size=(frames or 1, rows, columns))
    y, x = np.ogrid[:rows, :columns]
    disc = (y - rows / 2) ** 2 + (x - columns / 2) ** 2 < (min(rows, columns) / 3) ** 2
    pixels = noise + disc * (1064 if bits == 16 else 180)
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    if frames:
        ds.NumberOfFrames = frames
    ds.Rows = rows
    ds.Columns = columns
    ds.BitsAllocated = bits
    ds.BitsStored = 12 if bits == 16 else 8
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = 0
    data = pixels.astype("<u2" if bits == 16 else "u1").tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OW" if bits == 16 else "OB"


def _with(ds: Dataset, attributes: dict[str, Any]) -> Dataset:
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def encode_located(ds: Dataset) -> tuple[bytes, int | None]:
    """Canonical bytes, and where in them the value of the pixel data begins."""
    parts = encode_parts(ds)
    return b"".join(parts), len(parts.head) if parts.pixels else None
