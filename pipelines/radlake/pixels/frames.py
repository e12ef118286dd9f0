"""Frames of an image as numpy arrays and back, one at a time, whatever photometric interpretation and transfer syntax.

Values are those that are stored (PS3.5 8, PS3.3 C.7.6.3), never rescaled or windowed. Only lossy JPEG changes its
colour space: its YCbCr becomes RGB, as it can only be stored again without compression.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from radlake.dicom.uids import EXPLICIT_VR_LITTLE_ENDIAN, transfer_syntax
from radlake.dicom.values import first_text, number
from radlake.pixels.lossless import CODECS, PixelFormat, encode_frame

__all__ = ["Array", "Encoded", "Layout", "NotDecodable", "encode_frames", "layout_of", "read_frames", "syntax_of"]

Array = np.ndarray[Any, np.dtype[Any]]

_ROWS, _COLUMNS, _FRAMES = 0x00280010, 0x00280011, 0x00280008
_SAMPLES, _PHOTOMETRIC, _PLANAR = 0x00280002, 0x00280004, 0x00280006
_ALLOCATED, _STORED, _SIGNED = 0x00280100, 0x00280101, 0x00280103
_PIXEL_DATA, _TRANSFER_SYNTAX = 0x7FE00010, 0x00020010
_MAX_FRAME_BYTES = 1 << 30

# Each compressed syntax and the lossless one that it is written in again; the others become native.
_LOSSLESS = {
    JPEGLSLossless: JPEGLSLossless,
    JPEGLSNearLossless: JPEGLSLossless,
    JPEG2000Lossless: JPEG2000Lossless,
    JPEG2000: JPEG2000Lossless,
    HTJ2KLossless: HTJ2KLossless,
    HTJ2KLosslessRPCL: HTJ2KLossless,
    HTJ2K: HTJ2KLossless,
    RLELossless: RLELossless,
}


class NotDecodable(Exception):
    """The pixels cannot be read; the text says why and never quotes a value."""


class _NotEncodable(Exception):
    """The encoder cannot do this kind of pixels."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pixels are stored: attributes of the Image Pixel module (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    is_signed: bool
    photometric: str
    is_planar: bool  # all red, then all green, then all blue
    syntax: str

    @property
    def is_native(self) -> bool:
        known = transfer_syntax(self.syntax)
        return known is not None and not known.is_encapsulated

    @property
    def is_subsampled(self) -> bool:
        """Native YBR_FULL_422: two pixels share their colour, Y Y Cb Cr (PS3.3 C.7.6.3.1.2)."""
        return self.is_native and self.photometric == "YBR_FULL_422"

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(f"<{'i' if self.is_signed else 'u'}{max(8, self.bits_allocated) // 8}")

    @property
    def frame_bits(self) -> int:
        """Bits of one frame, stored native."""
        n_samples = 2 if self.is_subsampled else self.samples
        return self.rows * self.columns * n_samples * self.bits_allocated


@dataclass(frozen=True, slots=True)
class Encoded:
    """Pixel Data as bytes, and the layout that they have now."""

    data: bytes
    layout: Layout


def syntax_of(ds: Dataset) -> str:
    """Transfer syntax UID of the pixels; of a data set built in memory it is native."""
    return first_text(getattr(ds, "file_meta", Dataset()), _TRANSFER_SYNTAX) or EXPLICIT_VR_LITTLE_ENDIAN


def layout_of(ds: Dataset) -> Layout:
    """The layout that the header tells.

    Raises
    ------
    NotDecodable
        If attributes are missing or of a kind that no image has.
    """
    try:
        samples = number(ds, _SAMPLES) or 1
        layout = Layout(
            rows=number(ds, _ROWS) or 0,
            columns=number(ds, _COLUMNS) or 0,
            frames=number(ds, _FRAMES) or 1,
            samples=samples,
            bits_allocated=number(ds, _ALLOCATED) or 0,
            bits_stored=number(ds, _STORED) or number(ds, _ALLOCATED) or 0,
            is_signed=number(ds, _SIGNED) == 1,
            photometric=first_text(ds, _PHOTOMETRIC).upper() or ("RGB" if samples == 3 else "MONOCHROME2"),
            is_planar=samples > 1 and number(ds, _PLANAR) == 1,
            syntax=syntax_of(ds),
        )
    except ValueError:
        raise NotDecodable("the attributes of the pixels are not numbers") from None
    if _PIXEL_DATA not in ds:
        raise NotDecodable("the pixels are floating point numbers")
    if min(layout.rows, layout.columns, layout.frames) < 1 or layout.samples not in (1, 3):
        raise NotDecodable("the attributes of the pixels are missing or contradict each other")
    if layout.bits_allocated not in (1, 8, 16, 32) or not 1 <= layout.bits_stored <= layout.bits_allocated:
        raise NotDecodable("the pixels have an unusual number of bits")
    if layout.frame_bits > _MAX_FRAME_BYTES * 8 or (layout.is_subsampled and layout.columns % 2):
        raise NotDecodable("the frames have an unusual size")
    return layout


