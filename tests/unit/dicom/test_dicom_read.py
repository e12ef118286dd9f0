"""Reading: whole files come out whole, broken ones are refused with the right reason, odd ones are noted."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from radlake.dicom.part10 import NotDicom, encode_instance, notes, read_bytes, read_header, read_instance
from radlake.errors import QuarantineError, SourceMissing
from radlake.validate import check_instance
from support.dicom import bare_bytes, compressed, ct_study, dicom_bytes, image_study, sr_document, write

CT = ct_study(n=1)[0]
PIXELS = 0x7FE00010


def reason_of(data: bytes) -> str:
    with pytest.raises(QuarantineError) as caught:
        read_bytes(data)
    return caught.value.reason


def element(tag: int, vr: bytes, value: bytes, *, length: int | None = None) -> bytes:
    """One explicit VR little endian element, right or wrong."""
    size = len(value) if length is None else length
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return struct.pack("<HH2s2xL", tag >> 16, tag & 0xFFFF, vr, size) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, size) + value


def with_dataset(body: bytes, *, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A file that holds the given bytes as its data set."""
    return b"\0" * 128 + b"DICM" + element(0x00020010, b"UI", syntax.encode() + b"\0" * (len(syntax) % 2)) + body


BODY = bare_bytes(CT)


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda uid: uid.name,
)
def test_every_native_transfer_syntax_is_one_data_set(syntax: str) -> None:
    ds = read_bytes(dicom_bytes(CT, transfer_syntax=syntax))

    assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert encode_instance(ds) == encode_instance(read_bytes(dicom_bytes(CT)))
    assert ds.PixelData == CT.PixelData
    expected = () if syntax == ExplicitVRLittleEndian else (f"read from transfer syntax {syntax}",)
    assert notes(ds) == expected


@pytest.mark.parametrize(
    ("bits", "big"),
    [(8, b"\2\1\4\3"), (16, b"\2\1\4\3"), (32, b"\4\3\2\1")],
    ids=["words of two pixels", "one word a pixel", "two words a pixel"],
)
def test_big_endian_pixels_are_turned_by_their_width(bits: int, big: bytes) -> None:
    ds = Dataset()
    ds.BitsAllocated = bits
    ds.add_new(PIXELS, "OW", big)

    found = read_bytes(with_dataset(bare_big_endian(ds), syntax=ExplicitVRBigEndian))

    assert found.PixelData == b"\1\2\3\4"


def bare_big_endian(ds: Dataset) -> bytes:
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = False, False
    write_dataset(out, ds)
    return out.getvalue()


def test_values_stay_bytes_until_somebody_looks() -> None:
    ds = read_bytes(dicom_bytes(CT))

    assert ds.get_item("PatientName").is_raw
    assert ds.PatientName == "李雷"
    assert ds.file_meta.MediaStorageSOPInstanceUID == CT.SOPInstanceUID


def sequences() -> Dataset:
    """A data set with a sequence in a sequence, private elements and an empty item."""
    ds = sr_document(text="左肺上叶 结节")
    inner = Dataset()
    inner.PatientName = "韩梅梅"
    outer = Dataset()
    outer.ReferencedPatientSequence = Sequence([inner, Dataset()])
    block = outer.private_block(0x0029, "ZZ", create=True)
    block.add_new(0x01, "LO", "private")
    ds.ReferencedStudySequence = Sequence([outer])
    return ds


