"""Places where identifiers hide and where naive de-identification leaves them: one small data set each.

Each goes in as bytes, as a hospital sends it, and is judged in the bytes that the lake would store.
"""

from __future__ import annotations

import copy
import io
from datetime import datetime
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info, write_sequence_item
from pydicom.sequence import Sequence

import radlake.deidentify.walk
from radlake.deidentify import Deidentifier, Person, identify_person, load_profile
from radlake.dicom.part10 import encode_instance, read_bytes
from radlake.errors import QuarantineError
from support.deid import HOSPITAL, KEYS, deidentified, deidentified_bytes, occurrences, read_output
from support.dicom import (
    ct_study,
    dicom_bytes,
    encapsulated,
    image_study,
    mr_study,
    pdf_document,
    presentation_state,
    rdsr,
    sr_document,
)

NAME = "王秀兰"
PATIENT_ID = "ZY12736053"
HOSPITAL_NAME = "苏州样例第一医院"


def _ct(**attributes: object) -> Dataset:
    return ct_study(1, patient=f"Wang^Xiulan={NAME}", patient_id=PATIENT_ID, hospital=HOSPITAL_NAME, **attributes)[0]


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _assert_unreadable(data: bytes, *texts: str) -> None:
    readable = {text: list(occurrences(text, data)) for text in texts}
    assert not any(readable.values()), readable


def _sent(ds: Dataset, **elements: tuple[str, bytes] | None) -> bytes:
    """The file that a hospital sends when some attributes have this VR and these bytes; None: they are absent."""
    ds = pydicom.dcmread(io.BytesIO(dicom_bytes(ds)))
    raw = dict(ds.items())
    for keyword, element in elements.items():
        tag = pydicom.tag.Tag(keyword)
        raw.pop(tag, None)
        if element is not None:
            vr, value = element
            value += b" " * (len(value) % 2)
            raw[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    body = DicomBytesIO()
    body.is_implicit_VR, body.is_little_endian = False, True
    for tag in sorted(raw):
        write_data_element(body, raw[tag])
    head = DicomBytesIO()
    write_file_meta_info(head, ds.file_meta)
    return b"\0" * 128 + b"DICM" + head.getvalue() + body.getvalue()


# Encoding


def test_identifiers_sent_as_un() -> None:
    ds = _ct()
    data = _sent(
        ds,
        PatientName=("UN", NAME.encode("gb18030")),
        PatientID=("UN", PATIENT_ID.encode()),
        PatientBirthDate=("UN", b"19700102"),
        StudyDate=("UN", b"20260301"),
        FrameOfReferenceUID=("UN", ds.FrameOfReferenceUID.encode()),
        SpecificCharacterSet=("CS", b"GB18030"),
    )
    out = deidentified_bytes(data)
    _assert_unreadable(out, NAME, PATIENT_ID, "19700102", "20260301", str(ds.FrameOfReferenceUID))
    assert read_output(out).FrameOfReferenceUID == KEYS.uid(ds.FrameOfReferenceUID)
    assert read_output(out).StudyDate == deidentified(ds).StudyDate


def test_identifiers_sent_as_ob() -> None:
    data = _sent(_ct(), InstitutionName=("OB", HOSPITAL_NAME.encode("gb18030")), PatientID=("OB", PATIENT_ID.encode()))
    _assert_unreadable(deidentified_bytes(data), HOSPITAL_NAME, PATIENT_ID)


def test_sequence_sent_as_un_is_walked() -> None:
    inner = DicomBytesIO()
    inner.is_implicit_VR, inner.is_little_endian = True, True
    uid = "1.2.156.99.20240801.1"
    item = _item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=uid, PatientName=NAME)
    write_sequence_item(inner, item, ["utf8"])
    out = deidentified_bytes(_sent(_ct(), ReferencedImageSequence=("UN", inner.getvalue())))
    _assert_unreadable(out, NAME, uid)
    assert read_output(out).ReferencedImageSequence[0].ReferencedSOPInstanceUID == KEYS.uid(uid)


