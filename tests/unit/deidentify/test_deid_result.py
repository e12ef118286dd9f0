"""What a de-identified object is: marked, bit-identical where it must be, the same every time."""

from __future__ import annotations

import copy
import io

import pydicom
from pydicom.sequence import Sequence

from radlake.deidentify import Deidentifier, Person, identify_person, load_profile
from radlake.dicom.part10 import encode_instance, read_bytes
from support.deid import (
    CHINESE_NAME,
    HOSPITAL,
    HOSPITAL_NAME,
    KEYS,
    PATIENT_ID,
    assert_unreadable,
    ct_of_somebody,
    deidentified,
    deidentified_bytes,
    item_of,
    read_output,
)
from support.dicom import (
    dicom_bytes,
    encapsulated,
)


def test_markers_and_pseudonym() -> None:
    out = deidentified(ct_of_somebody())
    key = identify_person([ct_of_somebody()], hospital_id=HOSPITAL, keys=KEYS).patient_key
    assert out.PatientID == f"{key:016x}"
    assert out.PatientName == out.PatientID
    assert out.PatientIdentityRemoved == "YES"
    assert out.LongitudinalTemporalInformationModified == "MODIFIED"
    assert list(out.DeidentificationMethod) == ["radlake profile default v1", "DICOM PS3.15 2026c"]
    codes = [(item.CodeValue, item.CodingSchemeDesignator) for item in out.DeidentificationMethodCodeSequence]
    assert codes == [(code, "DCM") for code in ("113100", "113107", "113105", "113104", "113103", "113108")]


def test_missing_patient_gets_the_pseudonym_of_the_study() -> None:
    ds = ct_of_somebody()
    del ds.PatientID, ds.PatientName
    out = deidentified(ds)
    assert len(out.PatientID) == 16


def test_devices_stay_comparable() -> None:
    one, same, other = (deidentified(ct_of_somebody(DeviceSerialNumber=number)) for number in ("SN1", "SN1", "SN2"))
    assert one.DeviceSerialNumber == same.DeviceSerialNumber != other.DeviceSerialNumber
    assert "SN1" not in one.DeviceSerialNumber


def test_pixels_and_numbers_are_bit_identical() -> None:
    ds = ct_of_somebody()
    out = deidentified(ds)
    kept = ("PixelData", "Rows", "RescaleSlope", "ImagePositionPatient", "PixelSpacing", "KVP", "CTDIvol")
    assert all(out[keyword].value == ds[keyword].value for keyword in kept)
    packed = encapsulated(
        ds, [b"\xff\xd8\xff\xda\0\2 not a real frame \xff\xd9"], transfer_syntax="1.2.840.10008.1.2.4.70"
    )
    again = deidentified(packed)
    assert again.PixelData == packed.PixelData
    assert again.file_meta.TransferSyntaxUID == packed.file_meta.TransferSyntaxUID


def test_input_stays_as_it_is() -> None:
    ds = read_bytes(dicom_bytes(ct_of_somebody(RequestAttributesSequence=Sequence([item_of(AccessionNumber="A1")]))))
    before = encode_instance(copy.deepcopy(ds))
    person = identify_person([ds], hospital_id=HOSPITAL, keys=KEYS)
    out = Deidentifier(load_profile("default"), KEYS).deidentify(ds, person=person, hospital_id=HOSPITAL)
    out.Rows = 1
    out.RequestAttributesSequence[0].AccessionNumber = "changed"
    assert encode_instance(ds) == before


def test_twice_leaves_nothing_either() -> None:
    once = deidentified_bytes(ct_of_somebody(StudyDescription="胸部平扫"))
    twice = deidentified_bytes(once)
    assert_unreadable(twice, CHINESE_NAME, PATIENT_ID, HOSPITAL_NAME)
    first, second = read_output(once), read_output(twice)
    assert first.StudyDescription == second.StudyDescription == "胸部平扫"
    assert [elem.tag for elem in first] == [elem.tag for elem in second]


def test_data_set_in_memory_and_read_by_pydicom_give_the_same() -> None:
    ds = ct_of_somebody()
    person = Person(patient_key=42, is_known=True)
    deidentifier = Deidentifier(load_profile("default"), KEYS)
    forms = (ds, read_bytes(dicom_bytes(ds)), pydicom.dcmread(io.BytesIO(dicom_bytes(ds))))
    results = {encode_instance(deidentifier.deidentify(form, person=person, hospital_id=HOSPITAL)) for form in forms}
    assert len(results) == 1


def test_basic_profile_keeps_no_date_description_or_characteristic() -> None:
    out = deidentified(ct_of_somebody(StudyDescription="胸部平扫", PatientAge="056Y"), profile=load_profile("basic"))
    assert not out.StudyDate
    assert not out.PatientSex
    assert "PatientAge" not in out
    assert "StudyDescription" not in out
    assert out.LongitudinalTemporalInformationModified == "REMOVED"