def read_frames(ds: Dataset, layout: Layout, *, writable: bool = True) -> tuple[Layout, Iterator[Array]]:
    """Every frame of the image in order: (rows, columns) or (rows, columns, 3), writable unless that is not asked for.

    The layout is that of the arrays; of compressed images the colour space may differ from the header's. Frames beyond
    Number of Frames are not given.

    Raises
    ------
    NotDecodable
        Now or with any frame.
    """
    if layout.is_native:
        return layout, _native_frames(_pixel_bytes(ds), layout, writable=writable)
    frames = _decoded_frames(ds, layout)
    first, photometric = next(frames, (None, ""))
    if first is None:
        raise NotDecodable("there is no frame")
    decoded = replace(layout, photometric=photometric, is_planar=False)

    def rest() -> Iterator[Array]:
        yield first
        for frame, _ in frames:
            yield frame

    return decoded, rest()


def encode_frames(frames: Callable[[], Iterable[Array]], layout: Layout) -> Encoded:
    """Pixel Data of the frames: native as they were, else in a lossless syntax of the same family, else native.

    `frames` is called again when an encoder fails or cannot do it.
    """
    target = None if layout.is_native else _LOSSLESS.get(layout.syntax)  # pyright: ignore
    if target is not None:
        written = replace(layout, syntax=str(target), is_planar=False)
        if target in (JPEG2000Lossless, HTJ2KLossless) and layout.photometric == "RGB":
            written = replace(written, photometric="YBR_RCT")
        with contextlib.suppress(_NotEncodable):
            return Encoded(encapsulate([_compressed(frame, written) for frame in frames()], has_bot=True), written)
    native = layout if layout.is_native else replace(layout, syntax=EXPLICIT_VR_LITTLE_ENDIAN, is_planar=False)
    return Encoded(_native_bytes(frames(), native), native)


def _pixel_bytes(ds: Dataset) -> bytes | memoryview:
    value = cast(Any, ds.get_item(_PIXEL_DATA)).value
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise NotDecodable("the pixels are not here")
    return memoryview(value) if isinstance(value, bytearray) else value


def _native_frames(data: bytes | memoryview, layout: Layout, *, writable: bool) -> Iterator[Array]:
    if len(data) * 8 < layout.frame_bits * layout.frames:
        raise NotDecodable("the pixel data are shorter than the frames")
    values = np.frombuffer(data, np.uint8)
    length = layout.frame_bits
    if layout.bits_allocated == 1:  # frames follow each other without padding (PS3.5 8.1.1)
        values = np.unpackbits(values, bitorder="little")
    else:
        length //= 8
    for start in range(0, length * layout.frames, length):
        frame = values[start : start + length]
        yield _shaped((frame.copy() if writable else frame).view(layout.dtype), layout)