@pytest.mark.parametrize(
    ("declared", "codec"),
    [
        (b"ISO_IR 100", "gb18030"),
        (None, "gb18030"),
        (b"ISO_IR 192", "gb18030"),
        (b"GBK", "gb18030"),
        (b"GB18030", "gb18030"),
        (b"GB18030", "utf-8"),
        (b"\\ISO 2022 IR 58", "iso2022_58"),
    ],
)
def test_text_is_repaired_then_cleaned(declared: bytes | None, codec: str) -> None:
    def encoded(text: str) -> bytes:
        return b"\x1b$)A" + text.encode("gb2312") if codec == "iso2022_58" else text.encode(codec)

    data = _sent(
        ct_study(1, patient="", hospital="", description="", ReferringPhysicianName="")[0],
        SpecificCharacterSet=declared and ("CS", declared),
        PatientName=("PN", b"Wang^Xiulan=" + encoded(NAME)),
        StudyDescription=("LO", encoded(f"胸部CT平扫 {NAME}")),
    )
    out = deidentified_bytes(data)
    _assert_unreadable(out, NAME)
    assert read_output(out).StudyDescription == "胸部 CT 平扫"
    assert read_output(out).SpecificCharacterSet == "ISO_IR 192"


def test_nothing_behind_a_nul_survives() -> None:
    out = deidentified_bytes(_sent(_ct(), SoftwareVersions=("LO", b"1.0\0Li Lei 138")))
    _assert_unreadable(out, "Li Lei")
    assert read_output(out).SoftwareVersions == "1.0"


def test_preamble_and_application_entities_do_not_survive() -> None:
    ds = _ct()
    ds.file_meta.SourceApplicationEntityTitle = "PACS-WANG"
    ds.file_meta.PrivateInformationCreatorUID = "1.2.3.4"
    ds.file_meta.PrivateInformation = b"Wang Xiulan "
    data = b"Wang Xiulan".ljust(128, b"\0") + dicom_bytes(ds)[128:]
    out = deidentified_bytes(data)
    _assert_unreadable(out, "PACS-WANG", "Wang Xiulan")
    assert out[:128] == b"\0" * 128


# Depth


def test_identifiers_at_every_depth() -> None:
    deepest = _item(PatientName=NAME, InstitutionName=HOSPITAL_NAME, InstanceCreationDate="20260301")
    middle = _item(OperatorsName="周^文博", RelatedSeriesSequence=Sequence([deepest]))
    ds = _ct(
        RealWorldValueMappingSequence=Sequence(
            [_item(PatientName=NAME, PatientID=PATIENT_ID, RelatedSeriesSequence=[middle])]
        ),
        ContributingEquipmentSequence=Sequence(
            [_item(Manufacturer="UIH", InstitutionName=HOSPITAL_NAME, StationName="CT-7F-03")]
        ),
        OriginalAttributesSequence=Sequence([_item(ModifiedAttributesSequence=Sequence([_item(PatientName=NAME)]))]),
        RequestAttributesSequence=Sequence(
            [_item(AccessionNumber="A0001", ScheduledProcedureStepDescription=f"{NAME} 胸部平扫")]
        ),
    )
    out = deidentified_bytes(ds)
    _assert_unreadable(out, NAME, HOSPITAL_NAME, PATIENT_ID, "A0001", "周文博", "CT-7F-03")
    ds = read_output(out)
    assert "OriginalAttributesSequence" not in ds
    assert ds.RequestAttributesSequence[0].ScheduledProcedureStepDescription == "胸部平扫"
    deepest = ds.RealWorldValueMappingSequence[0].RelatedSeriesSequence[0].RelatedSeriesSequence[0]
    assert deepest.InstanceCreationDate == ds.StudyDate
    assert deepest.PatientName == ds.PatientName


def test_item_with_a_character_set_of_its_own() -> None:
    item = _item(SpecificCharacterSet="GB18030", PersonName=NAME, CodeMeaning="胸部平扫")
    out = deidentified(_ct(RealWorldValueMappingSequence=Sequence([item])))
    assert "SpecificCharacterSet" not in out.RealWorldValueMappingSequence[0]
    assert out.RealWorldValueMappingSequence[0].CodeMeaning == "胸部平扫"


def test_deep_nesting() -> None:
    item = _item(PatientName=NAME)
    for _ in range(60):
        item = _item(RelatedSeriesSequence=Sequence([item]))
    _assert_unreadable(deidentified_bytes(_ct(RelatedSeriesSequence=Sequence([item]))), NAME)