@pytest.mark.parametrize("is_undefined", [False, True], ids=["defined", "undefined"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_sequences_of_either_length_style(syntax: str, is_undefined: bool) -> None:
    ds = sequences()
    for element_ in ds.iterall():
        if element_.VR == "SQ":
            element_.is_undefined_length = is_undefined
            for item in element_.value:
                item.is_undefined_length_sequence_item = is_undefined

    found = read_bytes(dicom_bytes(ds, transfer_syntax=syntax))

    assert found.ReferencedStudySequence[0].ReferencedPatientSequence[0].PatientName == "韩梅梅"
    assert found.ContentSequence[0].TextValue == "左肺上叶 结节"
    assert len(found.ReferencedStudySequence[0].ReferencedPatientSequence) == 2


def implicit_items(*, is_undefined: bool) -> bytes:
    content = struct.pack("<HHL", 0x0010, 0x0010, 4) + b"ZZPH"
    if not is_undefined:
        return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content
    end = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + content + end


@pytest.mark.parametrize("is_undefined", [False, True], ids=["defined", "undefined"])
def test_sequence_sent_as_un_is_a_sequence(is_undefined: bool) -> None:
    items = implicit_items(is_undefined=is_undefined)
    body = element(0x00081140, b"UN", items, length=0xFFFFFFFF if is_undefined else None)

    ds = read_bytes(with_dataset(body))

    assert ds.ReferencedImageSequence[0].PatientName == "ZZPH"


def test_sequence_delimiter_at_the_end_of_a_definite_sequence_is_borne() -> None:
    items = implicit_items(is_undefined=False) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    ds = read_bytes(with_dataset(element(0x00081140, b"UN", items) + element(0x00100020, b"LO", b"P1")))

    assert (ds.ReferencedImageSequence[0].PatientName, ds.PatientID) == ("ZZPH", "P1")


def test_encapsulated_pixels_called_ow_are_ob() -> None:
    body = bare_bytes(compressed(CT)).replace(b"\xe0\x7f\x10\0OB", b"\xe0\x7f\x10\0OW")

    assert read_bytes(with_dataset(body, syntax=RLELossless)).get_item("PixelData").VR == "OB"


def test_private_un_of_undefined_length_is_a_sequence() -> None:
    body = element(0x00290010, b"LO", b"ZZ") + element(
        0x00291001, b"UN", implicit_items(is_undefined=True), length=0xFFFFFFFF
    )

    assert read_bytes(with_dataset(body))[0x00291001].value[0].PatientName == "ZZPH"


def test_known_attribute_sent_as_un_gets_its_vr() -> None:
    ds = read_bytes(with_dataset(element(0x00100020, b"UN", b"P1") + element(0x00280010, b"UN", b"\0\2")))

    assert (ds.get_item("PatientID").VR, ds.PatientID, ds.Rows) == ("LO", "P1", 512)


def test_implicit_item_in_an_explicit_sequence_is_read_and_noted() -> None:
    ds = read_bytes(with_dataset(element(0x00081140, b"SQ", implicit_items(is_undefined=False))))

    assert ds.ReferencedImageSequence[0].PatientName == "ZZPH"
    assert notes(ds) == ("an item in the other VR encoding",)


@pytest.mark.parametrize(("signed", "vr"), [(0, "US"), (1, "SS")])
def test_ambiguous_vr_follows_pixel_representation(signed: int, vr: str) -> None:
    ds = ct_study(n=1, PixelRepresentation=signed, SmallestImagePixelValue=3)[0]

    found = read_bytes(dicom_bytes(ds, transfer_syntax=ImplicitVRLittleEndian))

    assert (found.get_item("SmallestImagePixelValue").VR, found.SmallestImagePixelValue) == (vr, 3)


def test_padding_and_group_lengths_are_not_content() -> None:
    group_length = struct.pack("<HH2sHL", 0x0008, 0, b"UL", 4, 99)
    padding = element(0xFFFCFFFC, b"OB", b"\0" * 64)

    ds = read_bytes(with_dataset(group_length + BODY + padding))

    assert ds == read_bytes(with_dataset(BODY))
    assert notes(ds) == ()


@pytest.mark.parametrize(
    "tail", [b"\0" * 200, b"\0", "张三的检查".encode(), b"trailing ZZPHI"], ids=["zeros", "one", "zh", "text"]
)
def test_bytes_after_the_pixels_are_dropped_and_noted(tail: bytes) -> None:
    ds = read_bytes(with_dataset(BODY + tail))

    assert notes(ds) == (f"{len(tail)} bytes after the data set",)
    assert tail.strip(b"\0") == b"" or tail not in encode_instance(ds)


def test_odd_length_is_noted_and_written_even() -> None:
    ds = read_bytes(with_dataset(element(0x00100020, b"LO", b"ABC") + element(0x00100030, b"DA", b"19700102")))

    assert ds.PatientID == "ABC"
    assert notes(ds) == ("odd length of (0010,0020)",)


def test_private_number_of_wrong_length_stays_as_bytes() -> None:
    ds = read_bytes(with_dataset(element(0x00290010, b"LO", b"ZZ") + element(0x00291001, b"FD", b"\1\2\3\4")))

    assert (ds.get_item(0x00291001).VR, ds[0x00291001].value) == ("UN", b"\1\2\3\4")
    assert notes(ds) == ("length that is not one of FD of (0029,1001)",)


BROKEN = {
    "empty": (b"", "empty_file"),
    "no preamble": (BODY, "part10_missing"),
    "no preamble, a junk byte before": (b" " + BODY, "part10_missing"),
    "no preamble, implicit": (bare_bytes(CT, implicit=True), "part10_missing"),
    "prefix without preamble": (b"DICM" + BODY, "part10_missing"),
    "meta without preamble": (dicom_bytes(CT)[132:], "part10_missing"),
    "no file meta": (b"\0" * 128 + b"DICM" + BODY, "part10_missing"),
    "no transfer syntax": (
        b"\0" * 128 + b"DICM" + element(0x00020002, b"UI", b"1.2\0") + BODY,
        "transfer_syntax_unknown",
    ),
    "transfer syntax as number": (
        b"\0" * 128 + b"DICM" + element(0x00020010, b"DS", b"1.2.840.10008.1.2.1 "[:18]) + BODY,
        "transfer_syntax_unknown",
    ),
    "foreign transfer syntax": (with_dataset(BODY, syntax="1.2.3.4"), "transfer_syntax_unknown"),
    "JPIP": (with_dataset(BODY, syntax="1.2.840.10008.1.2.4.94"), "transfer_syntax_unknown"),
    "explicit called implicit": (with_dataset(BODY, syntax=ImplicitVRLittleEndian), "transfer_syntax_mismatch"),
    "implicit called explicit": (with_dataset(bare_bytes(CT, implicit=True)), "transfer_syntax_mismatch"),
    "implicit called JPEG": (
        with_dataset(bare_bytes(CT, implicit=True), syntax=JPEGBaseline8Bit),
        "transfer_syntax_mismatch",
    ),
    "little called big": (with_dataset(BODY, syntax=ExplicitVRBigEndian), "transfer_syntax_mismatch"),
    "big called little": (with_dataset(bare_big_endian(ct_study(n=1)[0])), "transfer_syntax_mismatch"),
    "plain called deflated": (with_dataset(BODY, syntax=DeflatedExplicitVRLittleEndian), "transfer_syntax_mismatch"),
    "native called encapsulated": (with_dataset(BODY, syntax=RLELossless), "transfer_syntax_mismatch"),
    "encapsulated called native": (
        with_dataset(bare_bytes(compressed(CT))),
        "transfer_syntax_mismatch",
    ),
    "deflated garbage": (with_dataset(b"\xff" * 64, syntax=DeflatedExplicitVRLittleEndian), "dataset_unreadable"),
    "deflated, cut": (
        with_dataset(zlib.compress(BODY)[2:-40], syntax=DeflatedExplicitVRLittleEndian),
        "part10_truncated",
    ),
    "junk VR": (with_dataset(BODY.replace(b"\x10\0\x20\0LO", b"\x10\0\x20\0ZZ")), "vr_invalid"),
    "VR of lower case": (with_dataset(BODY.replace(b"\x10\0\x20\0LO", b"\x10\0\x20\0lo")), "vr_invalid"),
    "sequence as OB": (with_dataset(element(0x00081140, b"OB", implicit_items(is_undefined=False))), "vr_invalid"),
    "text as sequence": (with_dataset(element(0x00100010, b"SQ", b"")), "vr_invalid"),
    "duplicate": (with_dataset(element(0x00100020, b"LO", b"P1") * 2 + BODY[-8:]), "duplicate_element"),
    "duplicate pixels": (with_dataset(element(PIXELS, b"OW", b"\0\0") * 2), "duplicate_element"),
    "out of order": (
        with_dataset(element(0x00100020, b"LO", b"P1") + element(0x00080060, b"CS", b"CT")),
        "elements_out_of_order",
    ),
    "number of wrong length": (with_dataset(element(0x00280010, b"US", b"\0\2\0")), "value_length_invalid"),
    "text of undefined length": (
        with_dataset(element(0x00100020, b"UT", b"A", length=0xFFFFFFFF)),
        "dataset_unreadable",
    ),
    "no item in a sequence": (with_dataset(element(0x00081140, b"SQ", b"ABCDEFGH")), "dataset_unreadable"),
    "item longer than its sequence": (
        with_dataset(element(0x00081140, b"SQ", implicit_items(is_undefined=False), length=10) + BODY[-500:]),
        "dataset_unreadable",
    ),
    "delimiter in a definite item": (
        with_dataset(
            struct.pack("<HHLHHLHHL", 0x0008, 0x1140, 16, 0xFFFE, 0xE000, 8, 0xFFFE, 0xE00D, 0),
            syntax=ImplicitVRLittleEndian,
        ),
        "dataset_unreadable",
    ),
    "no fragment": (
        with_dataset(element(PIXELS, b"OB", b"ABCDEFGH", length=0xFFFFFFFF), syntax=RLELossless),
        "pixel_data_corrupt",
    ),
    "text in no character set": (
        with_dataset(
            element(0x00080005, b"CS", b"ISO_IR 192") + element(0x00100020, b"LO", b"\xff\xfe\x81\xff\xff\xff")
        ),
        "charset_unknown",
    ),
}


@pytest.mark.parametrize(("data", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_refused(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n" + b"\0" * 200,
        b"PK\x03\x04" + b"\1" * 200,
        "患者,检查\n".encode() * 50,
        b"%PDF-1.4\n" * 30,
        b"\0" * 500,
        b"x",
    ],
    ids=["png", "zip", "csv", "pdf", "zeros", "byte"],
)
def test_what_is_not_dicom_is_said_to_be_so(data: bytes) -> None:
    with pytest.raises(NotDicom) as caught:
        read_bytes(data)
    assert caught.value.reason == "not_dicom"


def test_nesting_without_end_is_refused() -> None:
    body = b""
    for _ in range(300):
        item = struct.pack("<HHL", 0xFFFE, 0xE000, len(body)) + body
        body = element(0x00081140, b"SQ", item)

    assert reason_of(with_dataset(body)) == "dataset_unreadable"


CUT = {
    "explicit": dicom_bytes(ct_study(n=1, rows=4, columns=4)[0]),
    "implicit": dicom_bytes(ct_study(n=1, rows=4, columns=4)[0], transfer_syntax=ImplicitVRLittleEndian),
    "big endian": dicom_bytes(ct_study(n=1, rows=4, columns=4)[0], transfer_syntax=ExplicitVRBigEndian),
    "deflated": dicom_bytes(ct_study(n=1, rows=4, columns=4)[0], transfer_syntax=DeflatedExplicitVRLittleEndian),
    "encapsulated": dicom_bytes(compressed(ct_study(n=1, rows=4, columns=4)[0])),
    "frames": dicom_bytes(image_study("US", frames=3, rows=4, columns=4)[0]),
    "report": dicom_bytes(sr_document()),
}


@pytest.mark.parametrize("data", CUT.values(), ids=CUT)
def test_a_file_cut_anywhere_never_passes_as_whole(data: bytes) -> None:
    check_instance(read_bytes(data), size=len(data))
    last_needed = len(data) - 1 if data is CUT["deflated"] else len(data)  # pydicom pads the deflated stream to even
    passed = []
    for n in range(last_needed):
        try:
            check_instance(read_bytes(data[:n]), size=n)
        except QuarantineError:
            continue
        passed.append(n)

    assert passed == []


def test_header_needs_only_the_beginning(tmp_path: Path) -> None:
    path = write(ct_study(n=1, rows=256, columns=256)[0], tmp_path / "张三 检查" / "a.dcm")
    with path.open("r+b") as file:
        file.truncate(64 * 1024)

    header = read_header(path)

    assert header.study_instance_uid == CT.StudyInstanceUID
    assert header.series_instance_uid == CT.SeriesInstanceUID
    assert header.sop_instance_uid == CT.SOPInstanceUID
    assert (header.sop_class_uid, header.modality) == (CT.SOPClassUID, "CT")
    assert f"{header.study_date:%Y%m%d}" == CT.StudyDate
    assert header.transfer_syntax_uid == ExplicitVRLittleEndian


def test_header_reads_on_when_it_is_long(tmp_path: Path) -> None:
    ds = sr_document()
    code = Dataset()
    code.CodeMeaning = "x" * 60
    ds.ProcedureCodeSequence = Sequence([code] * 5000)
    ds.ProcedureCodeSequence.is_undefined_length = True

    header = read_header(write(ds, tmp_path / "a.dcm"))

    assert header.series_instance_uid == ds.SeriesInstanceUID


def test_header_is_the_same_wherever_the_first_part_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(CT, tmp_path / "a.dcm")
    expected = read_header(path)
    for n_bytes in range(len(dicom_bytes(CT)) - len(BODY), path.stat().st_size, 2):
        monkeypatch.setattr("radlake.dicom.part10._HEADER_BYTES", (n_bytes,))
        assert read_header(path) == expected, n_bytes


def test_damage_behind_the_header_does_not_matter_and_before_it_does(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(with_dataset(BODY.replace(b"\x28\0\x10\0US", b"\x28\0\x10\0??")))
    assert read_header(path).study_instance_uid == CT.StudyInstanceUID

    path.write_bytes(with_dataset(BODY.replace(b"\x10\0\x20\0LO", b"\x10\0\x20\0??")))
    with pytest.raises(QuarantineError) as caught:
        read_header(path)
    assert caught.value.reason == "vr_invalid"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_header_of_every_transfer_syntax(tmp_path: Path, syntax: str) -> None:
    header = read_header(write(CT, tmp_path / "a.dcm", transfer_syntax=syntax))

    assert (header.study_instance_uid, header.transfer_syntax_uid) == (CT.StudyInstanceUID, syntax)


def test_header_of_a_stranger_is_cheap(tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    path.write_bytes(b"RIFF" * 100_000)

    with pytest.raises(NotDicom):
        read_header(path)


def test_missing_file_is_told_without_its_name(tmp_path: Path) -> None:
    for read in (read_instance, read_header):
        with pytest.raises(SourceMissing) as caught:
            read(tmp_path / "李雷.dcm")
        assert "李雷" not in str(caught.value)


def test_no_detail_quotes_a_value() -> None:
    secret = b"ZZPHI-LILEI"
    body = element(0x00080005, b"CS", secret + b" ") + element(0x00100020, b"LO", secret + b"\xff\xfe\x81\xff\xff")
    for data in (
        with_dataset(body),
        with_dataset(body + b"\x10\0\x30\0QQ" + secret),
        with_dataset(secret),
        secret * 20,
    ):
        try:
            found = " ".join(notes(read_bytes(data)))
        except QuarantineError as error:
            found = str(error)
        assert "ZZPHI" not in found
