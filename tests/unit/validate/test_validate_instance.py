"""Which instances may be stored: harm sets aside, mere deviation is noted."""

from __future__ import annotations

import copy
import struct
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from radlake.dicom.part10 import notes, read_bytes
from radlake.errors import QuarantineError
from radlake.validate import check_instance
from support.dicom import compressed, ct_study, dicom_bytes, encapsulated, image_study, pdf_document, rdsr, sr_document

JPEG = b"\xff\xd8" + b"\1" * 58 + b"\xff\xd9\0\0"


def ct(**attributes: Any) -> Dataset:
    return ct_study(n=1, **attributes)[0]


def colour(samples: int = 3, photometric: str = "RGB", **attributes: Any) -> Dataset:
    pixels = b"\1" * (16 * 16 * attributes.pop("stored_samples", samples))
    return image_study(
        "US", SamplesPerPixel=samples, PhotometricInterpretation=photometric, PixelData=pixels, **attributes
    )[0]


def checked(ds: Dataset) -> tuple[str, ...]:
    """Notes of an instance that passed, after a way through a file."""
    data = dicom_bytes(ds)
    found = read_bytes(data)
    check_instance(found, size=len(data))
    return notes(found)


def refused(ds: Dataset) -> str:
    with pytest.raises(QuarantineError) as caught:
        checked(ds)
    return caught.value.reason


GOOD = {
    "ct": ct(),
    "rle": compressed(ct()),
    "two frames": image_study("US", frames=2)[0],
    "rle frames": compressed(image_study("US", frames=2)[0]),
    "rgb": colour(),
    "ybr full": colour(photometric="YBR_FULL"),
    "ybr 422 with two samples": colour(photometric="YBR_FULL_422", stored_samples=2),
    "ybr 422 stored in full": colour(photometric="YBR_FULL_422"),
    "odd pixels and their padding": image_study("OT", rows=3, columns=3)[0],
    "one bit a pixel": ct(
        BitsAllocated=1, BitsStored=1, HighBit=0, rows=3, columns=3, NumberOfFrames=3, PixelData=b"\1\2\3\0"
    ),
    "twelve bits packed": ct(BitsAllocated=12, rows=4, columns=4, PixelData=b"\1" * 24),
    "float": ct(PixelData=None, FloatPixelData=b"\0" * 1024, BitsAllocated=32, BitsStored=None),
    "jpeg": encapsulated(ct(), [JPEG], transfer_syntax=JPEGBaseline8Bit),
    "jpeg 2000 in a box": encapsulated(ct(), [b"\0\0\0\x0cjP  " + b"\1" * 60], transfer_syntax=JPEG2000Lossless),
    "video in one fragment": encapsulated(
        ct(NumberOfFrames=90), [b"\0\0\1\xb3" * 9], transfer_syntax="1.2.840.10008.1.2.4.100"
    ),
    "report": sr_document(),
    "dose report": rdsr(),
    "pdf": pdf_document(),
    "plan without pixels": ct(SOPClassUID="1.2.840.10008.5.1.4.1.1.481.5", PixelData=None, Rows=None),
    "dose without pixels": ct(SOPClassUID="1.2.840.10008.5.1.4.1.1.481.2", PixelData=None, Rows=None),
    "class of tomorrow": ct(SOPClassUID="1.2.840.10008.5.1.4.1.1.9999"),
}


@pytest.mark.parametrize("ds", GOOD.values(), ids=GOOD)
def test_good_instances_pass_without_a_note(ds: Dataset) -> None:
    ds = copy.deepcopy(ds)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    assert checked(ds) == ()


def fragments_without_offsets(n: int, frames: int, table: bytes = b"") -> Dataset:
    ds = encapsulated(ct(NumberOfFrames=frames), [JPEG] * n, transfer_syntax=JPEGBaseline8Bit)
    items = ds.PixelData[8 + int.from_bytes(ds.PixelData[4:8], "little") :]
    ds.PixelData = b"\xfe\xff\0\xe0" + len(table).to_bytes(4, "little") + table + items
    ds["PixelData"].is_undefined_length = True
    return ds


NOTED = {
    "uid with a leading zero": (
        ct(SeriesInstanceUID="1.2.03"),
        "SeriesInstanceUID has a component with a leading zero",
    ),
    "no modality": (ct(Modality=None), "no Modality"),
    "empty modality": (ct(Modality=""), "no Modality"),
    "no frames": (ct(NumberOfFrames=0), "Number of Frames is 0"),
    "unknown photometric": (ct(PhotometricInterpretation="GREY"), "undefined Photometric Interpretation"),
    "bytes behind the pixels": (ct(PixelData=b"\1" * 512 + b"\0" * 128), "128 bytes behind the pixels"),
    "offset table of nonsense": (
        fragments_without_offsets(2, 2, struct.pack("<2L", 0, 7)),
        "an offset table that does not lead to the frames",
    ),
}


@pytest.mark.parametrize(("ds", "note"), NOTED.values(), ids=NOTED)
def test_deviations_are_noted(ds: Dataset, note: str) -> None:
    assert checked(ds) == (note,)


def test_another_uid_in_the_file_meta_is_noted() -> None:
    ds = read_bytes(dicom_bytes(ct()))
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"

    check_instance(ds, size=2000)

    assert notes(ds) == ("SOPInstanceUID of the file meta information is another",)