def test_private_attributes_everywhere() -> None:
    ds = _ct()
    block = ds.private_block(0x0011, "Wang Xiulan PACS", create=True)
    block.add_new(0x01, "LO", NAME)
    block.add_new(0x02, "OB", NAME.encode("gbk"))
    block.add_new(0x03, "SQ", [_item(PatientName=NAME)])
    ds.add_new(0x00131010, "LO", NAME)  # no creator
    nested = _item(ReferencedSOPInstanceUID="1.2.3.4")
    nested.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", NAME.encode())
    ds.ReferencedImageSequence = Sequence([nested])
    out = deidentified_bytes(ds)
    _assert_unreadable(out, NAME, "Wang Xiulan")
    assert not [elem.tag for elem in read_output(out).iterall() if elem.tag.is_private]


def test_safe_private_attributes_stay(tmp_path: Path) -> None:
    path = tmp_path / "safe.yaml"
    path.write_text(
        "{name: safe, version: 1, title: {zh: 甲, en: A}, extends: default,"
        " options: [retain_safe_private, retain_modified_dates],"
        " safe_private: [{group: '0019', creator: SIEMENS MR HEADER, element: '0C', vr: IS},"
        " {group: '0019', creator: SIEMENS MR HEADER, element: '0D', vr: LO}]}",
        encoding="utf-8",
    )
    ds = mr_study(1, patient_id=PATIENT_ID)[0]
    block = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", "1000")
    block.add_new(0x0D, "LO", PATIENT_ID)
    block.add_new(0x0E, "LO", "unlisted")
    ds.private_block(0x0019, "OTHER", create=True).add_new(0x0C, "IS", "7")
    out = deidentified(ds, profile=load_profile(path))
    assert {int(elem.tag): elem.value for elem in out if elem.tag.is_private} == {
        0x00190010: "SIEMENS MR HEADER",
        0x0019100C: 1000,
    }


def test_hospital_stays_when_a_profile_says_so(tmp_path: Path) -> None:
    path = tmp_path / "open.yaml"
    path.write_text(
        "{name: open, version: 1, title: {zh: 甲, en: A}, extends: basic, options: [retain_institution_identity]}",
        encoding="utf-8",
    )
    ds = _ct(SoftwareVersions=f"R5 {PATIENT_ID}")
    out = deidentified(ds, profile=load_profile(path))
    assert out.InstitutionName == HOSPITAL_NAME
    assert out.SoftwareVersions == "REMOVED"
    assert "113112" in [item.CodeValue for item in out.DeidentificationMethodCodeSequence]


def test_unknown_attributes_go() -> None:
    ds = _ct()
    ds.add_new(0x0008EEE0, "LO", NAME)
    ds.add_new(0x0012FFF0, "UN", b"abcd")
    out = deidentified(ds)
    assert 0x0008EEE0 not in out
    assert 0x0012FFF0 not in out


# Misused attributes


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("ImageType", rf"ORIGINAL\PRIMARY\{PATIENT_ID}", ["ORIGINAL", "PRIMARY"]),
        ("ImageType", rf"ORIGINAL\PRIMARY\{PATIENT_ID}\HELIX", ["ORIGINAL", "PRIMARY", "", "HELIX"]),
        ("Manufacturer", f"UIH ({HOSPITAL_NAME})", "UIH"),
        ("Manufacturer", f"{NAME}", "OTHER"),
        ("Manufacturer", "UIH Suzhou Hospital", "UIH"),
        ("SoftwareVersions", f"R5 {PATIENT_ID}", "REMOVED"),
        ("SoftwareVersions", f"R5 {NAME}", "REMOVED"),
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
    ],
)
def test_misused_attributes(keyword: str, value: str, expected: object) -> None:
    ds = _ct()
    out = deidentified(_sent(ds, **{keyword: (pydicom.datadict.dictionary_VR(keyword), value.encode())}))
    assert (out.get(keyword) or "") == expected


def test_number_that_is_the_patient_id() -> None:
    ds = ct_study(1, patient_id="20481377", SeriesNumber=20481377, PatientWeight="20481377")[0]
    out = deidentified_bytes(ds)
    _assert_unreadable(out, "20481377")


