"""Bytes that a naive reader takes for something else: VR UN and OB, wrong character sets, escapes, file level."""

from __future__ import annotations

import pytest
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_sequence_item
from pydicom.uid import UID

from support.deid import (
    CHINESE_NAME,
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
    ct_study,
    dicom_bytes,
)
from support.planting import sent_with


def test_identifiers_sent_as_un() -> None:
    ds = ct_of_somebody()
    data = sent_with(
        ds,
        PatientName=("UN", CHINESE_NAME.encode("gb18030")),
        PatientID=("UN", PATIENT_ID.encode()),
        PatientBirthDate=("UN", b"19700102"),
        StudyDate=("UN", b"20260301"),
        FrameOfReferenceUID=("UN", ds.FrameOfReferenceUID.encode()),
        SpecificCharacterSet=("CS", b"GB18030"),
    )
    out = deidentified_bytes(data)
    assert_unreadable(out, CHINESE_NAME, PATIENT_ID, "19700102", "20260301", str(ds.FrameOfReferenceUID))
    assert read_output(out).FrameOfReferenceUID == KEYS.uid(ds.FrameOfReferenceUID)
    assert read_output(out).StudyDate == deidentified(ds).StudyDate


def test_identifiers_sent_as_ob() -> None:
    data = sent_with(
        ct_of_somebody(), InstitutionName=("OB", HOSPITAL_NAME.encode("gb18030")), PatientID=("OB", PATIENT_ID.encode())
    )
    assert_unreadable(deidentified_bytes(data), HOSPITAL_NAME, PATIENT_ID)


def test_sequence_sent_as_un_is_walked() -> None:
    inner = DicomBytesIO()
    inner.is_implicit_VR, inner.is_little_endian = True, True
    uid = "1.2.156.99.20240801.1"
    item = item_of(
        ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=uid, PatientName=CHINESE_NAME
    )
    write_sequence_item(inner, item, ["utf8"])
    out = deidentified_bytes(sent_with(ct_of_somebody(), ReferencedImageSequence=("UN", inner.getvalue())))
    assert_unreadable(out, CHINESE_NAME, uid)
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

    data = sent_with(
        ct_study(1, patient="", hospital="", description="", ReferringPhysicianName="")[0],
        SpecificCharacterSet=None if declared is None else ("CS", declared),
        PatientName=("PN", b"Wang^Xiulan=" + encoded(CHINESE_NAME)),
        StudyDescription=("LO", encoded(f"胸部CT平扫 {CHINESE_NAME}")),
    )
    out = deidentified_bytes(data)
    assert_unreadable(out, CHINESE_NAME)
    assert read_output(out).StudyDescription == "胸部 CT 平扫"
    assert read_output(out).SpecificCharacterSet == "ISO_IR 192"


def test_nothing_behind_a_nul_survives() -> None:
    out = deidentified_bytes(sent_with(ct_of_somebody(), SoftwareVersions=("LO", b"1.0\0Li Lei 138")))
    assert_unreadable(out, "Li Lei")
    assert read_output(out).SoftwareVersions == "1.0"


def test_preamble_and_application_entities_do_not_survive() -> None:
    ds = ct_of_somebody()
    ds.file_meta.SourceApplicationEntityTitle = "PACS-WANG"
    ds.file_meta.PrivateInformationCreatorUID = UID("1.2.3.4")
    ds.file_meta.PrivateInformation = b"Wang Xiulan "
    data = b"Wang Xiulan".ljust(128, b"\0") + dicom_bytes(ds)[128:]
    out = deidentified_bytes(data)
    assert_unreadable(out, "PACS-WANG", "Wang Xiulan")
    assert out[:128] == b"\0" * 128


def test_whatever_stands_around_the_data_set_does_not_survive() -> None:
    """Every element of the file meta information, padding behind the data set, and group lengths."""
    ds = ct_of_somebody()
    meta = ds.file_meta
    for keyword in ("SourceApplicationEntityTitle", "SendingApplicationEntityTitle", "ReceivingApplicationEntityTitle"):
        setattr(meta, keyword, "WANGXIULAN")
    meta.ImplementationVersionName = "WANG_XIULAN"
    meta.ImplementationClassUID = UID("1.2.156.12736053.20260301")
    meta.SourcePresentationAddress = "http://wangxiulan.example"
    data = sent_with(ds, DataSetTrailingPadding=("OB", b"Wang Xiulan ZY12736053"))
    assert_unreadable(deidentified_bytes(data), "Wang Xiulan", "WANG_XIULAN", PATIENT_ID, "wangxiulan", "12736053")


def test_words_in_the_bytes_of_numbers_and_tables_go() -> None:
    name = "Wang Xiulan ZY12736053  "
    data = sent_with(
        ct_of_somebody(),
        Rows=("US", ct_of_somebody().Rows.to_bytes(2, "little")),
        FrameIncrementPointer=("AT", name.encode()),
        ImagerPixelSpacing=("DS", b"138-0013-8000"),
        RedPaletteColorLookupTableData=("OW", name.encode("utf-16-le")),
        FilterThicknessMinimum=("LO", name.encode()),
    )
    out = deidentified_bytes(data)
    assert_unreadable(out, "Wang Xiulan", PATIENT_ID, "138-0013-8000")
    assert read_output(out).Rows == ct_of_somebody().Rows


def test_of_a_colour_profile_only_colours_stay() -> None:
    tags = [
        (b"desc", b"desc" + bytes(4) + b"\0\0\0\x0cWang Xiulan\0"),
        (b"wtpt", b"XYZ " + bytes(4) + bytes(range(12))),
        (b"Wang", b"XYZ " + bytes(4) + bytes(12)),
    ]
    start = 132 + 12 * len(tags)
    table, values = len(tags).to_bytes(4, "big"), b""
    for signature, value in tags:
        table += signature + (start + len(values)).to_bytes(4, "big") + len(value).to_bytes(4, "big")
        values += value
    size = (start + len(values)).to_bytes(4, "big")
    head = size + b"lcms\x04\0\0\0mntrRGB XYZ " + b"\x07\xea\0\x03\0\x01" + bytes(6) + b"acsp"
    profile = head.ljust(128, b"W") + table + values + b"ZY12736053"
    left = deidentified(sent_with(ct_of_somebody(), ICCProfile=("OB", profile))).ICCProfile
    assert_unreadable(left, "Wang", "12736053", "WWWW")
    assert left[: len(profile)].count(tags[1][1]) == 1
    assert "ICCProfile" not in deidentified(sent_with(ct_of_somebody(), ICCProfile=("OB", b"Wang Xiulan")))
