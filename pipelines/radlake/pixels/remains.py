"""What stands in Pixel Data beside the pixels: comments of a codec, what follows its end, what follows the last frame.

No look at a picture sees it. Lengths stay as they are and the bytes become zero (in RLE a run of nothing), so that
offset tables stay right and every decoder gives the same pixels; only native pixels lose what follows them.
"""

from __future__ import annotations

import mmap
import re
import zlib
from collections.abc import Iterable, Iterator
from tempfile import TemporaryFile
from typing import TypeAlias

from pydicom import Dataset

from radlake.dicom.uids import transfer_syntax
from radlake.dicom.values import first_text, number

__all__ = ["PIXEL_DATA", "PIXEL_TAGS", "blanked_fragments", "without_remains"]

PIXEL_DATA = 0x7FE00010
PIXEL_TAGS = (PIXEL_DATA, 0x7FE00008, 0x7FE00009)  # Pixel Data, Float and Double Float Pixel Data

_Bytes: TypeAlias = bytes | memoryview
_Range: TypeAlias = tuple[int, int]  # first byte, and first byte behind

_TRANSFER_SYNTAX, _FRAMES = 0x00020010, 0x00280008
_ROWS, _COLUMNS, _SAMPLES, _PHOTOMETRIC, _ALLOCATED = 0x00280010, 0x00280011, 0x00280002, 0x00280004, 0x00280100
_RLE, _DEFLATED, _UNCOMPRESSED = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.8.1", "1.2.840.10008.1.2.1.98"
_RLE_NOTHING = 128  # PS3.5 G.3.1
_IN_MEMORY = 64 << 20  # of larger pixel data the copy lies in a nameless file
_COPIED = 8 << 20
_HARMLESS = re.compile(  # what encoders write of themselves
    rb"(?:Kakadu-v?[\d.]{1,8}|Created by OpenJPEG version [\d.]{1,8}|LEAD Technologies Inc\. V\d\.\d\d"
    rb"|Aware ?JPEG ?2000|CREATOR: gd-jpeg v\d\.\d \(using IJG JPEG v\d\d\), quality = \d{1,3}"
    rb"|OpenJPH Ver [\d.]{1,8}\.|[\0\xff ]*)[\0\n ]*"
)

_JPEG, _J2K, _JP2, _JXL = b"\xff\xd8", b"\xff\x4f", b"\0\0\0\x0cjP  ", b"\0\0\0\x0cJXL "
_LONGEST_SIGNATURE = 12
_FAMILIES = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.(?:[5-9]\d|11[0-2]|20[1-3])$")  # JPEG, JPEG-LS, 2000, XL, HTJ2K
_SIGNATURES = (_JPEG, _J2K, _JP2, _JXL, b"\xff\x0a")
# Behind FF within a scan: 00 and 01 to 7F are stuffed, D0 to D7 are restarts (T.81 B.1.1.5, T.87 A.1).
_MARKER = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
_SOS, _EOI, _SOT, _SOD = 0xDA, 0xD9, 0x90, 0x93
_ALONE = frozenset([0x01, *range(0xD0, 0xD9)])
_TABLES = frozenset([*range(0xC0, 0xD0), *range(0xDA, 0xE0), 0xF7, 0xF8]) - {0xC8}
# How much of an application segment is numbers: of JFIF, of SPIFF and its end, of Adobe's and HP's colour transforms.
_READ_OF_SEGMENT = {b"JFIF\0": 14, b"SPIFF\0": 30, b"\0\0\0\1": 6, b"Adobe": 12, b"mrfx": 5}
_J2K_COMMENT = 0x64
_BOXES = frozenset([b"jP  ", b"ftyp", b"JXL ", b"jxlc", b"jxlp", b"jxll"])
_HEADER_BOXES = frozenset([b"ihdr", b"bpcc", b"pclr", b"cmap", b"cdef", b"res "])
_ENUMERATED_COLOUR = 1