def test_code_meanings_and_local_codes() -> None:
    ds = _ct(
        AnatomicRegionSequence=Sequence(
            [_item(CodeValue="T-D3000", CodingSchemeDesignator="SRT", CodeMeaning="Chest of Wang Xiulan")]
        ),
        ProcedureCodeSequence=Sequence(
            [_item(CodeValue=PATIENT_ID, CodingSchemeDesignator="99HIS", CodeMeaning=f"胸部平扫 {NAME}")]
        ),
    )
    out = deidentified_bytes(ds)
    _assert_unreadable(out, NAME, "Wang", PATIENT_ID)
    code = read_output(out).ProcedureCodeSequence[0]
    assert (code.CodeValue, code.CodeMeaning) == ("REMOVED", "胸部平扫")


def test_free_text_keeps_only_the_vocabulary() -> None:
    text = f"{NAME} 女 12床 13800138000 南京市鼓楼区样例路89号 2026年3月1日 胸部平扫"
    ds = _ct(ImageComments=text, PatientComments=text, StudyDescription=text, AdmittingDiagnosesDescription=text)
    out = deidentified_bytes(ds)
    _assert_unreadable(out, NAME, "13800138000", "南京市", "12床", "2026年3月1日")
    assert read_output(out).StudyDescription == "胸部平扫"


# Dates


def test_dates_move_together() -> None:
    isotope = _item(RadiopharmaceuticalStartTime="230000", RadionuclideHalfLife="6586.2")
    ds = image_study(
        "PT",
        study_date="20260301",
        study_time="235950.250",
        AcquisitionDateTime="20260302001000.5+0800",
        DateOfGainCalibration="20260201",  # not in the table: by its VR
        RadiopharmaceuticalInformationSequence=Sequence([isotope]),
    )[0]
    out = deidentified(ds)
    key = identify_person([ds], hospital_id=HOSPITAL, keys=KEYS).patient_key
    expected = datetime(2026, 3, 1, 23, 59, 50) + KEYS.offset(key)
    assert out.StudyDate + out.StudyTime == f"{expected:%Y%m%d%H%M%S}.250"
    acquired = datetime(2026, 3, 2, 0, 10) + KEYS.offset(key)
    assert out.AcquisitionDateTime == f"{acquired:%Y%m%d%H%M%S}.5+0800"
    assert (
        datetime(2026, 2, 1) - datetime.strptime(out.DateOfGainCalibration, "%Y%m%d")
    ).days == -KEYS.date_offset_days(key)
    start = datetime(2026, 3, 1, 23) + KEYS.offset(key)
    assert out.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartTime == f"{start:%H%M%S}"


@pytest.mark.parametrize("bad", ["***", "二〇二六", "2026", "20261399"])
def test_bad_dates_do_not_stay(bad: str) -> None:
    dates = dict.fromkeys(("SeriesDate", "StudyDate", "ContentDate"), ("DA", bad.encode()))
    out = deidentified_bytes(_sent(_ct(), **dates, StudyTime=("TM", b"***140450.")))
    _assert_unreadable(out, "***", "二〇二六", "20261399")
    assert {str(read_output(out).get(keyword) or "") for keyword in (*dates, "StudyTime")} == {""}


def test_full_dates_stay_when_a_profile_says_so(tmp_path: Path) -> None:
    path = tmp_path / "full.yaml"
    path.write_text(
        "{name: full, version: 1, title: {zh: 甲, en: A}, extends: basic, options: [retain_full_dates]}",
        encoding="utf-8",
    )
    data = _sent(_ct(AcquisitionDateTime="20260301235959.9"), SeriesDate=("DA", b"Wang Xiu"))
    out = deidentified(data, profile=load_profile(path))
    assert (out.StudyDate, out.StudyTime, out.AcquisitionDateTime) == ("20260301", "083000", "20260301235959.9")
    assert not out.get("SeriesDate")
    assert out.LongitudinalTemporalInformationModified == "UNMODIFIED"


def test_all_studies_of_a_person_move_by_the_same_days() -> None:
    first, second = (
        deidentified(ct_study(1, patient_id="P7", study=n, study_date=day)[0])
        for n, day in ((1, "20260301"), (2, "20260311"))
    )
    days = [datetime.strptime(ds.StudyDate, "%Y%m%d") for ds in (first, second)]
    assert (days[1] - days[0]).days == 10


