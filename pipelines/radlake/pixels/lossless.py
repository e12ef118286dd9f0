"""Encode and decode single frames without loss: the codecs, and the frames that each may take.

A frame is its bytes as native Pixel Data holds them: little endian, by pixel or by plane (PS3.3 C.7.6.3.1.3). What
decodes is never the library that encoded HTJ2K: OpenJPH writes, OpenJPEG reads. Fragments, offset tables and files are
the callers' business.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset

from radlake.dicom import values

if TYPE_CHECKING:
    import numpy as np

__all__ = ["CODECS", "Codec", "PixelFormat", "decode_frame", "encode_frame"]

_WHOLE_IMAGES = {"MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1, "RGB": 3, "YBR_FULL": 3}
_WITH_COLOUR_TRANSFORM = {"htj2k", "j2k"}
_SSIZ, _SSIZ_STEP = 42, 3  # of the first component, and to the next: SIZ follows SOC (ISO/IEC 15444-1 A.5.1)


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """The Image Pixel Module (PS3.3 C.7.6.3) of one instance, as far as a frame's bytes depend on it."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    photometric: str
    is_by_plane: bool

    @classmethod
    def from_dataset(cls, ds: Dataset) -> PixelFormat:
        """Read it from a data set.

        Raises
        ------
        ValueError
            If a value is no number.
        """

        def number(tag: int, default: int = 0) -> int:
            found = values.number(ds, tag)
            return default if found is None else found

        bits_stored = number(0x00280101)
        return cls(
            rows=number(0x00280010),
            columns=number(0x00280011),
            samples=number(0x00280002, 1),
            bits_allocated=number(0x00280100),
            bits_stored=bits_stored,
            high_bit=number(0x00280102, bits_stored - 1),
            is_signed=number(0x00280103) == 1,
            photometric=values.first_text(ds, 0x00280004),
            is_by_plane=number(0x00280006) == 1,
        )

    @property
    def frame_bytes(self) -> int:
        return self.rows * self.columns * self.samples * self.bits_allocated // 8

    def array(self, frame: bytes | memoryview) -> np.ndarray:
        """A native frame, shaped (rows, columns) or (rows, columns, samples)."""
        import numpy as np

        array = np.frombuffer(frame, f"<{'i' if self.is_signed else 'u'}{self.bits_allocated // 8}")
        if self.samples == 1:
            return array.reshape(self.rows, self.columns)
        if self.is_by_plane:
            planes = array.reshape(self.samples, self.rows, self.columns)
            return np.ascontiguousarray(planes.transpose(1, 2, 0))
        return array.reshape(self.rows, self.columns, self.samples)

    def frame(self, array: np.ndarray) -> bytes:
        """The native frame of an array as `array` gives it."""
        if self.samples > 1 and self.is_by_plane:
            array = array.transpose(2, 0, 1)
        return array.tobytes()

    def has_high_bits(self, array: np.ndarray) -> bool:
        """Whether a sample does not fit into Bits Stored: something else lies above it (PS3.5 8.1.1)."""
        if self.bits_stored == self.bits_allocated:
            return False
        half = 1 << (self.bits_stored - 1)
        least, most = (-half, half - 1) if self.is_signed else (0, 2 * half - 1)
        return bool(array.min() < least or array.max() > most)


@dataclass(frozen=True)
class Codec:
    """A lossless compression.

    Attributes
    ----------
    name, transfer_syntax_uid : str
    plugin : str
        Of pydicom: named, because it would try others too, and GDCM ends the process over an RLE frame of odd size.
    """

    name: str
    transfer_syntax_uid: str
    encode: Callable[[np.ndarray, PixelFormat, Codec], bytes]
    decode: Callable[[bytes, PixelFormat, Codec], np.ndarray]
    plugin: str = ""

    def photometric(self, form: PixelFormat) -> str:
        """Photometric Interpretation of the encoded frames: YBR_RCT when RGB was transformed (PS3.5 8.2.4)."""
        is_transformed = form.photometric == "RGB" and self.name in _WITH_COLOUR_TRANSFORM
        return "YBR_RCT" if is_transformed else form.photometric

    def is_by_plane(self, form: PixelFormat) -> bool:
        """Planar Configuration of the encoded frames: 1 for RLE (its segments are planes), else 0 (PS3.5 8.2)."""
        return self.name == "rle" and form.samples > 1

    def reason_against(self, form: PixelFormat) -> str | None:
        """Why such frames are left alone; None when they are taken."""
        if form.bits_allocated == 1 or form.bits_stored == 1:
            return "one_bit"
        if form.bits_allocated not in (8, 16):
            return "bits_allocated"
        if _WHOLE_IMAGES.get(form.photometric) != form.samples:
            return "photometric_interpretation"
        if not (0 < form.bits_stored <= form.bits_allocated and form.high_bit == form.bits_stored - 1):
            return "bits_stored"
        if form.bits_allocated == 16 and form.bits_stored <= 8 and self.name != "rle":
            return "bits_stored"  # the code stream would promise 8 bits where the data set promises 16
        is_narrow = form.bits_stored < form.bits_allocated
        if form.is_signed and ((self.name == "jpegls" and is_narrow) or self.name == "jxl"):
            return "signed"  # neither carries a sign
        return "photometric_interpretation" if self.name == "jxl" and form.photometric == "YBR_FULL" else None