def test_values_longer_than_the_standard_are_noted() -> None:
    data = dicom_bytes(ct(patient_id="P" * 64, accession="A" * 16))
    data = data.replace(b"\x10\0\x20\0LO\x40\0", b"\x10\0\x20\0LO\x42\0PP").replace(b"\0SH\x10\0A", b"\0SH\x12\0AAA")
    ds = read_bytes(data)

    check_instance(ds, size=len(data))

    assert notes(ds) == ("AccessionNumber is longer than 16", "PatientID is longer than 64")


def rle_of(*, segments: int) -> Dataset:
    frame = struct.pack("<16L", segments, 64, *[0] * 14) + b"\1" * 10
    return encapsulated(ct(), [frame], transfer_syntax=RLELossless)


REFUSED = {
    "no study uid": (ct(StudyInstanceUID=None), "uid_missing"),
    "empty series uid": (ct(SeriesInstanceUID=""), "uid_missing"),
    "no class": (ct(SOPClassUID=None), "uid_missing"),
    "two instance uids": (ct(SOPInstanceUID=["1.2.3", "1.2.4"]), "uid_invalid"),
    "uid of one number": (ct(StudyInstanceUID="1"), "uid_invalid"),
    "query as instance": (ct(SOPClassUID="1.2.840.10008.5.1.4.1.2.2.1"), "sop_class_unknown"),
    "private class": (ct(SOPClassUID="1.3.12.2.1107.5.9.1"), "sop_class_unknown"),
    "directory": (ct(SOPClassUID="1.2.840.10008.1.3.10"), "media_directory"),
    "no pixels": (ct(PixelData=None), "pixel_data_missing"),
    "empty pixels": (ct(PixelData=b""), "pixel_data_missing"),
    "no rows": (ct(Rows=None), "iod_attribute_missing"),
    "zero columns": (ct(Columns=0), "iod_attribute_missing"),
    "no photometric": (ct(PhotometricInterpretation=None), "iod_attribute_missing"),
    "grey in three samples": (colour(photometric="MONOCHROME2"), "iod_attribute_missing"),
    "colour in one sample": (ct(PhotometricInterpretation="RGB"), "iod_attribute_missing"),
    "more bits stored than allocated": (ct(BitsStored=17), "iod_attribute_missing"),
    "floats of 16 bits": (ct(PixelData=None, FloatPixelData=b"\0" * 1024), "iod_attribute_missing"),
    "two numbers of rows": (ct(Rows=[16, 16]), "value_length_invalid"),
    "pixels too short": (ct(PixelData=b"\1" * 510), "pixel_length_mismatch"),
    "a frame too many": (ct(PixelData=b"\1" * 1024), "pixel_length_mismatch"),
    "a frame too few": (ct(NumberOfFrames=2), "pixel_length_mismatch"),
    "fewer fragments than frames": (fragments_without_offsets(1, 2), "pixel_data_corrupt"),
    "no fragment": (fragments_without_offsets(0, 1), "pixel_data_corrupt"),
    "offsets beside the frames": (fragments_without_offsets(3, 2, struct.pack("<2L", 0, 9)), "pixel_data_corrupt"),
    "offsets in disorder": (fragments_without_offsets(3, 2, struct.pack("<2L", 72, 0)), "pixel_data_corrupt"),
    "no jpeg": (encapsulated(ct(), [b"\1" * 60], transfer_syntax=JPEGBaseline8Bit), "pixel_data_corrupt"),
    "jpeg as jpeg 2000": (encapsulated(ct(), [JPEG], transfer_syntax=JPEG2000Lossless), "pixel_data_corrupt"),
    "rle of too few segments": (rle_of(segments=1), "pixel_data_corrupt"),
    "report without content": (sr_document(ContentSequence=[]), "iod_attribute_missing"),
}


@pytest.mark.parametrize(("ds", "reason"), REFUSED.values(), ids=REFUSED)
def test_harm_sets_aside(ds: Dataset, reason: str) -> None:
    assert refused(ds) == reason


def test_frames_of_several_fragments_need_a_good_offset_table() -> None:
    ds = encapsulated(ct(NumberOfFrames=2), [JPEG], transfer_syntax=JPEGBaseline8Bit)
    ds.PixelData = encapsulate([JPEG, JPEG], fragments_per_frame=2, has_bot=True)
    ds["PixelData"].is_undefined_length = True
    assert checked(ds) == ()

    table = ds.PixelData
    ds.PixelData = table[:8] + struct.pack("<2L", 0, 4) + table[16:]
    assert refused(ds) == "pixel_data_corrupt"


def test_extended_offsets_count_instead_of_the_basic_table() -> None:
    ds = fragments_without_offsets(3, 2)
    ds.ExtendedOffsetTable = struct.pack("<2Q", 0, 72)
    ds.ExtendedOffsetTableLengths = struct.pack("<2Q", 64, 136)
    assert checked(ds) == ()

    ds.ExtendedOffsetTable = struct.pack("<2Q", 0, 70)
    assert refused(ds) == "pixel_data_corrupt"


def test_rle_passes_with_a_segment_for_each_byte() -> None:
    assert checked(rle_of(segments=2)) == ()


def test_a_file_shorter_than_its_prefix_is_no_file() -> None:
    with pytest.raises(QuarantineError) as caught:
        check_instance(read_bytes(dicom_bytes(ct())), size=100)
    assert caught.value.reason == "part10_truncated"


def test_one_bad_instance_says_nothing_about_the_others() -> None:
    good, broken = ct_study(n=2)
    del broken.PixelData

    assert checked(good) == ()
    assert refused(broken) == "pixel_data_missing"