def test_age_stays_and_the_date_of_birth_goes() -> None:
    out = deidentified(_ct())
    assert out.PatientBirthDate == ""
    assert out.PatientAge == "056Y"
    assert deidentified(ct_study(1, birth_date="19200101")[0]).PatientAge == "090Y"
    assert deidentified(_ct(PatientAge="101Y")).PatientAge == "090Y"
    assert deidentified(_ct(PatientAge="012M")).PatientAge == "012M"
    assert "PatientAge" not in deidentified(ct_study(1, birth_date="")[0])


# UIDs


def test_uids_are_replaced_everywhere_alike() -> None:
    talairach = "1.2.840.10008.1.4.1.1"
    ds = _ct(
        FrameOfReferenceUID=talairach,
        FailedSOPInstanceUIDList=["1.2.156.1.20260301.1", "1.2.156.1.20260301.2"],
        ReferencedImageSequence=Sequence(
            [_item(ReferencedSOPClassUID=_ct().SOPClassUID, ReferencedSOPInstanceUID=_ct().SOPInstanceUID)]
        ),
    )
    out = deidentified(ds)
    assert out.SOPInstanceUID == KEYS.uid(ds.SOPInstanceUID) == out.file_meta.MediaStorageSOPInstanceUID
    assert out.ReferencedImageSequence[0].ReferencedSOPInstanceUID == out.SOPInstanceUID
    assert out.ReferencedImageSequence[0].ReferencedSOPClassUID == out.SOPClassUID == ds.SOPClassUID
    assert out.FrameOfReferenceUID == talairach
    assert list(out.FailedSOPInstanceUIDList) == [KEYS.uid("1.2.156.1.20260301.1"), KEYS.uid("1.2.156.1.20260301.2")]


def test_uid_in_a_text_goes() -> None:
    ds = _ct()
    ds.SoftwareVersions = f"made {ds.StudyInstanceUID}"
    _assert_unreadable(deidentified_bytes(ds), str(ds.StudyInstanceUID))


def test_broken_class_uid_is_replaced() -> None:
    ds = _ct(
        ReferencedImageSequence=Sequence([_item(ReferencedSOPInstanceUID="1.2.3.4", ReferencedSOPClassUID="1.2.99")])
    )
    data = dicom_bytes(ds).replace(b"1.2.99", b"Wang_X")
    _assert_unreadable(deidentified_bytes(data), "Wang_X")


# Objects that are not images


def test_structured_report() -> None:
    ds = sr_document(text=f"{NAME}，{PATIENT_ID}，胸部平扫", patient=NAME, patient_id=PATIENT_ID)
    content = ds.ContentSequence

    def add(code: str, value_type: str, **value: object) -> None:
        concept = _item(CodeValue=code, CodingSchemeDesignator="DCM", CodeMeaning="x")
        content.append(
            _item(RelationshipType="HAS OBS CONTEXT", ValueType=value_type, ConceptNameCodeSequence=[concept], **value)
        )

    add("121008", "PNAME", PersonName="李^志强")
    add("121029", "PNAME", PersonName="Wang^Xiulan")
    add("121030", "TEXT", TextValue="NO-778899")
    add("121031", "DATE", Date="19700102")
    add("121022", "TEXT", TextValue="ACC778")
    add("111526", "DATETIME", DateTime="20260301083000")
    add("112039", "UIDREF", UID="1.2.156.55.20260301")
    measured = _item(NumericValue="91", MeasurementUnitsCodeSequence=[])
    add("121033", "NUM", MeasuredValueSequence=[measured])
    deep = _item(
        RelationshipType="CONTAINS",
        ValueType="TEXT",
        TextValue="Wang Xiulan NO-778899 chest",
        ConceptNameCodeSequence=[],
    )
    content[0].ContentSequence = Sequence([deep])
    ds.VerifyingObserverSequence = Sequence(
        [
            _item(
                VerifyingObserverName="李^志强",
                VerifyingOrganization=HOSPITAL_NAME,
                VerificationDateTime="20260301083000",
                VerifyingObserverIdentificationCodeSequence=[_item(CodeValue="L01", CodeMeaning="李志强")],
            )
        ]
    )
    out = deidentified_bytes(ds)
    _assert_unreadable(
        out, NAME, PATIENT_ID, "李志强", "Wang Xiulan", "NO-778899", "19700102", "ACC778", HOSPITAL_NAME, "L01"
    )
    ds = read_output(out)
    values = [
        next((str(item[k].value) for k in ("PersonName", "TextValue", "Date", "UID") if k in item), "")
        for item in ds.ContentSequence
    ]
    assert values == [
        "胸部平扫",
        "REMOVED",
        "REMOVED",
        "REMOVED",
        "19000101",
        "REMOVED",
        "",
        KEYS.uid("1.2.156.55.20260301"),
        "",
    ]
    assert ds.ContentSequence[6].DateTime[:8] == ds.StudyDate
    assert list(ds.ContentSequence[8].MeasuredValueSequence) == []
    assert ds.ContentSequence[0].ContentSequence[0].TextValue == "CHEST"
    observer = ds.VerifyingObserverSequence[0]
    assert (observer.VerifyingObserverName, observer.VerifyingOrganization) == ("REMOVED", "REMOVED")
    assert list(observer.VerifyingObserverIdentificationCodeSequence) == []


