"""Pixel Data: do the bytes hold what the attributes promise (PS3.3 C.7.6.3, PS3.5 section 8 and A.4)?

Structure only: nothing is decompressed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from pydicom.dataset import Dataset

from radlake.dicom import values
from radlake.dicom.uids import TransferSyntax, transfer_syntax
from radlake.errors import QuarantineError

__all__ = ["check_pixels", "fragment_check"]

_PIXEL_DATA = 0x7FE00010
_FLOATS = {0x7FE00008: 32, 0x7FE00009: 64}  # Float and Double Float Pixel Data, their bits
_EXTENDED_OFFSETS = 0x7FE00001
_NUMBER_OF_FRAMES = 0x00280008
_PHOTOMETRIC_INTERPRETATION = 0x00280004
_REQUIRED = {"Rows": 0x00280010, "Columns": 0x00280011, "BitsAllocated": 0x00280100, "SamplesPerPixel": 0x00280002}
_SAMPLES = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "HSV": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_PARTIAL_422": 3,
    "YBR_PARTIAL_420": 3,
    "YBR_ICT": 3,
    "YBR_RCT": 3,
    "XYB": 3,
    "ARGB": 4,
    "CMYK": 4,
}
_VIDEO = tuple(f"1.2.840.10008.1.2.4.{n}" for n in range(100, 109))
_RLE = "1.2.840.10008.1.2.5"
_JPEG, _JPEG_2000 = (b"\xff\xd8",), (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP")
_LONGEST_SIGNATURE = 8
_SIGNATURES = {
    **{f"1.2.840.10008.1.2.4.{n}": _JPEG for n in (*range(50, 67), 70, 80, 81)},
    **{f"1.2.840.10008.1.2.4.{n}": _JPEG_2000 for n in (90, 91, 92, 93, 201, 202, 203)},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    rows: int
    columns: int
    samples: int
    bits: int
    frames: int
    photometric: str

    def n_bytes(self, *, samples: int | None = None) -> int:
        bits = self.rows * self.columns * (samples or self.samples) * self.bits * self.frames
        return (bits + 7) // 8


def check_pixels(ds: Dataset, *, syntax: TransferSyntax, is_image: bool) -> list[str]:
    """Check the pixels of one instance; returns the deviations that were accepted.

    Raises
    ------
    QuarantineError
        `pixel_data_missing`, `iod_attribute_missing`, `value_length_invalid`, `pixel_length_mismatch`,
        `pixel_data_corrupt`.
    """
    float_tag = next((tag for tag in _FLOATS if values.is_present(ds, tag)), None)
    if float_tag is None and not values.is_present(ds, _PIXEL_DATA):
        if is_image:
            raise QuarantineError(reason="pixel_data_missing", detail="no Pixel Data in an image")
        return []
    shape, notes = _shape(ds)
    if float_tag is not None:
        if shape.bits != _FLOATS[float_tag]:
            raise QuarantineError(reason="iod_attribute_missing", detail=f"BitsAllocated is {shape.bits} for floats")
        return notes + _check_native(_value(ds, float_tag), shape)
    data = _value(ds, _PIXEL_DATA)
    if syntax.is_encapsulated:
        return notes + _check_encapsulated(ds, data, shape=shape, syntax=syntax)
    return notes + _check_native(data, shape)


def fragment_check(ds: Dataset) -> Callable[[bytes | memoryview], object]:
    """What checks encapsulated pixel data of headers with this Image Pixel Module; it raises as `check_pixels`."""
    syntax = transfer_syntax(values.first_text(ds.file_meta, 0x00020010))
    assert syntax is not None
    return partial(_check_encapsulated, ds, shape=_shape(ds)[0], syntax=syntax)


def _value(ds: Dataset, tag: int) -> bytes | memoryview:
    return ds.get_item(tag).value  # pyright: ignore


def _shape(ds: Dataset) -> tuple[_Shape, list[str]]:
    """What the Image Pixel Module says, if it is complete and does not contradict itself."""
    found = {keyword: _number(ds, tag, keyword) for keyword, tag in _REQUIRED.items()}
    absent = [keyword for keyword, value in found.items() if not value]
    photometric = values.first_text(ds, _PHOTOMETRIC_INTERPRETATION)
    if not photometric:
        absent.append("PhotometricInterpretation")
    if absent:
        raise QuarantineError(reason="iod_attribute_missing", detail=", ".join(absent))
    samples, bits = found["SamplesPerPixel"] or 0, found["BitsAllocated"] or 0
    if _SAMPLES.get(photometric, samples) != samples:
        detail = f"{photometric} with {samples} samples per pixel"
        raise QuarantineError(reason="iod_attribute_missing", detail=detail)
    stored = _number(ds, 0x00280101, "BitsStored") or bits
    if bits > 64 or stored > bits:
        raise QuarantineError(reason="iod_attribute_missing", detail=f"{stored} bits stored in {bits} allocated")
    frames = _number(ds, _NUMBER_OF_FRAMES, "NumberOfFrames")
    notes = []
    if photometric not in _SAMPLES:
        notes.append("undefined Photometric Interpretation")
    if frames is not None and frames < 1:
        notes.append(f"Number of Frames is {frames}")
    shape = _Shape(
        rows=found["Rows"] or 0,
        columns=found["Columns"] or 0,
        samples=samples,
        bits=bits,
        frames=max(frames or 1, 1),
        photometric=photometric,
    )
    return shape, notes


def _number(ds: Dataset, tag: int, keyword: str) -> int | None:
    try:
        return values.number(ds, tag)
    except ValueError as exc:
        raise QuarantineError(reason="value_length_invalid", detail=f"{keyword} is {exc}") from exc


def _check_native(data: bytes | memoryview, shape: _Shape) -> list[str]:
    """Native pixels: all of them, and no further frame behind them (PS3.5 8.1.1)."""
    lengths = [shape.n_bytes()]
    if shape.photometric in ("YBR_FULL_422", "YBR_PARTIAL_422"):  # two chrominance samples for two pixels (C.7.6.3.1.2)
        lengths.insert(0, shape.n_bytes(samples=2))
    expected = max((length for length in lengths if length <= len(data)), default=lengths[0])
    excess = len(data) - expected
    if excess < 0 or excess >= max(expected // shape.frames, 2):
        raise QuarantineError(reason="pixel_length_mismatch", detail=f"{len(data)} bytes instead of {expected}")
    return [f"{excess} bytes behind the pixels"] if excess > expected % 2 else []


def _check_encapsulated(ds: Dataset, data: bytes | memoryview, *, shape: _Shape, syntax: TransferSyntax) -> list[str]:
    """Compressed pixels: the fragments of every frame, where the offset tables say (PS3.5 A.4)."""
    notes = []
    table, *fragments = _fragments(data)
    filled = [(offset, length) for offset, length in fragments if length]
    is_video = syntax.uid.startswith(_VIDEO)
    if not filled or (len(filled) < shape.frames and not is_video):
        detail = f"{len(filled)} fragments for {shape.frames} frames"
        raise QuarantineError(reason="pixel_data_corrupt", detail=detail)
    if any(length % 2 for _, length in fragments):
        notes.append("a fragment of odd length")
    starts = {offset - table[0] - table[1] - 8 for offset, _ in fragments}
    offsets = list(struct.unpack_from(f"<{table[1] // 4}L", data, table[0]))
    if values.is_present(ds, _EXTENDED_OFFSETS):
        extended = _value(ds, _EXTENDED_OFFSETS)
        offsets = list(struct.unpack_from(f"<{len(extended) // 8}Q", extended))
    n_expected = (1, shape.frames) if is_video else (shape.frames,)
    is_sane = len(offsets) in n_expected and offsets == sorted(set(offsets)) and starts.issuperset(offsets)
    if offsets and not is_sane:
        if len(fragments) != shape.frames and not is_video:
            raise QuarantineError(reason="pixel_data_corrupt", detail="the offset table does not lead to the frames")
        notes.append("an offset table that does not lead to the frames")
    signatures = _SIGNATURES.get(syntax.uid)
    first = filled[0][0]
    if signatures and not bytes(data[first : first + _LONGEST_SIGNATURE]).startswith(signatures):
        raise QuarantineError(reason="pixel_data_corrupt", detail="no compressed image where the first frame begins")
    if syntax.uid == _RLE:
        _check_rle(data, filled, shape)
    return notes


def _fragments(data: bytes | memoryview) -> Iterator[tuple[int, int]]:
    """Offset and length of the value of each item; the first is the basic offset table."""
    pos = 0
    while pos < len(data):
        if data[pos : pos + 4] != b"\xfe\xff\x00\xe0" or pos + 8 > len(data):
            raise QuarantineError(reason="pixel_data_corrupt", detail=f"no fragment at byte {pos}")
        length = int.from_bytes(data[pos + 4 : pos + 8], "little")
        yield pos + 8, length
        pos += 8 + length


def _check_rle(data: bytes | memoryview, fragments: list[tuple[int, int]], shape: _Shape) -> None:
    """One segment for each byte of a pixel (PS3.5 G.3)."""
    for offset, length in fragments:
        n_segments = int.from_bytes(data[offset : offset + 4], "little")
        if length < 64 or n_segments != shape.samples * max(shape.bits // 8, 1):
            raise QuarantineError(reason="pixel_data_corrupt", detail=f"{n_segments} RLE segments in a frame")
        if any(data[offset + 4 + 4 * n_segments : offset + 64]):
            raise QuarantineError(reason="pixel_data_corrupt", detail="offsets of RLE segments that are not there")
