"""Values that are no text: numbers, tables, colour profiles. A text can hide in them as well as in any other.

Numbers must be as many as the attribute may have (PS3.6). Of a colour profile only what computes colours stays.
Pixel data and samples of waveforms are judged elsewhere and never looked at here.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from pydicom.datadict import dictionary_VM

from radlake.deidentify.wrapped import hides_text

__all__ = ["fits", "without_text"]

_ICC_PROFILE = 0x00282000
_BYTES = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "UV": 8, "SV": 8, "FL": 4, "FD": 8, "AT": 4}
_SHORTEST_TEXT = 16  # bytes; numbers as long are hardly ever printable by chance
_SHORTEST_HIDDEN = 10  # bytes; see `wrapped`
_PRINTABLE = bytes(set(range(0x20, 0x100)) - {0x7F})
_ICC_HEADER = 128
# Types of tags that compute colours (ICC.1 10), all others are text, dates, device names and private data.
_ICC_COLOURS = frozenset(
    [b"XYZ ", b"curv", b"para", b"sf32", b"mft1", b"mft2", b"mAB ", b"mBA ", b"chrm", b"view", b"meas", b"sig "]
)


_ICC_CLASSES = frozenset([b"scnr", b"mntr", b"prtr", b"link", b"spac", b"abst", b"nmcl"])
_ICC_SPACES = frozenset([b"XYZ ", b"Lab ", b"Luv ", b"YCbr", b"Yxy ", b"RGB ", b"GRAY", b"HSV ", b"HLS ", b"CMYK"])
_ICC_TAGS = frozenset(
    b"A2B0 A2B1 A2B2 B2A0 B2A1 B2A2 B2D0 B2D1 B2D2 D2B0 D2B1 D2B2 bkpt bTRC bXYZ chad chrm cprt desc dmdd dmnd gamt "
    b"gTRC gXYZ kTRC lumi meas pre0 pre1 pre2 rTRC rXYZ tech vued view wtpt".split()
)
_D50 = bytes.fromhex("0000f6d6000100000000d32d")


def fits(tag: int, vr: str, value: bytes) -> bool:
    """Whether numbers are whole, not more than the attribute may have, and no text.

    >>> fits(0x00280010, "US", bytes(2)), fits(0x00280010, "US", b"ZY12736053"), fits(0x00280010, "US", b"")
    (True, False, True)
    """
    if (len(value) >= _SHORTEST_TEXT and _is_text(value)) or (len(value) >= _SHORTEST_HIDDEN and hides_text(value)):
        return False
    size = _BYTES.get(vr.split(" ")[0])
    if size is None or " or OW" in vr:
        return True
    count, rest = divmod(len(value), size)
    most = _most(tag)
    return rest == 0 and (most is None or count <= most)


def _is_text(value: bytes) -> bool:
    text = value.strip(b" \0")
    if not text or text.translate(None, _PRINTABLE):
        return False
    try:
        return text.isascii() or bool(text.decode("utf-8"))
    except UnicodeDecodeError:
        return False


@lru_cache(maxsize=4096)
def _most(tag: int) -> int | None:
    """The most values that an attribute may have; None when there is no limit or nobody knows."""
    try:
        most = dictionary_VM(tag).split("-")[-1]
    except KeyError:
        return None
    return int(most) if most.isdigit() else None


def without_text(tag: int, value: bytes) -> bytes | None:
    """The same bytes; of an ICC profile the same colours without texts; None when that cannot be done."""
    return _colours_of(value) if tag == _ICC_PROFILE and value else value


@lru_cache(maxsize=64)
def _colours_of(profile: bytes) -> bytes | None:
    """An ICC profile (ICC.1:2022) in which texts, dates, device names, gaps and whatever follows are zero.

    A profile of one device at one calibration is a fingerprint; the profiles that carry a text are mostly that.
    """
    if len(profile) < _ICC_HEADER + 4 or profile[36:40] != b"acsp":
        return None
    if profile[12:16] not in _ICC_CLASSES or not {profile[16:20], profile[20:24]} <= _ICC_SPACES:
        return None
    (size,) = struct.unpack_from(">I", profile)
    (n_tags,) = struct.unpack_from(">I", profile, _ICC_HEADER)
    table_end = _ICC_HEADER + 4 + 12 * n_tags
    if not table_end <= size <= len(profile):
        return None
    out = bytearray(len(profile))
    # Size, version, class and colour spaces, intent, the one illuminant. Not who made it when, for which device.
    out[:4], out[8:10], out[12:24], out[36:40] = profile[:4], profile[8:10], profile[12:24], b"acsp"
    out[67], out[68:80] = profile[67] & 3, _D50
    out[_ICC_HEADER:table_end] = profile[_ICC_HEADER:table_end]
    for n in range(n_tags):
        signature, start, length = struct.unpack_from(">4sII", profile, _ICC_HEADER + 4 + 12 * n)
        if start < table_end or start + length > size or length < 8:
            return None
        if signature not in _ICC_TAGS:
            out[_ICC_HEADER + 4 + 12 * n : _ICC_HEADER + 8 + 12 * n] = bytes(4)
            continue
        kind = profile[start : start + 4]
        if kind in _ICC_COLOURS:
            out[start : start + length] = profile[start : start + length]
        else:
            blank = _BLANK.get(kind, kind + bytes(4))
            out[start : start + min(length, len(blank))] = blank[:length]
    return bytes(out)


# Empty values of the types of text: a reader finds an empty text instead of a broken one.
_BLANK = {
    b"desc": b"desc" + bytes(4) + struct.pack(">I", 1) + bytes(1),
    b"mluc": b"mluc" + bytes(4) + struct.pack(">II", 0, 12),
}