def test_measurements_of_a_dose_report_stay() -> None:
    out = deidentified(rdsr(dlp=350.0))
    number = out.ContentSequence[0].ContentSequence[0]
    assert number.MeasuredValueSequence[0].NumericValue == 350
    assert number.ConceptNameCodeSequence[0].CodeMeaning == "CT Dose Length Product Total"


def test_presentation_state_keeps_geometry_not_text() -> None:
    image = _ct()
    out = deidentified_bytes(presentation_state(of=image, text=f"{NAME} 头颅"))
    _assert_unreadable(out, NAME, "王医生")
    ds = read_output(out)
    note = ds.GraphicAnnotationSequence[0].TextObjectSequence[0]
    assert (note.UnformattedTextValue, list(note.AnchorPoint)) == ("头颅", [1.0, 1.0])
    assert ds.ContentDescription == "头颅"


def test_overlays_curves_and_icons_go() -> None:
    ds = _ct()
    for tag, vr, value in (
        (0x60003000, "OW", b"\xff" * 32),
        (0x60000022, "LO", NAME),
        (0x60021500, "LO", NAME),
        (0x60004000, "LT", NAME),
        (0x50003000, "OW", b"\0" * 8),
        (0x50002500, "LO", NAME),
    ):
        ds.add_new(tag, vr, value)
    ds.IconImageSequence = Sequence([_item(Rows=1, Columns=2, BitsAllocated=8, PixelData=b"\0\0")])
    out = deidentified_bytes(ds)
    _assert_unreadable(out, NAME)
    ds = read_output(out)
    assert not [elem.tag for elem in ds if elem.tag.group >> 8 in (0x50, 0x60)]
    assert "IconImageSequence" not in ds


@pytest.mark.parametrize(
    ("ds", "reason"),
    [
        (pdf_document(), "document_not_cleanable"),
        (_ct(EncapsulatedDocument=b"%PDF"), "document_not_cleanable"),
        (_ct(Modality="XC"), "pixel_risk"),
        (_ct(BurnedInAnnotation="YES", PixelData=b"", FloatPixelData=b"\0\0\0\0"), "pixel_risk"),
        (_ct(SOPClassUID="1.2.840.10008.5.1.4.1.1.9.4.1", PixelData=None), "document_not_cleanable"),
        (_ct(SOPClassUID="1.2.840.10008.1.3.10"), "media_directory"),
        (_ct(StudyInstanceUID=None), "uid_missing"),
        (_ct(SeriesInstanceUID=""), "uid_missing"),
    ],
)
def test_what_cannot_be_cleaned_is_set_aside(ds: Dataset, reason: str) -> None:
    with pytest.raises(QuarantineError) as caught:
        deidentified(ds)
    assert caught.value.reason == reason


