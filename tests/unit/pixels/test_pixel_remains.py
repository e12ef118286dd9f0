"""Text in Pixel Data beside the pixels goes; what decodes stays the same, and so does every offset."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import RLELossless

from radlake.pixels import remains
from support.deid import assert_unreadable, deidentified_bytes, read_output
from support.dicom import ct_study, dicom_bytes

NAME, NUMBER = "欧阳雪莲", "OUYANG^XUELIAN 320503193911050017"
TEXT = f"{NAME} {NUMBER}".encode()
JPEG, JPEG_12, JPEG_LOSSLESS, JPEG_LS, J2K, HTJ2K, RLE, JXL = (
    f"1.2.840.10008.1.2.{end}" for end in ("4.50", "4.51", "4.70", "4.80", "4.90", "4.201", "5", "4.110")
)
DEFLATED, UNCOMPRESSED = "1.2.840.10008.1.2.8.1", "1.2.840.10008.1.2.1.98"
ROWS, COLUMNS = 40, 48


def _grey(seed: int = 0, *, bits: int = 12) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[:ROWS, :COLUMNS]
    tissue = (1 << bits - 2) * (1 + np.sin(across / 9) * np.cos(down / 7)) + rng.integers(
        0, 1 << bits - 5, (ROWS, COLUMNS)
    )
    return tissue.astype(np.uint16 if bits > 8 else np.uint8)


def _image(syntax: str, frames: list[bytes], *, bits: int = 12, data: bytes | None = None) -> Dataset:
    ds = ct_study(1)[0]
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = ROWS, COLUMNS, -(-bits // 8) * 8, bits, bits - 1
    ds.PixelRepresentation = 0
    if len(frames) > 1:
        ds.NumberOfFrames = len(frames)
    ds.file_meta.TransferSyntaxUID = JPEG if syntax == DEFLATED else syntax
    ds.PixelData = data or encapsulate(frames)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return ds


def _sent(ds: Dataset, syntax: str) -> bytes:
    """Its bytes; of a transfer syntax that is younger than pydicom too."""
    return (
        dicom_bytes(ds).replace(f"{JPEG}".encode(), f"{DEFLATED}\0".encode()) if syntax == DEFLATED else dicom_bytes(ds)
    )


def _segments(frame: bytes) -> bytes:
    """A comment, Exif, Photoshop and ICC segments behind the start of an image."""
    starts = (
        b"\xff\xfe",
        b"\xff\xe1Exif\0\0",
        b"\xff\xedPhotoshop 3.0\0",
        b"\xff\xe2ICC_PROFILE\0\1\1",
        b"\xff\xe0JFIF\0\1\1\0\0\1\0\1\0\0",
    )
    bodies = ((start[:2], start[2:] + TEXT) for start in starts)
    return frame[:2] + b"".join(m + struct.pack(">H", len(body) + 2) + body for m, body in bodies) + frame[2:]


def _comment(frame: bytes) -> bytes:
    at = 4 + int.from_bytes(frame[4:6], "big")
    return frame[:at] + b"\xff\x64" + struct.pack(">HH", len(TEXT) + 4, 1) + TEXT + frame[at:]


def _box(frame: bytes) -> bytes:
    at = frame.index(b"jp2c") - 4
    return frame[:at] + struct.pack(">I", len(TEXT) + 8) + b"xml " + TEXT + frame[at:]


def _jpeg(values: np.ndarray[Any, Any], *, bits: int) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(values, bitspersample=bits, level=95))


def _rle(values: np.ndarray[Any, Any]) -> bytes:
    kind = {"rows": ROWS, "columns": COLUMNS, "samples_per_pixel": 1, "bits_allocated": 16, "bits_stored": 12}
    kind |= {"pixel_representation": 0, "photometric_interpretation": "MONOCHROME2", "number_of_frames": 1}
    return bytes(get_encoder(RLELossless).encode(values, **kind))


def _rle_with_text_between(values: np.ndarray[Any, Any]) -> bytes:
    frame = _rle(values)
    second = int.from_bytes(frame[8:12], "little")
    starts = struct.pack("<3L", 2, 64, second + len(TEXT) + len(TEXT) % 2)
    return starts + frame[12:second] + TEXT + b"\0" * (len(TEXT) % 2) + frame[second:]


def _deflated(values: np.ndarray[Any, Any]) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(values.tobytes()) + deflater.flush()


def _j2k(values: np.ndarray[Any, Any], codec: str = "j2k") -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(values, codecformat=codec, reversible=True, level=0))


PLACES: dict[str, tuple[str, int, Callable[[np.ndarray[Any, Any]], bytes]]] = {
    "JPEG segments": (JPEG, 8, lambda v: _segments(_jpeg(v, bits=8))),
    "JPEG 12 bits": (JPEG_12, 12, lambda v: _segments(_jpeg(v, bits=12))),
    "JPEG lossless": (JPEG_LOSSLESS, 12, lambda v: _segments(imagecodecs.ljpeg_encode(v))),
    "JPEG-LS": (JPEG_LS, 12, lambda v: _segments(imagecodecs.jpegls_encode(v))),
    "behind EOI": (JPEG_LS, 12, lambda v: imagecodecs.jpegls_encode(v) + TEXT),
    "J2K comment": (J2K, 12, lambda v: _comment(_j2k(v))),
    "behind EOC": (J2K, 12, lambda v: _j2k(v) + TEXT),
    "JP2 box": (J2K, 12, lambda v: _box(_j2k(v, "jp2"))),
    "HTJ2K comment": (HTJ2K, 12, lambda v: _comment(bytes(imagecodecs.htj2k_encode(v, reversible=True)))),
    "RLE": (RLE, 12, lambda v: _rle(v) + TEXT),
    "RLE between": (RLE, 12, _rle_with_text_between),
    "deflated": (DEFLATED, 12, lambda v: _deflated(v) + TEXT),
    "uncompressed": (UNCOMPRESSED, 12, lambda v: v.tobytes() + TEXT),
}  # fmt: skip


@pytest.mark.parametrize("n_frames", [1, 3])
@pytest.mark.parametrize("place", PLACES)
def test_text_in_a_compressed_frame_goes_and_the_picture_stays(place: str, n_frames: int) -> None:
    syntax, bits, encode = PLACES[place]
    frames = [encode(_grey(seed, bits=bits)) for seed in range(n_frames)]
    sent = _image(syntax, frames, bits=bits)
    assert TEXT in sent.PixelData
    out = deidentified_bytes(_sent(sent, syntax))
    assert_unreadable(out, NAME, *NUMBER.split(), "Exif", "Photoshop")
    kept = read_output(out)
    assert kept.file_meta.TransferSyntaxUID == syntax
    assert len(kept.PixelData) == len(sent.PixelData)
    if syntax in (DEFLATED, UNCOMPRESSED):
        assert all(encode(_grey(seed, bits=bits)).removesuffix(TEXT) in kept.PixelData for seed in range(n_frames))
    if syntax == JPEG:
        assert (kept.pixel_array == sent.pixel_array).all()
    elif syntax not in (JPEG_12, DEFLATED, UNCOMPRESSED):  # pydicom has no decoder of them
        assert (kept.pixel_array == np.squeeze([_grey(seed) for seed in range(n_frames)])).all()
    assert deidentified_bytes(out)[-len(kept.PixelData) :] == out[-len(kept.PixelData) :]


def test_text_in_a_further_fragment_goes() -> None:
    frame = bytes(imagecodecs.jpegls_encode(_grey()))
    text = TEXT + b" " * (len(TEXT) % 2)
    sent = _image(
        JPEG_LS, [frame], data=encapsulate([frame]) + b"\xfe\xff\x00\xe0" + struct.pack("<L", len(text)) + text
    )
    out = deidentified_bytes(sent)
    assert_unreadable(out, NAME, *NUMBER.split())
    assert (read_output(out).pixel_array == sent.pixel_array).all()


def test_a_frame_in_many_fragments_is_one_image() -> None:
    frames = [_segments(bytes(imagecodecs.jpegls_encode(_grey(seed)))) for seed in range(2)]
    sent = _image(JPEG_LS, frames, data=encapsulate(frames, fragments_per_frame=5))
    out = deidentified_bytes(sent)
    assert_unreadable(out, NAME, *NUMBER.split())
    assert (read_output(out).pixel_array == sent.pixel_array).all()


def test_a_table_of_offsets_that_leads_nowhere_is_zero() -> None:
    frames = [bytes(imagecodecs.jpegls_encode(_grey(seed))) for seed in range(2)]
    data = encapsulate(frames, has_bot=False)
    sent = _image(JPEG_LS, frames, data=data[:4] + struct.pack("<L", 8) + b"WangXiul" + data[8:])
    assert_unreadable(deidentified_bytes(sent), "WangXiul")


@pytest.mark.parametrize(
    "comment", [b"Kakadu-v7.9", b"Created by OpenJPEG version 2.5.0", b"LEAD Technologies Inc. V1.01\0"]
)
def test_what_an_encoder_writes_of_itself_stays(comment: bytes) -> None:
    frame = bytes(imagecodecs.jpegls_encode(_grey()))
    sent = _image(JPEG_LS, [frame[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + frame[2:]])
    assert comment in deidentified_bytes(sent)


@pytest.mark.parametrize("keyword", ["PixelData", "FloatPixelData"])
def test_text_behind_native_pixels_goes(keyword: str) -> None:
    ds = ct_study(1)[0]
    pixels = ds.PixelData
    if keyword == "FloatPixelData":
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.30"
        del ds.PixelData
        pixels = np.ones((ds.Rows, ds.Columns), "<f4").tobytes()
        ds.BitsAllocated = 32
    text = TEXT + b"\0" * (len(TEXT) % 4)
    setattr(ds, keyword, pixels + text)
    if keyword == "PixelData":
        ds["PixelData"].VR = "OW"
    out = deidentified_bytes(ds)
    assert_unreadable(out, NAME, *NUMBER.split())
    assert read_output(out)[keyword].value == pixels


@pytest.mark.parametrize(("n_frames", "more"), [("1", 2), ("1A", 2), ("1A", 0)])
def test_whole_frames_that_the_header_does_not_count_stay(n_frames: str, more: int) -> None:
    """A header that tells too few frames, or none that can be read, costs no picture."""
    ds = ct_study(1)[0]
    pixels = ds.PixelData * (1 + more)
    ds.PixelData = pixels
    data = dicom_bytes(ds)
    header, _, rest = data.partition(b"(\0\x10\0US")  # Rows
    number = b"(\0\x08\0IS" + struct.pack("<H", 2) + n_frames.ljust(2).encode()
    out = read_output(deidentified_bytes(header + number + b"(\0\x10\0US" + rest))
    assert out.PixelData == pixels


def test_large_pixel_data_are_blanked_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = _segments(bytes(imagecodecs.jpegls_encode(_grey())))
    in_memory = deidentified_bytes(_image(JPEG_LS, [frame]))
    monkeypatch.setattr(remains, "_IN_MEMORY", 0)
    monkeypatch.setattr(remains, "_COPIED", 100)
    assert deidentified_bytes(_image(JPEG_LS, [frame])) == in_memory


def test_pixels_without_remains_are_not_copied() -> None:
    ds = _image(JPEG_LS, [bytes(imagecodecs.jpegls_encode(_grey()))])
    assert remains.without_remains(ds) is None
    assert remains.without_remains(ct_study(1)[0]) is None
