"""The head of a stored Part-10 file, up to the value of Pixel Data: what recompression reads and changes of it.

Four things may change (PS3.5 8.2 and A.4, PS3.10 7.1): Transfer Syntax UID and with it the length of the file meta
information, Photometric Interpretation, Planar Configuration, and the header of Pixel Data. Every other byte is copied.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from radlake.dicom import values
from radlake.dicom.scan import Span, file_meta_spans, spans
from radlake.dicom.uids import EXPLICIT_VR_LITTLE_ENDIAN
from radlake.pixels.lossless import Codec, PixelFormat

__all__ = ["NATIVE", "Head"]

NATIVE = EXPLICIT_VR_LITTLE_ENDIAN

_META_LENGTH, _TRANSFER_SYNTAX = 0x00020000, 0x00020010
_PHOTOMETRIC, _PLANAR, _NUMBER_OF_FRAMES = 0x00280004, 0x00280006, 0x00280008
_EXTENDED_OFFSETS, _EXTENDED_LENGTHS, _PIXEL_DATA = 0x7FE00001, 0x7FE00002, 0x7FE00010
_MAY_CHANGE = {_META_LENGTH, _TRANSFER_SYNTAX, _PHOTOMETRIC, _PLANAR, _EXTENDED_OFFSETS, _EXTENDED_LENGTHS}
_META_LENGTH_END = 144  # of (0002,0000), behind preamble and prefix
_LONG = struct.Struct("<HH2s2xL")
_LONG_HEADER = 12
_UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True)
class Head:
    """A parsed head.

    Attributes
    ----------
    data : bytes
        From the first byte of the file to the last before the value of Pixel Data.
    value_bytes : int or None
        Length of Pixel Data; None when it is encapsulated.
    """

    data: bytes
    spans: Mapping[int, Span]
    form: PixelFormat
    n_frames: int
    value_bytes: int | None

    @classmethod
    def from_bytes(cls, data: bytes) -> Head:
        """Parse a head.

        Raises
        ------
        ValueError, struct.error
            If the bytes do not end with the header of Pixel Data, or a number is none.
        """
        meta = file_meta_spans(data)
        found = {span.tag: span for span in (*meta, *spans(data, meta[-1].end if meta else 0))}
        pixels = found.get(_PIXEL_DATA)
        if pixels is None or pixels.value != len(data) or pixels.vr not in (b"OB", b"OW"):
            raise ValueError("no Pixel Data where they should be")
        ds = Dataset({BaseTag(tag): _raw(data, span) for tag, span in found.items() if tag >> 16 == 0x0028})
        length = int.from_bytes(data[-4:], "little")
        return cls(
            data=data,
            spans=found,
            form=PixelFormat.from_dataset(ds),
            n_frames=max(values.number(ds, _NUMBER_OF_FRAMES) or 1, 1),
            value_bytes=None if length == _UNDEFINED else length,
        )

    def encapsulated(self, codec: Codec, *, offsets: bytes, lengths: bytes) -> bytes:
        """The head of the same instance with compressed pixels, up to the first byte of the basic offset table.

        Parameters
        ----------
        offsets, lengths : bytes
            Values of Extended Offset Table and its lengths (PS3.3 C.7.6.3.1.8, 9); empty when a basic one will do.
        """
        photometric = codec.photometric(self.form)
        edits = [self._edit(_TRANSFER_SYNTAX, codec.transfer_syntax_uid.encode("ascii"), pad=b"\0")]
        if photometric != self.form.photometric:
            edits.append(self._edit(_PHOTOMETRIC, photometric.encode("ascii"), pad=b" "))
        if self.form.samples > 1 and codec.is_by_plane(self.form) != self.form.is_by_plane:
            edits.append(self._edit(_PLANAR, struct.pack("<H", codec.is_by_plane(self.form))))
        parts, pos = [], 0
        for start, end, element in sorted(edits):
            parts += [self.data[pos:start], element]
            pos = end
        parts.append(self.data[pos:-_LONG_HEADER])
        for tag, value in ((_EXTENDED_OFFSETS, offsets), (_EXTENDED_LENGTHS, lengths)):
            if value:
                parts += [_LONG.pack(tag >> 16, tag & 0xFFFF, b"OV", len(value)), value]
        parts.append(_LONG.pack(0x7FE0, 0x0010, b"OB", _UNDEFINED))
        # The edit of Transfer Syntax UID is the only one within the file meta information.
        start, end, element = edits[0]
        old = struct.unpack("<L", self.data[_META_LENGTH_END - 4 : _META_LENGTH_END])[0]
        length = struct.pack("<L", old + len(element) - (end - start))
        whole = b"".join(parts)
        return whole[: _META_LENGTH_END - 4] + length + whole[_META_LENGTH_END:]

    def unchanged(self) -> bytes:
        """The bytes that recompression leaves alone: all but the elements that it may change."""
        parts, pos = [], 0
        for span in sorted(self.spans[tag] for tag in _MAY_CHANGE if tag in self.spans):
            parts.append(self.data[pos : span.start])
            pos = span.end
        return b"".join((*parts, self.data[pos:-_LONG_HEADER]))

    def extended_offsets(self) -> tuple[bytes, bytes] | None:
        """Extended Offset Table and its lengths, when there are any."""
        if _EXTENDED_OFFSETS not in self.spans:
            return None
        return self._value(_EXTENDED_OFFSETS), self._value(_EXTENDED_LENGTHS)

    @property
    def transfer_syntax_uid(self) -> str:
        return self._value(_TRANSFER_SYNTAX).decode("ascii").rstrip("\0")

    def _value(self, tag: int) -> bytes:
        return self.data[self.spans[tag].value : self.spans[tag].end]

    def _edit(self, tag: int, value: bytes, *, pad: bytes = b"") -> tuple[int, int, bytes]:
        """Where an element with a short header lies, and its bytes with another value."""
        span = self.spans[tag]
        value += pad * (len(value) % 2)
        return span.start, span.end, self.data[span.start : span.start + 6] + struct.pack("<H", len(value)) + value


def _raw(data: bytes, span: Span) -> RawDataElement:
    value = data[span.value : span.end]
    return RawDataElement(BaseTag(span.tag), span.vr.decode("ascii"), len(value), value, span.value, False, True)
