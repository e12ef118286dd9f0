"""Leaks of every kind, planted into real output one at a time: each is found, by the right rule, in its encoding."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from functools import cache
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian

from radlake.referee import Finding, Policy, check_written
from support.deid import default_profile, deidentified_bytes
from support.dicom import ct_study, dicom_bytes, encapsulated, mr_study, presentation_state, sr_document, uid

NAME, PINYIN, PHONE = "王秀兰", "WangXiulan", "13851234567"
NATIONAL_ID = "11010519491231002X"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"


@cache
def original() -> bytes:
    [ds] = ct_study(
        n=1,
        patient="Wang^Xiulan=王^秀兰",
        patient_id="ZY19511029",
        accession="B6407996968",
        hospital="苏州样例第一医院",
        PatientTelephoneNumbers=PHONE,
        OperatorsName="周^玉珍",
        DeviceSerialNumber="SN-88271",
        OtherPatientIDs=NATIONAL_ID,
        ContentDate="20260301",
        ContentTime="235959",
        PatientComments="家属电话 13951234567, 18病区09床",
    )
    return dicom_bytes(ds)


@cache
def written() -> bytes:
    return deidentified_bytes(original())


def findings(data: bytes, *, of: bytes | None = None, policy: Policy | None = None) -> list[Finding]:
    return check_written(of or original(), data, policy=policy or Policy.of_profile(default_profile()))


def changed(change: Callable[[Dataset], object], data: bytes | None = None) -> bytes:
    """The output after somebody changed its data set."""
    ds = pydicom.dcmread(io.BytesIO(data or written()))
    change(ds)
    out = io.BytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=False)
    return out.getvalue()


def setting(keyword: str, value: Any) -> Callable[[Dataset], object]:
    return lambda ds: setattr(ds, keyword, value)


def adding(tag: int, vr: str, value: Any) -> Callable[[Dataset], object]:
    return lambda ds: ds.add_new(tag, vr, value)


def private(value: bytes, vr: str = "LO") -> Callable[[Dataset], object]:
    def change(ds: Dataset) -> None:
        ds.add_new(0x00290010, "LO", "ACME")
        ds.add_new(0x00291001, vr, value)

    return change


def in_item(keyword: str, value: Any) -> Callable[[Dataset], object]:
    def change(ds: Dataset) -> None:
        item = Dataset()
        setattr(item, keyword, value)
        ds.AnatomicRegionSequence = Sequence([item])

    return change


def rules(found: list[Finding]) -> set[str]:
    return {finding.rule for finding in found}


def test_output_is_clean() -> None:
    assert findings(written()) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("王秀兰", "name"),
        ("王^秀兰", "name"),
        ("秀兰王", "name"),
        ("wang xiulan", "name"),
        ("XIULAN WANG", "name"),
        ("Wang,Xiu-Lan", "name"),
        ("周玉珍", "name"),
        ("zhouyuzhen", "name"),
        ("ZY19511029", "id"),
        ("zy-1951-1029", "id"),
        ("B6407996968", "id"),
        (NATIONAL_ID, "id"),
        ("138 5123 4567", "phone"),
        ("13951234567", "phone"),
        ("苏州样例第一医院", "institution"),
        ("18病区09床", "address"),
        ("sn88271", "device"),
        ("2026-03-01", "date"),
        ("2026年3月1日", "date"),
        ("19700102", "date"),
        ("1970/01/02", "date"),
    ],
)
def test_every_form_of_an_identifier_is_found(text: str, kind: str) -> None:
    found = findings(changed(setting("SeriesDescription", f"CHEST {text}")))
    assert ("identifier-in-element", "(0008,103E)", kind) in {(f.rule, f.path, f.kind) for f in found}


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        (NAME.encode("gb18030"), "gb18030"),
        (NAME.encode("utf-16-le"), "utf-16-le"),
        (NAME.encode("utf-16-be"), "utf-16-be"),
        ("Wang Xiulan".encode("utf-16-le"), "ascii"),
        (b"\x1b$)A" + NAME.encode("gb2312"), "gb18030"),
        (NAME.encode("gb18030").decode("latin_1").encode(), "gb18030 read as Latin-1"),
        (base64.b64encode(b"x" + NAME.encode()), "base64"),
        (base64.b64encode(b"xy{patient: B6407996968}"), "base64"),
        (NAME.encode().hex().encode(), "hex"),
        (b"%E7%8E%8B%E7%A7%80%E5%85%B0", "percent"),
        (rb"\u738b\u79c0\u5170", "json escape"),
        (b"&#x738b;&#x79c0;&#x5170;", "xml"),
        (b"&#29579;&#31168;&#20848;", "xml"),
        ("Ｂ６４０７９９６９６８".encode(), "full width"),
    ],
)
@pytest.mark.parametrize("vr", ["LO", "OB"])
def test_every_encoding_is_found_in_private_text_and_bytes(value: bytes, encoding: str, vr: str) -> None:
    value += b" " * (len(value) % 2)
    found = findings(changed(private(value, vr)))
    assert [f for f in found if f.path == "(0029,1001)" and encoding in f.encoding]
    assert "private-attribute" in rules(found)


@pytest.mark.parametrize(
    ("change", "rule", "path"),
    [
        pytest.param(setting("PatientName", "Somebody^Else"), "not-a-pseudonym", "(0010,0010)", id="name"),
        pytest.param(setting("PatientID", "ZY19511029"), "value-kept", "(0010,0020)", id="patient id"),
        pytest.param(setting("PatientBirthDate", "19700102"), "must-be-empty", "(0010,0030)", id="un-emptied Z"),
        pytest.param(setting("PatientBirthDate", "19700101"), "must-be-empty", "(0010,0030)", id="Z of another day"),
        pytest.param(setting("PatientAddress", "Nanjing"), "must-be-removed", "(0010,1040)", id="X"),
        pytest.param(
            in_item("PatientAddress", "A"), "must-be-removed", "(0008,2218)[0]>(0010,1040)", id="X in an item"
        ),
        pytest.param(private(b"AB"), "private-attribute", "(0029,1001)", id="private"),
        pytest.param(adding(0x00191008, "LO", "AB"), "private-attribute", "(0019,1008)", id="private orphan"),
        pytest.param(adding(0x00189998, "LO", "AB"), "unknown-attribute", "(0018,9998)", id="unknown"),
        pytest.param(adding(0x60003000, "OW", b"\1\2"), "must-be-removed", "(6000,3000)", id="overlay"),
        pytest.param(setting("StudyDate", "20260301"), "date-kept", "(0008,0020)", id="unshifted date"),
        pytest.param(setting("ContentDate", "20250101"), "date-offset", "(0008,0023)", id="other offset"),
        pytest.param(setting("StudyTime", "083000"), "date-kept", "(0008,0030)", id="unshifted time"),
        pytest.param(setting("PatientAge", "097Y"), "age-over-90", "(0010,1010)", id="age"),
        pytest.param(setting("FrameOfReferenceUID", "1.2.03"), "uid-invalid", "(0020,0052)", id="invalid UID"),
        pytest.param(setting("PatientIdentityRemoved", "NO"), "markers", "(0012,0062)", id="marker"),
        pytest.param(setting("DeidentificationMethod", ""), "markers", "(0012,0063)", id="method"),
        pytest.param(setting("DeidentificationMethodCodeSequence", []), "markers", "(0012,0064)", id="codes"),
        pytest.param(
            setting("LongitudinalTemporalInformationModified", "REMOVED"), "markers", "(0028,0303)", id="temporal"
        ),
        pytest.param(
            lambda ds: setattr(ds.file_meta, "SourceApplicationEntityTitle", "PACS1"),
            "file-meta",
            "(0002,0016)",
            id="AE",
        ),
        pytest.param(
            lambda ds: setattr(ds.file_meta, "MediaStorageSOPInstanceUID", "2.25.1"),
            "file-meta",
            "(0002,0003)",
            id="meta",
        ),
        pytest.param(setting("preamble", b"II*\0" + bytes(124)), "preamble", "", id="kept preamble"),
        pytest.param(
            lambda ds: setattr(ds, "PixelData", ds.PixelData[:-8] + b"\1\0\2\0\3\0\4\0"),
            "pixels-changed",
            "(7FE0,0010)",
            id="pixels",
        ),
        pytest.param(
            lambda ds: setattr(ds, "PixelData", ds.PixelData + b"LEAKLEAK"), "trailing-bytes", "(7FE0,0010)", id="tail"
        ),
        pytest.param(
            setting("ImageComments", "患者 身份证 320102199003077219"), "telltale", "(0020,4000)", id="another's number"
        ),
    ],
)
def test_each_rule_finds_its_violation(change: Callable[[Dataset], object], rule: str, path: str) -> None:
    assert (rule, path) in {(f.rule, f.path) for f in findings(changed(change))}


def test_a_misused_code_string_is_found() -> None:
    found = findings(changed(setting("ImageType", ["ORIGINAL", "PRIMARY", "ZY19511029"])))
    assert [(f.rule, f.path, f.kind) for f in found if f.rule.startswith("ident")] == [
        ("identifier-in-element", "(0008,0008)", "id")
    ]


def test_bytes_behind_the_data_set_are_found() -> None:
    found = findings(written() + "王秀兰".encode("utf-16-le"))
    assert {"trailing-bytes", "unreadable"} & rules(found)


def test_a_uid_of_the_original_is_found_wherever_it_stands() -> None:
    study = str(pydicom.dcmread(io.BytesIO(original())).StudyInstanceUID)
    found = findings(changed(setting("ImageComments", f"see {study}")))
    assert [(f.rule, f.kind) for f in found] == [("identifier-in-element", "uid")]
    kept = findings(changed(setting("FrameOfReferenceUID", study)))
    assert "identifier-in-element" in rules(kept)


def test_a_reference_that_leads_elsewhere_is_found() -> None:
    [image] = ct_study(n=1)
    state = presentation_state(of=image)
    before = dicom_bytes(state)
    after = deidentified_bytes(before)
    assert findings(after, of=before) == []

    def dangle(ds: Dataset) -> None:
        ds.ReferencedSeriesSequence[0].SeriesInstanceUID = "2.25.42"

    # The series is told once more by the image of the same run.
    from radlake.referee import Originals, Referee
    from radlake.referee.instance import read

    pairs = [(dicom_bytes(image), deidentified_bytes(image)), (before, changed(dangle, after))]
    originals = Originals()
    for old, _ in pairs:
        originals.add(read(old))
    referee = Referee(originals)
    for number, (old, new) in enumerate(pairs):
        referee.judge_object(new, where=str(number), original=read(old))
    assert ("uid-split", "1") in {(f.rule, f.where) for f in referee.conclude().findings}


@pytest.mark.parametrize(
    ("frame", "syntax"),
    [
        (b"\xff\xd8\xff\xfe\x00\x0b" + "王秀兰".encode() + b"\xff\xda\x00\x02\x12\x34\xff\xd9", JPEG_LS),
        (b"\xff\xd8\xff\xe1\x00\x0dWang^Xiulan\xff\xda\x00\x02\x12\x34\xff\xd9", JPEG_LS),
        (b"\xff\xd8\xff\xda\x00\x02\x12\xff\x00\x34\xff\xd9" + b"B6407996968 ", JPEG_LS),
        (b"\xff\x4f\xff\x51\x00\x04\0\0\xff\x64\x00\x0d\x00\x01" + "王秀兰".encode() + b"\xff\xd9", JPEG_2000),
        (b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x11xml " + "王秀兰".encode() + b"\0\0\0\x0cjp2c\xff\x4f\xff\xd9", JPEG_2000),
        ("王秀兰".encode() * 4, "1.2.840.10008.1.2.4.100"),
    ],
    ids=["JPEG COM", "JPEG APP1", "behind EOI", "J2K COM", "JP2 box", "other codec"],
)
def test_comments_of_compressed_pixels_are_found(frame: bytes, syntax: str) -> None:
    frame += b"\0" * (len(frame) % 2)
    ds = pydicom.dcmread(io.BytesIO(written()))
    found = findings(dicom_bytes(encapsulated(ds, [frame], transfer_syntax=syntax)))
    assert "identifier-in-codestream" in rules(found)


def test_a_frame_without_decoder_may_only_lose_bytes() -> None:
    """12-bit JPEG: a comment that became zero is no change of the pixels, any other byte may be one."""
    frame = b"\xff\xd8\xff\xfe\x00\x0asomebody\xff\xd9"

    def changes(new: bytes) -> bool:
        old = encapsulated(pydicom.dcmread(io.BytesIO(original())), [frame], transfer_syntax=JPEG_EXTENDED)
        ds = encapsulated(pydicom.dcmread(io.BytesIO(written())), [new], transfer_syntax=JPEG_EXTENDED)
        return "pixels-changed" in rules(findings(dicom_bytes(ds), of=dicom_bytes(old)))

    assert not changes(frame.replace(b"somebody", bytes(8)))
    assert changes(frame.replace(b"somebody", b"SOMEBODY"))


def test_a_deflated_object_is_read_to_its_end() -> None:
    [ds] = mr_study(n=1, patient="Wang^Xiulan=王^秀兰")
    before = dicom_bytes(ds, transfer_syntax=DeflatedExplicitVRLittleEndian)
    after = deidentified_bytes(before)
    assert findings(after, of=before) == []
    assert rules(findings(after + b"LEAK", of=before)) == {"trailing-bytes"}


def test_text_of_a_report_is_found_with_its_path() -> None:
    before = dicom_bytes(sr_document())
    after = deidentified_bytes(before)
    assert findings(after, of=before) == []

    def leak(ds: Dataset) -> None:
        ds.ContentSequence[0].TextValue = "李雷"

    [found] = [f for f in findings(changed(leak, after), of=before) if f.rule == "identifier-in-element"]
    assert (found.path, found.kind) == ("(0040,A730)[0]>(0040,A160)", "name")


def test_a_birth_date_that_became_the_dummy_day_has_not_moved() -> None:
    """Subject Birth Date (121031) of TID 1007 is removed like Patient's Birth Date, other dates of the report move."""
    report = sr_document()
    birth, exam = Dataset(), Dataset()
    for item, code, meaning, day in (
        (birth, "121031", "Subject Birth Date", "19551029"),
        (exam, "111060", "Study Date", "20260301"),
    ):
        item.RelationshipType, item.ValueType, item.Date = "HAS OBS CONTEXT", "DATE", day
        concept = Dataset()
        concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = code, "DCM", meaning
        item.ConceptNameCodeSequence = Sequence([concept])
    report.ContentSequence = Sequence([*report.ContentSequence, birth, exam])
    before = dicom_bytes(report)
    after = deidentified_bytes(before)
    assert findings(after, of=before) == []

    def move(ds: Dataset) -> None:
        ds.ContentSequence[1].Date = "19551101"

    assert "date-offset" in rules(findings(changed(move, after), of=before))


