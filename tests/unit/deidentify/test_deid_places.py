"""Identifiers where nobody looks: at any depth, in private attributes, in attributes for something else."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.datadict import dictionary_VR
from pydicom.sequence import Sequence

from support.deid import (
    CHINESE_NAME,
    HOSPITAL_NAME,
    PATIENT_ID,
    assert_unreadable,
    ct_of_somebody,
    deidentified,
    deidentified_bytes,
    item_of,
    profile_of,
    read_output,
)
from support.dicom import (
    ct_study,
    mr_study,
)
from support.planting import sent_with


def test_identifiers_at_every_depth() -> None:
    deepest = item_of(PatientName=CHINESE_NAME, InstitutionName=HOSPITAL_NAME, InstanceCreationDate="20260301")
    middle = item_of(OperatorsName="周^文博", RelatedSeriesSequence=Sequence([deepest]))
    ds = ct_of_somebody(
        RealWorldValueMappingSequence=Sequence(
            [item_of(PatientName=CHINESE_NAME, PatientID=PATIENT_ID, RelatedSeriesSequence=[middle])]
        ),
        ContributingEquipmentSequence=Sequence(
            [item_of(Manufacturer="UIH", InstitutionName=HOSPITAL_NAME, StationName="CT-7F-03")]
        ),
        OriginalAttributesSequence=Sequence(
            [item_of(ModifiedAttributesSequence=Sequence([item_of(PatientName=CHINESE_NAME)]))]
        ),
        RequestAttributesSequence=Sequence(
            [item_of(AccessionNumber="A0001", ScheduledProcedureStepDescription=f"{CHINESE_NAME} 胸部平扫")]
        ),
    )
    out = deidentified_bytes(ds)
    assert_unreadable(out, CHINESE_NAME, HOSPITAL_NAME, PATIENT_ID, "A0001", "周文博", "CT-7F-03")
    ds = read_output(out)
    assert "OriginalAttributesSequence" not in ds
    assert ds.RequestAttributesSequence[0].ScheduledProcedureStepDescription == "胸部平扫"
    deepest = ds.RealWorldValueMappingSequence[0].RelatedSeriesSequence[0].RelatedSeriesSequence[0]
    assert deepest.InstanceCreationDate == ds.StudyDate
    assert deepest.PatientName == ds.PatientName


def test_item_with_a_character_set_of_its_own() -> None:
    item = item_of(SpecificCharacterSet="GB18030", PersonName=CHINESE_NAME, CodeMeaning="胸部平扫")
    out = deidentified(ct_of_somebody(RealWorldValueMappingSequence=Sequence([item])))
    assert "SpecificCharacterSet" not in out.RealWorldValueMappingSequence[0]
    assert out.RealWorldValueMappingSequence[0].CodeMeaning == "胸部平扫"


def test_deep_nesting() -> None:
    item = item_of(PatientName=CHINESE_NAME)
    for _ in range(60):
        item = item_of(RelatedSeriesSequence=Sequence([item]))
    assert_unreadable(deidentified_bytes(ct_of_somebody(RelatedSeriesSequence=Sequence([item]))), CHINESE_NAME)


def test_private_attributes_everywhere() -> None:
    ds = ct_of_somebody()
    block = ds.private_block(0x0011, "Wang Xiulan PACS", create=True)
    block.add_new(0x01, "LO", CHINESE_NAME)
    block.add_new(0x02, "OB", CHINESE_NAME.encode("gbk"))
    block.add_new(0x03, "SQ", [item_of(PatientName=CHINESE_NAME)])
    ds.add_new(0x00131010, "LO", CHINESE_NAME)  # no creator
    nested = item_of(ReferencedSOPInstanceUID="1.2.3.4")
    nested.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", CHINESE_NAME.encode())
    ds.ReferencedImageSequence = Sequence([nested])
    out = deidentified_bytes(ds)
    assert_unreadable(out, CHINESE_NAME, "Wang Xiulan")
    assert not [elem.tag for elem in read_output(out).iterall() if elem.tag.is_private]


def test_safe_private_attributes_stay(tmp_path: Path) -> None:
    profile = profile_of(
        tmp_path,
        "extends: default\noptions: [retain_safe_private, retain_modified_dates]\nsafe_private:\n"
        "- {group: '0019', creator: SIEMENS MR HEADER, element: '0C', vr: IS}\n"
        "- {group: '0019', creator: SIEMENS MR HEADER, element: '0D', vr: LO}\n"
        "- {group: '0019', creator: SIEMENS MR HEADER, element: '0F', vr: SQ}\n"
        "- {group: '0019', creator: SIEMENS MR HEADER, element: '10', vr: FD}",
    )
    ds = mr_study(1, patient_id=PATIENT_ID)[0]
    block = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", "1000")
    block.add_new(0x0D, "LO", PATIENT_ID)
    block.add_new(0x0E, "LO", "unlisted")
    block.add_new(0x0F, "SQ", [item_of(PatientName=CHINESE_NAME, EchoTime="1.5", InstitutionName="unlisted")])
    block.add_new(0x10, "FD", [1.0, 0.5])
    ds.private_block(0x0019, "OTHER", create=True).add_new(0x0C, "IS", "7")
    out = deidentified(ds, profile=profile)
    (item,) = out[0x0019100F].value
    assert (item.PatientName, item.EchoTime, item.InstitutionName) == (out.PatientName, 1.5, "")
    assert {int(elem.tag): elem.value for elem in out if elem.tag.is_private and elem.VR != "SQ"} == {
        0x00190010: "SIEMENS MR HEADER",
        0x0019100C: 1000,
        0x00191010: [1.0, 0.5],
    }


def test_hospital_stays_when_a_profile_says_so(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, "extends: basic\noptions: [retain_institution_identity]")
    ds = ct_of_somebody(SoftwareVersions=f"R5 {PATIENT_ID}")
    out = deidentified(ds, profile=profile)
    assert out.InstitutionName == HOSPITAL_NAME
    assert out.SoftwareVersions == "REMOVED"
    assert "113112" in [item.CodeValue for item in out.DeidentificationMethodCodeSequence]


def test_hospital_that_may_stay_tells_nothing_of_the_patient(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, "extends: basic\noptions: [retain_institution_identity]")
    kept = deidentified(ct_of_somebody(InstitutionAddress="1 Hospital Road, Suzhou"), profile=profile)
    assert kept.InstitutionAddress == "1 Hospital Road, Suzhou"
    assert deidentified(ct_of_somebody(InstitutionAddress="for Wang Xiulan"), profile=profile).InstitutionAddress == ""


def test_devices_may_stay_when_a_profile_says_so(tmp_path: Path) -> None:
    """An option overrides what a base says of an attribute (PS3.15 E.3)."""
    profile = profile_of(tmp_path, "extends: basic\noptions: [retain_device_identity]")
    out = deidentified(ct_of_somebody(DeviceSerialNumber="SN-4711", StationName="CT7"), profile=profile)
    assert (out.DeviceSerialNumber, out.StationName) == ("SN-4711", "CT7")


def test_devices_that_may_stay_tell_no_uid_of_the_object(tmp_path: Path) -> None:
    ds = ct_of_somebody(StationName="CT1")
    ds.DeviceSerialNumber = ds.SOPInstanceUID
    profile = profile_of(tmp_path, "extends: basic\noptions: [retain_device_identity]")
    out = deidentified(ds, profile=profile)
    assert (out.DeviceSerialNumber, out.StationName) == ("", "CT1")


def test_unknown_attributes_go() -> None:
    ds = ct_of_somebody()
    ds.add_new(0x0008EEE0, "LO", CHINESE_NAME)
    ds.add_new(0x0012FFF0, "UN", b"abcd")
    out = deidentified(ds)
    assert 0x0008EEE0 not in out
    assert 0x0012FFF0 not in out


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("ImageType", rf"ORIGINAL\PRIMARY\{PATIENT_ID}", ["ORIGINAL", "PRIMARY"]),
        ("ImageType", rf"ORIGINAL\PRIMARY\{PATIENT_ID}\HELIX", ["ORIGINAL", "PRIMARY", "", "HELIX"]),
        ("Manufacturer", f"UIH ({HOSPITAL_NAME})", "UIH"),
        ("Manufacturer", f"{CHINESE_NAME}", "OTHER"),
        ("Manufacturer", "UIH Suzhou Hospital", "UIH"),
        ("SoftwareVersions", f"R5 {PATIENT_ID}", "REMOVED"),
        ("SoftwareVersions", f"R5 {CHINESE_NAME}", "REMOVED"),
        ("SoftwareVersions", "R5 13800138000", "REMOVED"),
        ("ManufacturerModelName", "WANG^XIULAN", "REMOVED"),
        ("Laterality", "WANGXIULAN", ""),
        ("PatientSex", "女 王秀兰", ""),
        ("BodyPartExamined", "WANG XIULAN", ""),
        ("BodyPartExamined", "C_SPINE", "C_SPINE"),
        ("PatientPosition", "ZY12736053", ""),
        ("PatientSize", "王秀兰", ""),
        ("KVP", "120KV", ""),
        ("SequenceName", "ep2d_1970-01-02", ""),
        ("AcquisitionProtocolName", "Wang Xiulan chest", "CHEST"),
        ("RetrieveURL", "http://pacs.example/wado?patient=ZY12736053", ""),
        ("ScanOptions", "HELICAL MODE", "HELICAL MODE"),
        ("ManufacturerModelName", "uCT 760", "uCT 760"),
        ("ManufacturerModelName", "CT-第一人民医院", "CT"),
        ("ManufacturerModelName", "JSPH scanner", "scanner"),
        ("Manufacturer", "JSPH Radiology", "OTHER"),
        ("SoftwareVersions", "syngo MR XA20", "syngo MR XA20"),
        ("SoftwareVersions", "192.168.12.7", "REMOVED"),
        ("ImageType", r"ORIGINAL\PRIMARY\LI_XIAOMING", ["ORIGINAL", "PRIMARY"]),
        ("ImageType", r"ORIGINAL\PRIMARY\Nguyen Thi Hoa", ["ORIGINAL", "PRIMARY"]),
        ("AcquisitionContrast", "O'Brien Sean", ""),
        ("ScanOptions", "Helical", "Helical"),
        ("ScanOptions", "2024.3.5", ""),
        ("SeriesNumber", "20240305", ""),
        ("KVP", "13800138000", ""),
        ("ConvolutionKernel", "li.lei@example.cn", ""),
    ],
)
def test_misused_attributes(keyword: str, value: str, expected: object) -> None:
    ds = ct_of_somebody()
    out = deidentified(sent_with(ds, **{keyword: (dictionary_VR(keyword), value.encode())}))
    assert (out.get(keyword) or "") == expected


def test_number_that_is_the_patient_id() -> None:
    ds = ct_study(1, patient_id="20481377", SeriesNumber=20481377, PatientWeight="20481377")[0]
    out = deidentified_bytes(ds)
    assert_unreadable(out, "20481377")


def test_code_meanings_and_local_codes() -> None:
    ds = ct_of_somebody(
        AnatomicRegionSequence=Sequence(
            [item_of(CodeValue="T-D3000", CodingSchemeDesignator="SRT", CodeMeaning="Chest of Wang Xiulan")]
        ),
        ProcedureCodeSequence=Sequence(
            [item_of(CodeValue=PATIENT_ID, CodingSchemeDesignator="99HIS", CodeMeaning=f"胸部平扫 {CHINESE_NAME}")]
        ),
    )
    out = deidentified_bytes(ds)
    assert_unreadable(out, CHINESE_NAME, "Wang", PATIENT_ID)
    code = read_output(out).ProcedureCodeSequence[0]
    assert (code.CodeValue, code.CodeMeaning) == ("REMOVED", "胸部平扫")


def test_free_text_keeps_only_the_vocabulary() -> None:
    text = f"{CHINESE_NAME} 女 12床 13800138000 南京市鼓楼区样例路89号 2026年3月1日 胸部平扫"
    ds = ct_of_somebody(
        ImageComments=text, PatientComments=text, StudyDescription=text, AdmittingDiagnosesDescription=text
    )
    out = deidentified_bytes(ds)
    assert_unreadable(out, CHINESE_NAME, "13800138000", "南京市", "12床", "2026年3月1日")
    assert read_output(out).StudyDescription == "胸部平扫"


@pytest.mark.parametrize(("name", "codec"), [("李^娜", "gb18030"), ("Li^Na", "ascii"), ("Li^Na", "utf-16-le")])
def test_a_short_name_among_few_numbers(name: str, codec: str) -> None:
    spelled = name.replace("^", "").encode(codec)
    before = ct_study(1, patient=name, patient_id=PATIENT_ID)[0]
    out = deidentified_bytes(
        sent_with(before, SelectorOLValue=("OL", spelled), SelectorOWValue=("OW", spelled + bytes(64)))
    )
    assert spelled not in out