def encode_frame(frame: bytes | memoryview, *, form: PixelFormat, codec: Codec) -> bytes | None:
    """One native frame as a code stream of even or odd length; None when it has bits above Bits Stored.

    Call it for a format that `Codec.reason_against` takes.
    """
    array = form.array(frame)
    if codec.name != "rle" and form.has_high_bits(array):
        return None
    return codec.encode(array, form, codec)


def decode_frame(data: bytes, *, form: PixelFormat, codec: Codec) -> bytes:
    """The native frame of a code stream, in the format of the source.

    Raises
    ------
    Exception
        Whatever the decoder raises for a broken stream.
    """
    return form.frame(codec.decode(data, form, codec))


def _encode_htj2k(array: np.ndarray, form: PixelFormat, codec: Codec) -> bytes:  # noqa: ARG001
    import imagecodecs
    import numpy as np

    has_transform = form.photometric == "RGB"
    if form.bits_stored == form.bits_allocated:
        return bytes(imagecodecs.htj2k_encode(array, rgb=has_transform))
    # imagecodecs knows precisions of 8 and 16 bits only. Samples that are level-shifted here (15444-1 G.1.2) and given
    # as signed ones make the same code stream as Bits Stored would, but for Ssiz, which says what to undo.
    if not form.is_signed:
        half = array.dtype.type(1 << (form.bits_stored - 1))
        array = (array - half).view(f"<i{array.itemsize}")
    stream = bytearray(imagecodecs.htj2k_encode(np.ascontiguousarray(array), rgb=has_transform))
    for component in range(form.samples):
        stream[_SSIZ + _SSIZ_STEP * component] = (form.bits_stored - 1) | (0x80 if form.is_signed else 0)
    return bytes(stream)


def _encode_jxl(array: np.ndarray, form: PixelFormat, codec: Codec) -> bytes:  # noqa: ARG001
    import imagecodecs

    return bytes(
        imagecodecs.jpegxl_encode(array, lossless=True, effort=1, bitspersample=form.bits_stored, numthreads=1)
    )


def _decode_jxl(data: bytes, form: PixelFormat, codec: Codec) -> np.ndarray:  # noqa: ARG001
    import imagecodecs

    return imagecodecs.jpegxl_decode(data, numthreads=1)


def _encode_pydicom(array: np.ndarray, form: PixelFormat, codec: Codec) -> bytes:
    from pydicom.pixels.encoders.base import get_encoder

    options = _options(form, codec)
    if codec.name == "rle":  # it packs bytes, whatever they mean
        options |= {"bits_stored": form.bits_allocated, "pixel_representation": 0}
    encoder = get_encoder(codec.transfer_syntax_uid)
    return bytes(encoder.encode(array.tobytes(), validate=False, encoding_plugin=codec.plugin, **options))


def _decode_pydicom(data: bytes, form: PixelFormat, codec: Codec) -> np.ndarray:
    import numpy as np
    from pydicom.pixels.decoders.base import get_decoder

    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(data)) + data
    options = _options(form, codec) | {"pixel_keyword": "PixelData"}
    table = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    decoder: Any = get_decoder(codec.transfer_syntax_uid)
    frame, found = decoder.as_buffer(
        table + item, index=0, validate=False, raw=True, decoding_plugin=codec.plugin, **options
    )
    array = np.frombuffer(frame, f"<{'i' if form.is_signed else 'u'}{form.bits_allocated // 8}")
    if form.samples == 1:
        return array.reshape(form.rows, form.columns)
    if found["planar_configuration"] == 1:
        return array.reshape(form.samples, form.rows, form.columns).transpose(1, 2, 0)
    return array.reshape(form.rows, form.columns, form.samples)


def _options(form: PixelFormat, codec: Codec) -> dict[str, Any]:
    return {
        "rows": form.rows,
        "columns": form.columns,
        "samples_per_pixel": form.samples,
        "bits_allocated": form.bits_allocated,
        "bits_stored": form.bits_stored,
        "pixel_representation": int(form.is_signed),
        "photometric_interpretation": codec.photometric(form),
        "number_of_frames": 1,
        "planar_configuration": 0,
    }


CODECS = {
    codec.name: codec
    for codec in (
        Codec("htj2k", "1.2.840.10008.1.2.4.201", _encode_htj2k, _decode_pydicom, plugin="pylibjpeg"),
        Codec("jpegls", "1.2.840.10008.1.2.4.80", _encode_pydicom, _decode_pydicom, plugin="pyjpegls"),
        Codec("j2k", "1.2.840.10008.1.2.4.90", _encode_pydicom, _decode_pydicom, plugin="pylibjpeg"),
        Codec("rle", "1.2.840.10008.1.2.5", _encode_pydicom, _decode_pydicom, plugin="pylibjpeg"),
        Codec("jxl", "1.2.840.10008.1.2.4.110", _encode_jxl, _decode_jxl),
    )
}
