"""Writing: one form, whichever way an instance came; pixels bit-identical; judged by pydicom's own reader."""

from __future__ import annotations

import copy
import io
import struct

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from radlake.dicom.part10 import encode_instance, read_bytes
from radlake.dicom.writer import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from radlake.errors import QuarantineError
from support.dicom import (
    compressed,
    ct_study,
    dicom_bytes,
    encode_located,
    image_study,
    pdf_document,
    presentation_state,
    rdsr,
    sr_document,
)

CT = ct_study(n=1)[0]
KINDS = {
    "ct": CT,
    "ct in GB18030": ct_study(n=1, patient="王 小明", charset="GB18030")[0],
    "ct in no character set": ct_study(
        n=1, patient="Li Lei", charset=None, hospital="", description="", ReferringPhysicianName=""
    )[0],
    "ultrasound frames": image_study("US", frames=3)[0],
    "odd pixels": image_study("OT", rows=3, columns=3)[0],
    "rle": compressed(CT),
    "report": sr_document(),
    "dose": rdsr(),
    "pdf": pdf_document(),
    "presentation state": presentation_state(of=CT),
}


def travelled(ds: Dataset, *, syntax: str | None = None, is_undefined: bool = False, is_fussy: bool = False) -> bytes:
    """The instance as another sender writes it: transfer syntax, sequence style, group lengths, padding, file meta."""
    twin = copy.deepcopy(ds)
    for element in twin.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = is_undefined
            for item in element.value:
                item.is_undefined_length_sequence_item = is_undefined
    if is_fussy:
        twin.file_meta.ImplementationVersionName = "OTHER"
        twin.file_meta.SourceApplicationEntityTitle = "PACS"
        twin.add_new(0x00080000, "UL", 4)
        twin.DataSetTrailingPadding = b"\0" * 32
    data = dicom_bytes(twin, transfer_syntax=syntax)
    return b"other preamble".ljust(128) + data[128:] if is_fussy else data