def _shaped(values: Array, layout: Layout) -> Array:
    rows, columns = layout.rows, layout.columns
    if layout.is_subsampled:
        packed = values.reshape(rows, columns // 2, 4)
        frame = np.empty((rows, columns, 3), values.dtype)
        frame[:, 0::2, 0], frame[:, 1::2, 0] = packed[..., 0], packed[..., 1]
        frame[..., 1:] = np.repeat(packed[..., 2:], 2, axis=1)
        return frame
    if layout.samples == 1:
        return values.reshape(rows, columns)
    if layout.is_planar:
        return np.moveaxis(values.reshape(layout.samples, rows, columns), 0, -1)
    return values.reshape(rows, columns, layout.samples)


def _native_bytes(frames: Iterable[Array], layout: Layout) -> bytes:
    if layout.bits_allocated == 1:
        data = np.packbits(np.concatenate([frame.ravel() for frame in frames]), bitorder="little").tobytes()
    else:
        data = b"".join(_flat(frame.astype(layout.dtype, copy=False), layout) for frame in frames)
    return data + b"\0" * (len(data) % 2)


def _flat(frame: Array, layout: Layout) -> bytes:
    if layout.is_subsampled:
        packed = np.empty((layout.rows, layout.columns // 2, 4), frame.dtype)
        packed[..., 0], packed[..., 1] = frame[:, 0::2, 0], frame[:, 1::2, 0]
        packed[..., 2:] = frame[:, 0::2, 1:]
        return packed.tobytes()
    return (np.moveaxis(frame, -1, 0) if layout.is_planar else frame).tobytes()


def _decoded_frames(ds: Dataset, layout: Layout) -> Iterator[tuple[Array, str]]:
    """Frames and their photometric interpretation, by pydicom's plugins."""
    is_jpeg = layout.syntax not in _LOSSLESS
    try:
        decoder = get_decoder(layout.syntax)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tolerant: what a header gets wrong about a codestream is not our business
            decoded = decoder.iter_array(_source(ds, layout), indices=range(layout.frames), raw=not is_jpeg)
            if layout.syntax == JPEGExtended12Bit and layout.bits_allocated > 8:  # of no plugin with a free licence
                decoded = _extended_jpeg(ds, layout)
            for frame, told in decoded:
                if frame.shape[:2] != (layout.rows, layout.columns):
                    raise NotDecodable("the compressed frames have another size than the header tells")
                yield np.ascontiguousarray(frame), str(told["photometric_interpretation"])
    except (NotDecodable, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    except (
        BaseException
    ) as exc:  # plugins raise anything, Rust's panic is no Exception; their text may quote what they read
        raise NotDecodable(f"the pixels cannot be decoded ({type(exc).__name__})") from None


def _extended_jpeg(ds: Dataset, layout: Layout) -> Iterator[tuple[Array, dict[str, str]]]:
    """Frames of 12 bits (JPEG Process 4)."""
    import imagecodecs

    for frame in generate_frames(bytes(_pixel_bytes(ds)), number_of_frames=layout.frames):
        values = cast(Array, imagecodecs.jpeg8_decode(frame)).astype(layout.dtype)
        yield values, {"photometric_interpretation": layout.photometric}


def _source(ds: Dataset, layout: Layout) -> Dataset:
    """The few attributes that a decoder reads, as pydicom makes them itself."""
    source = Dataset()
    source.file_meta = ds.file_meta
    source.Rows, source.Columns, source.NumberOfFrames = layout.rows, layout.columns, layout.frames
    source.SamplesPerPixel, source.PhotometricInterpretation = layout.samples, layout.photometric
    if layout.samples > 1:
        source.PlanarConfiguration = int(layout.is_planar)
    source.BitsAllocated, source.BitsStored = layout.bits_allocated, layout.bits_stored
    source.HighBit, source.PixelRepresentation = layout.bits_stored - 1, int(layout.is_signed)
    source.PixelData = bytes(_pixel_bytes(ds))
    source["PixelData"].is_undefined_length = True
    return source


def _compressed(frame: Array, layout: Layout) -> bytes:
    """One frame, compressed without loss."""
    form = PixelFormat(
        rows=layout.rows,
        columns=layout.columns,
        samples=layout.samples,
        bits_allocated=layout.bits_allocated,
        bits_stored=layout.bits_stored,
        high_bit=layout.bits_stored - 1,
        is_signed=layout.is_signed,
        photometric="RGB" if layout.photometric == "YBR_RCT" else layout.photometric,
        is_by_plane=False,
    )
    codec = next(codec for codec in CODECS.values() if codec.transfer_syntax_uid == layout.syntax)
    stream = None
    if codec.reason_against(form) is None:
        try:
            stream = encode_frame(form.frame(frame.astype(layout.dtype, copy=False)), form=form, codec=codec)
        except Exception as exc:
            raise _NotEncodable from exc
    if stream is None:
        raise _NotEncodable
    return stream