def without_remains(ds: Dataset) -> _Bytes | None:
    """The value of Pixel Data with nothing but pixels in it; None when it is so already, or there is none."""
    tag = next((tag for tag in PIXEL_TAGS if tag in ds), None)
    elem = ds.get_item(tag) if tag else None
    data = elem.value if elem is not None else None
    if not isinstance(data, (bytes, memoryview)):
        return None
    syntax = transfer_syntax(first_text(getattr(ds, "file_meta", Dataset()), _TRANSFER_SYNTAX))
    if syntax is not None and syntax.is_encapsulated:
        return blanked_fragments(data, ds)
    length = max((n for n in _native_lengths(ds) if n <= len(data)), default=0)
    excess = len(data) - length
    if not length or excess <= length % 2 or excess % _frame_bytes(ds) == 0:  # frames more than the header counts
        return None
    if _FRAMES in ds and not _whole(ds, _FRAMES):
        length += excess - excess % _frame_bytes(ds)  # nobody knows how many
    return data[: length + length % 2]


def blanked_fragments(data: _Bytes, ds: Dataset) -> _Bytes | None:
    """Encapsulated Pixel Data (PS3.5 A.4) of a header; None when nothing had to become zero."""
    syntax = first_text(ds.file_meta, _TRANSFER_SYNTAX)
    blanks = [one for one in _remains(data, ds, syntax) if not _HARMLESS.fullmatch(data[slice(*one)])]
    return _blanked(data, blanks, is_rle=syntax == _RLE) if blanks else None