@pytest.mark.parametrize("ds", KINDS.values(), ids=KINDS)
def test_same_content_is_the_same_bytes(ds: Dataset) -> None:
    expected = encode_instance(ds)
    journeys = [{}, {"is_undefined": True}, {"is_fussy": True}]
    if not ds.file_meta.TransferSyntaxUID.is_encapsulated:
        syntaxes = (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
        journeys += [{"syntax": syntax} for syntax in syntaxes]

    for journey in journeys:
        assert encode_instance(read_bytes(travelled(ds, **journey))) == expected, journey


@pytest.mark.parametrize("ds", KINDS.values(), ids=KINDS)
def test_writing_is_a_fixed_point_and_pydicom_agrees(ds: Dataset) -> None:
    data = encode_instance(ds)
    again = read_bytes(data)
    judge = pydicom.dcmread(io.BytesIO(data))

    assert encode_instance(again) == data
    for element in ds:
        if element.keyword != "SpecificCharacterSet":
            assert judge[element.tag].value == element.value
    assert [element.tag for element in judge] == [element.tag for element in ds]
    if "PixelData" in ds:
        np.testing.assert_array_equal(judge.pixel_array, pydicom.dcmread(io.BytesIO(dicom_bytes(ds))).pixel_array)


@pytest.mark.parametrize("ds", KINDS.values(), ids=KINDS)
def test_looking_at_values_does_not_change_the_bytes(ds: Dataset) -> None:
    found = read_bytes(dicom_bytes(ds))
    untouched = encode_instance(found)
    for element in found.iterall():
        assert element.value is not NotImplemented

    assert encode_instance(found) == untouched


def test_file_meta_is_our_own() -> None:
    ds = read_bytes(travelled(CT, is_fussy=True))
    ds.SOPInstanceUID = "2.25.7"

    data = encode_instance(ds)
    meta = pydicom.dcmread(io.BytesIO(data)).file_meta

    assert data[:132] == b"\0" * 128 + b"DICM"
    assert {element.keyword: element.value for element in meta} == {
        "FileMetaInformationGroupLength": len(data[: data.index(b"\x08\0\x05\0CS")]) - 144,
        "FileMetaInformationVersion": b"\0\1",
        "MediaStorageSOPClassUID": CT.SOPClassUID,
        "MediaStorageSOPInstanceUID": "2.25.7",
        "TransferSyntaxUID": ExplicitVRLittleEndian,
        "ImplementationClassUID": IMPLEMENTATION_CLASS_UID,
        "ImplementationVersionName": IMPLEMENTATION_VERSION_NAME,
    }


@pytest.mark.parametrize("name", ["ct", "ultrasound frames", "odd pixels", "rle"])
def test_pixel_offset_leads_to_the_pixels(name: str) -> None:
    ds = KINDS[name]

    data, offset = encode_located(ds)

    assert offset is not None
    assert data[offset : offset + len(ds.PixelData)] == ds.PixelData
    assert data[offset - 12 : offset - 8] == b"\xe0\x7f\x10\0"


def test_no_pixel_offset_without_pixels() -> None:
    assert encode_located(sr_document())[1] is None


def test_offset_of_float_pixels() -> None:
    ds = ct_study(n=1, PixelData=None, FloatPixelData=b"\0\0\x80\x3f" * 256)[0]

    data, offset = encode_located(ds)

    assert offset is not None
    assert data[offset : offset + 1024] == b"\0\0\x80\x3f" * 256


def test_fragments_and_offset_table_stay_as_they_are() -> None:
    ds = copy.deepcopy(CT)
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    ds.PixelData = encapsulate([b"\xff\x4f\xff\x51" + b"x" * 60], fragments_per_frame=3, has_bot=True)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True

    data, offset = encode_located(ds)

    assert data[offset:] == ds.PixelData + b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert read_bytes(data).PixelData == ds.PixelData


@pytest.mark.parametrize("syntax", [RLELossless, ExplicitVRLittleEndian], ids=["native as RLE", "RLE as native"])
def test_pixels_of_the_other_kind_are_not_written(syntax: str) -> None:
    ds = copy.deepcopy(CT if syntax == RLELossless else compressed(CT))
    ds.file_meta.TransferSyntaxUID = syntax

    with pytest.raises(QuarantineError) as caught:
        encode_instance(ds)
    assert caught.value.reason == "transfer_syntax_mismatch"


def test_text_becomes_utf8_as_soon_as_any_is_not_ascii() -> None:
    latin = ct_study(
        n=1, patient="Li^Lei", charset="ISO_IR 100", hospital="", description="", ReferringPhysicianName=""
    )[0]
    assert pydicom.dcmread(io.BytesIO(encode_instance(latin))).SpecificCharacterSet == "ISO_IR 100"

    item = Dataset()
    item.SpecificCharacterSet = "GB18030"
    item.CodeMeaning = "平扫"
    latin.ProcedureCodeSequence = Sequence([item])
    data = encode_instance(latin)

    assert pydicom.dcmread(io.BytesIO(data)).SpecificCharacterSet == "ISO_IR 192"
    assert "平扫".encode() in data
    assert b"GB18030" not in data


def test_text_in_no_character_set_gets_one() -> None:
    ds = ct_study(n=1, charset=None)[0]

    assert encode_instance(ds) == encode_instance(ct_study(n=1, charset="ISO_IR 192")[0])


def test_layout_and_the_choice_of_vr_are_not_content() -> None:
    plain = image_study("US")[0]
    ds = copy.deepcopy(plain)
    ds.add_new(0x00080000, "UL", 4)
    ds.add_new(0x00080001, "UL", 4)
    ds.DataSetTrailingPadding = b"\0" * 8
    ds["PixelData"].VR = "OW"

    assert encode_instance(ds) == encode_instance(plain)


def test_data_sets_that_pydicom_read_are_written_the_same() -> None:
    ds = KINDS["ct in GB18030"]
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        foreign = pydicom.dcmread(io.BytesIO(dicom_bytes(ds, transfer_syntax=syntax)))
        assert encode_instance(foreign) == encode_instance(ds)


def test_values_are_padded_as_the_standard_says() -> None:
    ds = copy.deepcopy(CT)
    ds.PatientID = "ABC"
    ds.StudyInstanceUID = "1.2.3"
    ds.private_block(0x0029, "ZZ", create=True).add_new(1, "UN", b"\1")
    data = encode_instance(ds)

    assert b"\x10\0\x20\0LO\4\0ABC " in data
    assert b"\x20\0\x0d\0UI\6\x001.2.3\0" in data
    assert b"\x29\0\1\x10UN\0\0\2\0\0\0\1\0" in data


def test_value_too_long_for_its_vr_is_un_and_comes_back() -> None:
    ds = copy.deepcopy(CT)
    ds.add_new(0x00204000, "LT", "x" * 70_000)

    data = encode_instance(ds)

    assert struct.pack("<HH2s2xL", 0x0020, 0x4000, b"UN", 70_000) in data
    again = read_bytes(data)
    assert (again.get_item(0x00204000).VR, again.ImageComments) == ("LT", "x" * 70_000)
    assert encode_instance(again) == data


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"SOPInstanceUID": None}, "uid_missing"),
        ({"SOPInstanceUID": "1.2.ZZPHI"}, "uid_invalid"),
        ({"Rows": "ZZPHI"}, "dataset_unreadable"),
        ({"PixelData": 7}, "dataset_unreadable"),
    ],
    ids=["no uid", "broken uid", "text as number", "number as bytes"],
)
def test_what_cannot_be_written_is_refused_without_its_value(change: dict[str, object], reason: str) -> None:
    ds = copy.deepcopy(CT)
    for keyword, value in change.items():
        tag = ds[keyword].tag
        del ds[keyword]
        if value is not None:
            ds[tag] = pydicom.DataElement(tag, ds_vr(keyword), value, already_converted=True)

    with pytest.raises(QuarantineError) as caught:
        encode_instance(ds)
    assert caught.value.reason == reason
    assert "ZZPHI" not in str(caught.value)


