"""Stored instances and frames written again as Explicit VR Little Endian, where a codec exists."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from threading import BoundedSemaphore

from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import ExplicitVRLittleEndian, JPEGExtended12Bit

from radlake.dicom.uids import EXPLICIT_VR_LITTLE_ENDIAN, transfer_syntax
from radlake.pixels.frames import Array, Layout, NotDecodable, encode_frames, layout_of, read_frames
from radlake.web.dicomweb.catalogue import Instance
from radlake.web.dicomweb.refusals import NotAcceptable

__all__ = ["DECODING", "UNDECODABLE", "decoded_frame", "explicit", "has_codec", "is_decodable", "is_frame_decodable"]

_MOST_BYTES = 256 << 20  # of one instance, decoded: it is held in memory
DECODING = BoundedSemaphore(2)  # each holds pixels several times
UNDECODABLE = "These pixels cannot be decoded here. Ask for them as they are stored: transfer-syntax=*."


def is_decodable(instance: Instance) -> bool:
    """Whether a codec reads its pixels, and they are not too many to be held."""
    if not has_codec(instance.syntax):
        return False
    if instance.pixel_offset is None or instance.is_native:
        return instance.n_bytes <= _MOST_BYTES
    decoded = instance.rows * instance.columns * instance.samples * instance.bits_allocated // 8 * instance.n_frames
    return decoded <= _MOST_BYTES


def has_codec(syntax: str) -> bool:
    """Whether pixels of a transfer syntax can be read here."""
    known = transfer_syntax(syntax)
    if known is None or known.is_big_endian or known.is_deflated:
        return False
    try:
        return not known.is_encapsulated or syntax == JPEGExtended12Bit or get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def is_frame_decodable(instance: Instance) -> bool:
    """Whether one frame of it is not too large to be held."""
    return instance.rows * instance.columns * instance.samples * instance.bits_allocated // 8 <= _MOST_BYTES


def explicit(content: bytes) -> bytes:
    """A Part-10 file with the same data set in Explicit VR Little Endian, pixels decoded; few at once.

    Raises
    ------
    NotAcceptable
    """
    with DECODING:
        return _explicit(content)


def _explicit(content: bytes) -> bytes:
    ds = dcmread(BytesIO(content))
    if "PixelData" in ds and ds.file_meta.TransferSyntaxUID.is_encapsulated:
        try:
            decoded, frames = read_frames(ds, layout_of(ds))
            native = replace(decoded, syntax=EXPLICIT_VR_LITTLE_ENDIAN)
            data = encode_frames(lambda: frames, native).data
        except NotDecodable as exc:
            raise NotAcceptable(UNDECODABLE) from exc
        ds.PhotometricInterpretation = decoded.photometric
        if decoded.samples > 1:
            ds.PlanarConfiguration = 0
        for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            if name in ds:
                delattr(ds, name)
        ds.add_new("PixelData", "OW" if decoded.bits_allocated > 8 else "OB", data)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = BytesIO()
    ds.save_as(out, implicit_vr=False, little_endian=True)
    return out.getvalue()


def decoded_frame(head: Dataset, frame: bytes, instance: Instance) -> tuple[Array, Layout]:
    """One frame as an array, from its stored bytes and the header.

    Raises
    ------
    NotAcceptable
    """
    head.NumberOfFrames = 1
    head.PixelData = frame if instance.is_native else encapsulate([frame])
    try:
        decoded, frames = read_frames(head, layout_of(head))
        return next(iter(frames)), decoded
    except NotDecodable as exc:
        raise NotAcceptable(UNDECODABLE) from exc