def test_failure_is_closed_and_quotes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str) -> str:
        raise ValueError(f"cannot clean {text}")

    monkeypatch.setattr(radlake.deidentify.walk, "clean_description", fail)
    with pytest.raises(QuarantineError) as caught:
        deidentified(_ct(StudyDescription=NAME))
    assert (caught.value.reason, caught.value.detail) == ("deidentification_failed", "ValueError")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert NAME not in str(caught.value)


# The result


def test_markers_and_pseudonym() -> None:
    out = deidentified(_ct())
    key = identify_person([_ct()], hospital_id=HOSPITAL, keys=KEYS).patient_key
    assert out.PatientID == f"{key:016x}"
    assert out.PatientName == out.PatientID
    assert out.PatientIdentityRemoved == "YES"
    assert out.LongitudinalTemporalInformationModified == "MODIFIED"
    assert list(out.DeidentificationMethod) == ["radlake profile default v1", "DICOM PS3.15 2026c"]
    codes = [(item.CodeValue, item.CodingSchemeDesignator) for item in out.DeidentificationMethodCodeSequence]
    assert codes == [(code, "DCM") for code in ("113100", "113107", "113105", "113104", "113103", "113108")]


def test_missing_patient_gets_the_pseudonym_of_the_study() -> None:
    ds = _ct()
    del ds.PatientID, ds.PatientName
    out = deidentified(ds)
    assert len(out.PatientID) == 16


def test_devices_stay_comparable() -> None:
    one, same, other = (deidentified(_ct(DeviceSerialNumber=number)) for number in ("SN1", "SN1", "SN2"))
    assert one.DeviceSerialNumber == same.DeviceSerialNumber != other.DeviceSerialNumber
    assert "SN1" not in one.DeviceSerialNumber


def test_pixels_and_numbers_are_bit_identical() -> None:
    ds = _ct()
    out = deidentified(ds)
    kept = ("PixelData", "Rows", "RescaleSlope", "ImagePositionPatient", "PixelSpacing", "KVP", "CTDIvol")
    assert all(out[keyword].value == ds[keyword].value for keyword in kept)
    packed = encapsulated(ds, [b"\xff\xd8 not a real frame \xff\xd9"], transfer_syntax="1.2.840.10008.1.2.4.70")
    again = deidentified(packed)
    assert again.PixelData == packed.PixelData
    assert again.file_meta.TransferSyntaxUID == packed.file_meta.TransferSyntaxUID


def test_input_stays_as_it_is() -> None:
    ds = read_bytes(dicom_bytes(_ct(RequestAttributesSequence=Sequence([_item(AccessionNumber="A1")]))))
    before = encode_instance(copy.deepcopy(ds))
    person = identify_person([ds], hospital_id=HOSPITAL, keys=KEYS)
    out = Deidentifier(load_profile("default"), KEYS).deidentify(ds, person=person, hospital_id=HOSPITAL)
    out.Rows = 1
    out.RequestAttributesSequence[0].AccessionNumber = "changed"
    assert encode_instance(ds) == before


def test_twice_leaves_nothing_either() -> None:
    once = deidentified_bytes(_ct(StudyDescription="胸部平扫"))
    twice = deidentified_bytes(once)
    _assert_unreadable(twice, NAME, PATIENT_ID, HOSPITAL_NAME)
    first, second = read_output(once), read_output(twice)
    assert first.StudyDescription == second.StudyDescription == "胸部平扫"
    assert [elem.tag for elem in first] == [elem.tag for elem in second]


def test_data_set_in_memory_and_read_by_pydicom_give_the_same() -> None:
    ds = _ct()
    person = Person(patient_key=42, is_known=True)
    deidentifier = Deidentifier(load_profile("default"), KEYS)
    forms = (ds, read_bytes(dicom_bytes(ds)), pydicom.dcmread(io.BytesIO(dicom_bytes(ds))))
    results = {encode_instance(deidentifier.deidentify(form, person=person, hospital_id=HOSPITAL)) for form in forms}
    assert len(results) == 1


def test_basic_profile_keeps_no_date_description_or_characteristic() -> None:
    out = deidentified(_ct(StudyDescription="胸部平扫", PatientAge="056Y"), profile=load_profile("basic"))
    assert not out.StudyDate
    assert not out.PatientSex
    assert "PatientAge" not in out
    assert "StudyDescription" not in out
    assert out.LongitudinalTemporalInformationModified == "REMOVED"