def ds_vr(keyword: str) -> str:
    return CT[keyword].VR


text = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\\"), max_size=12)


@settings(max_examples=100)
@given(
    name=text,
    comment=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x1b"), max_size=40),
    numbers=st.lists(st.integers(0, 65535), max_size=4),
    factor=st.floats(allow_nan=False, allow_infinity=False, width=32),
    blob=st.binary(max_size=9),
    charset=st.sampled_from([None, "ISO_IR 192"]),
)
def test_any_data_set_is_a_fixed_point(
    name: str, comment: str, numbers: list[int], factor: float, blob: bytes, charset: str | None
) -> None:
    ds = Dataset()
    ds.file_meta = CT.file_meta
    if charset:
        ds.SpecificCharacterSet = charset
    ds.SOPClassUID, ds.SOPInstanceUID = CT.SOPClassUID, CT.SOPInstanceUID
    ds.PatientName = name
    ds.ImageComments = comment
    item = Dataset()
    item.CodeMeaning = name
    ds.ProcedureCodeSequence = Sequence([item, Dataset()])
    ds.add_new(0x00281052, "DS", f"{factor:.6g}")
    ds.add_new(0x00091001, "US", numbers)
    ds.add_new(0x00091002, "UN", blob)

    data = encode_instance(ds)
    again = read_bytes(data)

    assert encode_instance(again) == data
    assert str(again.PatientName).rstrip(" \0=") == name.rstrip(" \0=")
    assert again.ImageComments.rstrip(" \0") == comment.rstrip(" \0")
    assert again.ProcedureCodeSequence[0].CodeMeaning == name.rstrip(" \0")
