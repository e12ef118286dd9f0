"""Frames as they are stored, and as which media type they are sent. One of native pixels is one range read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from radlake.dicom.uids import EXPLICIT_VR_LITTLE_ENDIAN, transfer_syntax
from radlake.web.dicomweb.catalogue import Instance
from radlake.web.dicomweb.encapsulated import encapsulated_frame
from radlake.web.dicomweb.media import Wish
from radlake.web.dicomweb.metadata import head_of
from radlake.web.dicomweb.pixels import Pixels
from radlake.web.dicomweb.refusals import BadRequest, NotAcceptable, NotFound
from radlake.web.dicomweb.transcode import decoded_frame, is_decodable

__all__ = ["OCTETS", "frame_type", "frames_of", "numbers_of", "sent_frames", "stored_frame"]

OCTETS = "application/octet-stream"
_TYPES = {  # PS3.18 Table 8.7.3-5
    JPEGBaseline8Bit: "image/jpeg",
    JPEGExtended12Bit: "image/jpeg",
    JPEGLossless: "image/jpeg",
    JPEGLosslessSV1: "image/jpeg",
    RLELossless: "image/dicom-rle",
    JPEGLSLossless: "image/jls",
    JPEGLSNearLossless: "image/jls",
    JPEG2000Lossless: "image/jp2",
    JPEG2000: "image/jp2",
    HTJ2KLossless: "image/jphc",
    HTJ2KLosslessRPCL: "image/jphc",
    HTJ2K: "image/jphc",
}


def numbers_of(text: str, instance: Instance) -> list[int]:
    """Frame numbers of a path, counted from 1.

    Raises
    ------
    BadRequest, NotFound
    """
    parts = text.split(",")
    if not all(part.isdecimal() and len(part) < 10 and int(part) > 0 for part in parts):
        raise BadRequest("Frames are numbers from 1, separated by commas.")
    numbers = list(dict.fromkeys(map(int, parts)))
    if instance.pixel_offset is None or max(numbers) > instance.n_frames:
        raise NotFound(f"This instance has {instance.n_frames if instance.pixel_offset else 0} frames.")
    return numbers


def frames_of(instance: Instance) -> range:
    """All frame numbers."""
    return range(1, instance.n_frames + 1 if instance.pixel_offset is not None else 1)


def frame_type(instance: Instance, wish: Wish) -> str | None:
    """Media type of frames as they would be sent, with their transfer syntax; None when the wish cannot be met."""
    if instance.is_native:
        is_met = wish.type in (OCTETS, "application/*", "*/*")
        is_stored = wish.syntax in ("", "*", EXPLICIT_VR_LITTLE_ENDIAN, instance.syntax)
        return f"{OCTETS};transfer-syntax={EXPLICIT_VR_LITTLE_ENDIAN}" if is_met and is_stored else None
    stored = _TYPES.get(instance.syntax, OCTETS)  # pyright: ignore[reportCallIssue, reportArgumentType]
    if wish.type in (stored, "image/*", "*/*") and wish.syntax in ("", "*", instance.syntax):
        return f"{stored};transfer-syntax={instance.syntax}"
    is_octets = wish.type in (OCTETS, "application/*")
    if is_octets and wish.syntax in ("*", instance.syntax):
        return f"{OCTETS};transfer-syntax={instance.syntax}"
    if is_octets and wish.syntax in ("", EXPLICIT_VR_LITTLE_ENDIAN) and is_decodable(instance):
        return f"{OCTETS};transfer-syntax={EXPLICIT_VR_LITTLE_ENDIAN}"
    return None


def sent_frames(pixels: Pixels, instance: Instance, numbers: Sequence[int], sent_as: str) -> Iterator[bytes]:
    """Frames of the type that `frame_type` told."""
    is_decoded = not instance.is_native and sent_as.endswith(f"={EXPLICIT_VR_LITTLE_ENDIAN}")
    head = head_of(pixels, instance) if is_decoded else None
    for number in numbers:
        frame = stored_frame(pixels, instance, number)
        yield frame if head is None else decoded_frame(head, frame, instance)[0].tobytes()


def stored_frame(pixels: Pixels, instance: Instance, number: int) -> bytes:
    """The bytes of one frame.

    Raises
    ------
    NotAcceptable
    """
    assert instance.pixel_offset is not None
    if not instance.is_native:
        return encapsulated_frame(pixels, instance, number)
    known = transfer_syntax(instance.syntax)
    samples = 2 if instance.photometric == "YBR_FULL_422" else instance.samples
    n_bits = instance.rows * instance.columns * samples * instance.bits_allocated
    if known is None or known.is_big_endian or known.is_deflated or n_bits % 8:
        raise NotAcceptable("Frames of this instance do not begin at a byte of their own. Ask for the whole instance.")
    start = instance.pixel_offset + (number - 1) * n_bits // 8
    return pixels.read(instance.path, instance.offset + start, n_bits // 8)
