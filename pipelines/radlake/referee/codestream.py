"""Places in compressed pixels where text can hide: comment and application segments, boxes, and what follows the end.

JPEG and JPEG-LS (ITU-T T.81 B.1, T.87 C), JPEG 2000 and HTJ2K (T.800 A, T.801). Entropy-coded bytes are skipped: a name
in them would be pixels, which the pixel rules judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["text_segments"]

# Within the scan FF00 is a stuffed byte (JPEG), FF00-FF7F one with a stuffed bit (JPEG-LS), FFD0-FFD7 a restart.
_NEXT_MARKER = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
_JPEG, _J2K, _BOXES = b"\xff\xd8", b"\xff\x4f", b"\0\0\0\x0cjP  "
_SOS, _EOI, _SOT, _EOC = 0xDA, 0xD9, 0x90, 0xD9
_WITHOUT_LENGTH = frozenset([0x01, 0xD8, *range(0xD0, 0xD8)])
_TABLES = frozenset([0xC4, 0xDB, 0xDD, 0xC0, 0xC1, 0xC2, 0xC3, 0xF7, 0xF8])
_J2K_TABLES = frozenset([0x51, 0x52, 0x53, 0x5C, 0x5D, 0x5E, 0x5F, 0x50, 0x55, 0x57, 0x58, 0x60, 0x61, 0x63])


def text_segments(frame: bytes) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every segment that is no image data; a frame of an unknown codec is given whole."""
    if frame.startswith(_BOXES):
        yield from _boxes(frame)
    elif frame.startswith(_J2K):
        yield from _codestream(frame)
    elif frame.startswith(_JPEG):
        yield from _jpeg(frame)
    else:
        yield "frame", frame


def _jpeg(frame: bytes) -> Iterator[tuple[str, bytes]]:
    position = 2
    while position + 4 <= len(frame):
        if frame[position] != 0xFF:
            found = _NEXT_MARKER.search(frame, position)
            if found is None:
                yield "unknown bytes", frame[position:]
                return
            yield "unknown bytes", frame[position : found.start()]
            position = found.start()
        marker = frame[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == _EOI:
            break
        if marker in _WITHOUT_LENGTH:
            position += 2
            continue
        length = int.from_bytes(frame[position + 2 : position + 4], "big")
        if marker not in _TABLES and marker != _SOS:
            yield f"segment FF{marker:02X}", frame[position + 4 : position + 2 + length]
        position += 2 + max(length, 2)
        if marker == _SOS:
            found = _NEXT_MARKER.search(frame, position)
            if found is None:
                return
            position = found.start()
    yield "behind the end", frame[position + 2 :]


def _codestream(frame: bytes) -> Iterator[tuple[str, bytes]]:
    position = 2
    while position + 4 <= len(frame):
        marker = frame[position + 1]
        if frame[position] != 0xFF:
            yield "unknown bytes", frame[position:]
            return
        if marker == _EOC:
            break
        length = int.from_bytes(frame[position + 2 : position + 4], "big")
        body = frame[position + 4 : position + 2 + length]
        if marker == _SOT and len(body) >= 8:
            tile_bytes = int.from_bytes(body[2:6], "big")
            yield from _tile_header(frame, position + 2 + length)
            end = frame.rfind(b"\xff\xd9") if tile_bytes == 0 else position + tile_bytes
            position = max(end, position + 12)
            continue
        if marker not in _J2K_TABLES:
            yield f"segment FF{marker:02X}", body
        position += 2 + max(length, 2)
    yield "behind the end", frame[position + 2 :]


def _tile_header(frame: bytes, position: int) -> Iterator[tuple[str, bytes]]:
    """Comments between SOT and SOD of a tile-part."""
    while position + 4 <= len(frame) and frame[position] == 0xFF and frame[position + 1] != 0x93:
        length = int.from_bytes(frame[position + 2 : position + 4], "big")
        if frame[position + 1] not in _J2K_TABLES:
            yield f"segment FF{frame[position + 1]:02X}", frame[position + 4 : position + 2 + length]
        position += 2 + max(length, 2)


def _boxes(frame: bytes) -> Iterator[tuple[str, bytes]]:
    position = 0
    while position + 8 <= len(frame):
        length = int.from_bytes(frame[position : position + 4], "big")
        kind = frame[position + 4 : position + 8]
        start = position + 8
        if length == 1:
            length = int.from_bytes(frame[start : start + 8], "big")
            start += 8
        end = len(frame) if length == 0 else min(position + max(length, 8), len(frame))
        if kind == b"jp2c":
            yield from _codestream(frame[start:end])
        else:
            yield f"box {kind.decode('ascii', 'replace')}", frame[start:end]
        position = end