def test_no_finding_shows_a_value() -> None:
    found = findings(changed(private("王秀兰 B6407996968".encode("utf-16-le"), "OB")))
    assert found
    assert not [f for f in found for text in ("王", "B6407996968") if text in repr(f)]


def test_safe_private_attributes_may_stay() -> None:
    data = changed(private(b"AB"))
    policy = Policy.of_profile(default_profile())
    allowed = Policy(policy.options, policy.overrides, policy.ruled, frozenset([(0x0029, "ACME", 0x01)]))
    assert findings(data, policy=allowed) == []


def test_an_object_is_judged_by_what_it_claims_when_nobody_tells_the_profile() -> None:
    ds = pydicom.dcmread(io.BytesIO(written()))
    ds.DeidentificationMethodCodeSequence = ds.DeidentificationMethodCodeSequence[:1]
    out = io.BytesIO()
    pydicom.dcmwrite(out, ds)
    found = check_written(original(), out.getvalue())
    assert "must-be-removed" in rules(found)  # the Basic Profile keeps no descriptions
    assert uid("x") not in repr(found)


def test_a_code_of_the_standard_is_no_leak_whatever_time_or_number_equals_it():
    """113107 says that dates were modified, and is seven minutes past half past eleven."""
    study = dicom_bytes(ct_study(n=1, StudyTime="113107", patient_id="113105", accession="121322")[0])
    assert findings(deidentified_bytes(study), of=study) == []


def test_a_number_under_the_name_of_the_standard_is_a_leak():
    study = dicom_bytes(ct_study(n=1, patient_id="7713107")[0])

    def hide(ds: Dataset) -> None:
        ds.DeidentificationMethodCodeSequence[0].CodeValue = "7713107"

    found = findings(changed(hide, deidentified_bytes(study)), of=study)
    assert "identifier-in-element" in {finding.rule for finding in found}