def _native_lengths(ds: Dataset) -> list[int]:
    """Bytes that all frames can have; 0 when the header does not tell."""
    samples = [_whole(ds, _SAMPLES) or 1]
    if first_text(ds, _PHOTOMETRIC) in ("YBR_FULL_422", "YBR_PARTIAL_422"):
        samples.append(2)  # two chrominance samples for two pixels (PS3.3 C.7.6.3.1.2)
    frames = _whole(ds, _FRAMES) or 1
    return [(_frame_bits(ds, n) * frames + 7) // 8 for n in samples]


def _frame_bits(ds: Dataset, n_samples: int) -> int:
    return _whole(ds, _ROWS) * _whole(ds, _COLUMNS) * n_samples * _whole(ds, _ALLOCATED)


def _frame_bytes(ds: Dataset) -> int:
    return (_frame_bits(ds, _whole(ds, _SAMPLES) or 1) + 7) // 8


def _whole(ds: Dataset, tag: int) -> int:
    try:
        return number(ds, tag) or 0
    except ValueError:
        return 0


def _remains(data: _Bytes, ds: Dataset, syntax: str) -> Iterator[_Range]:
    """Ranges of the data that hold no pixels."""
    table, *fragments = _fragments(data)
    starts = {start - table[1] - 8 for start, _ in fragments}
    offsets = [int.from_bytes(data[at : at + 4], "little") for at in range(*table, 4)]
    if not starts.issuperset(offsets):
        yield table
    n_frames, n_read = _whole(ds, _FRAMES) or 1, 0
    for frame in _frames(data, fragments, n_frames, frozenset(offsets), table[1] + 8):
        if len(frame) == 1:
            ((begin, end),) = frame
            stream = data[begin:end]
            yield from ((begin + one, begin + other) for one, other in _beside_image(stream, ds, syntax))
        else:
            stream = b"".join(data[begin:end] for begin, end in frame)
            for blank in _beside_image(stream, ds, syntax):
                yield from _in_fragments(blank, frame)
        if frame[-1][1] - n_read > _COPIED:
            n_read = frame[-1][1]
            _forget(data)


def _fragments(data: _Bytes) -> list[_Range]:
    """The value of each item; the first is the basic offset table."""
    found, pos = [], 0
    while pos + 8 <= len(data):
        end = pos + 8 + int.from_bytes(data[pos + 4 : pos + 8], "little")
        found.append((pos + 8, end))
        pos = end
    return found or [(0, 0)]


def _frames(
    data: _Bytes, fragments: list[_Range], n_frames: int, offsets: frozenset[int], first: int
) -> Iterator[list[_Range]]:
    """The fragments of each frame: one, or as the offset table says, or from one beginning of an image to the next."""
    if len(fragments) == n_frames:
        yield from ([one] for one in fragments)
        return
    frame: list[_Range] = []
    for start, end in fragments:
        is_first = start - first in offsets if offsets else bytes(data[start : start + 8]).startswith(_SIGNATURES)
        if frame and is_first and n_frames > 1:
            yield frame
            frame = []
        frame.append((start, end))
    if frame:
        yield frame


def _in_fragments(blank: _Range, frame: list[_Range]) -> Iterator[_Range]:
    """Where a range of a frame lies in its fragments."""
    at = 0
    for start, end in frame:
        begin, stop = max(blank[0] - at, 0), min(blank[1] - at, end - start)
        if begin < stop:
            yield start + begin, start + stop
        at += end - start


def _beside_image(stream: _Bytes, ds: Dataset, syntax: str) -> Iterable[_Range]:
    """Ranges of one compressed image that are none of it."""
    if syntax == _RLE:
        return _beside_rle(stream, _frame_bytes(ds))
    if syntax == _UNCOMPRESSED:
        return [(_frame_bytes(ds), len(stream))]
    if syntax == _DEFLATED:
        return _behind_deflated(stream)
    start = bytes(stream[:_LONGEST_SIGNATURE])
    if start.startswith(_JPEG):
        return _beside_jpeg(stream)
    if start.startswith(_J2K):
        return _beside_codestream(stream, 0, len(stream))
    if start.startswith((_JP2, _JXL)):
        return _beside_boxes(stream)
    is_image = start.startswith(_SIGNATURES) or not _FAMILIES.match(syntax)
    return [] if is_image else [(0, len(stream))]


def _beside_jpeg(stream: _Bytes) -> Iterator[_Range]:
    """JPEG and JPEG-LS: comments, application segments, what is between segments and behind the end."""
    pos, n_bytes = 2, len(stream)
    while pos + 4 <= n_bytes:
        if stream[pos] != 0xFF:
            found = _MARKER.search(stream, pos)
            yield pos, found.start() if found else n_bytes
            pos = found.start() if found else n_bytes
            continue
        marker = stream[pos + 1]
        if marker == _EOI:
            break
        if marker in _ALONE or marker == 0xFF:
            pos += 1 if marker == 0xFF else 2
            continue
        start, end = pos + 4, pos + 2 + max(int.from_bytes(stream[pos + 2 : pos + 4], "big"), 2)
        if marker not in _TABLES:
            body = bytes(stream[start : start + 8])
            read = next((n for sign, n in _READ_OF_SEGMENT.items() if body.startswith(sign)), 0)
            yield min(start + read, end), min(end, n_bytes)
        pos = end
        if marker == _SOS:
            found = _MARKER.search(stream, pos)
            pos = found.start() if found else n_bytes
    yield pos + 2, n_bytes


def _beside_codestream(stream: _Bytes, pos: int, n_bytes: int) -> Iterator[_Range]:
    """JPEG 2000 and HTJ2K (T.800 A): comments of the main header and of tile-parts, and what is behind the end."""
    pos += 2
    tile_end = 0
    while pos + 4 <= n_bytes and stream[pos] == 0xFF:
        marker = stream[pos + 1]
        if marker == _EOI:
            break
        if marker == _SOD:
            if tile_end <= pos:  # as long as the codestream
                found = bytes(stream[pos:n_bytes]).rfind(b"\xff\xd9")
                tile_end = pos + found if found >= 0 else n_bytes
            pos = tile_end
            continue
        length = int.from_bytes(stream[pos + 2 : pos + 4], "big")
        if marker == _SOT:
            tile_bytes = int.from_bytes(stream[pos + 6 : pos + 10], "big")
            tile_end = pos + tile_bytes if tile_bytes else 0
        elif marker == _J2K_COMMENT:
            yield pos + 6, min(pos + 2 + length, n_bytes)
        pos += 2 + max(length, 2)
    yield pos + 2, n_bytes


def _beside_boxes(stream: _Bytes) -> Iterator[_Range]:
    """JP2 (T.800 I) and JPEG XL (18181-2): boxes that no decoder needs for the pixels."""
    for kind, start, end in _boxes(stream, 0, len(stream)):
        if kind == b"jp2c":
            yield from _beside_codestream(stream, start, end)
        elif kind == b"jp2h":
            for inner, begin, stop in _boxes(stream, start, end):
                if inner == b"colr" and stream[begin] != _ENUMERATED_COLOUR:
                    yield begin + 3, stop
                elif inner not in _HEADER_BOXES and inner != b"colr":
                    yield begin, stop
        elif kind not in _BOXES:
            yield start, end


def _boxes(stream: _Bytes, pos: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, begin and end of the content of each box."""
    while pos + 8 <= end:
        length, kind, start = int.from_bytes(stream[pos : pos + 4], "big"), bytes(stream[pos + 4 : pos + 8]), pos + 8
        if length == 1:
            length, start = int.from_bytes(stream[start : start + 8], "big"), start + 8
        stop = min(pos + length, end) if length else end
        yield kind, start, max(stop, start)
        pos = max(stop, start)
    if pos < end:
        yield b"", pos, end


def _beside_rle(stream: _Bytes, n_bytes: int) -> Iterator[_Range]:
    """RLE (PS3.5 G): what is behind the bytes that each segment has to give."""
    n_segments = int.from_bytes(stream[:4], "little")
    if not 0 < n_segments <= 15 or n_bytes % n_segments:
        return
    starts = [int.from_bytes(stream[at : at + 4], "little") for at in range(4, 4 + 4 * n_segments, 4)]
    for start, end in zip(starts, [*starts[1:], len(stream)], strict=True):
        yield start + _end_of_runs(bytes(stream[start:end]), n_bytes // n_segments), end


def _end_of_runs(segment: bytes, n_bytes: int) -> int:
    """How many bytes of a segment decode to so many."""
    pos = decoded = 0
    while pos < len(segment) and decoded < n_bytes:
        control = segment[pos]
        if control < 128:
            pos += control + 2
            decoded += control + 1
        else:
            pos += 2 if control > 128 else 1
            decoded += 257 - control if control > 128 else 0
    return min(pos, len(segment))


def _behind_deflated(stream: _Bytes) -> Iterator[_Range]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        rest: _Bytes = stream
        while rest and not inflater.eof:
            inflater.decompress(rest, _COPIED)
            rest = inflater.unconsumed_tail
    except zlib.error:
        return
    yield len(stream) - len(inflater.unused_data), len(stream)


def _blanked(data: _Bytes, blanks: list[_Range], *, is_rle: bool) -> _Bytes:
    """The data with nothing in these ranges."""
    nothing = bytes([_RLE_NOTHING]) if is_rle else b"\0"
    if len(data) <= _IN_MEMORY:
        out = bytearray(data)
        for start, end in blanks:
            out[start:end] = nothing * (end - start)
        return bytes(out)
    with TemporaryFile() as file:
        for start in range(0, len(data), _COPIED):
            file.write(data[start : start + _COPIED])
            _forget(data)
        for start, end in blanks:
            file.seek(start)
            file.write(nothing * (end - start))
        file.flush()
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _forget(data: _Bytes) -> None:
    """Let what was read of a mapped file go; it is read again when it is needed."""
    if isinstance(data, memoryview) and isinstance(data.obj, mmap.mmap):
        data.obj.madvise(mmap.MADV_DONTNEED)
