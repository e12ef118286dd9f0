"""Read text the way an attacker would: every plausible decoding of the same bytes, not the one that is declared.

Chinese consoles write GBK under ISO_IR 100, under no label or under ISO_IR 192. The referee therefore takes each
reading that is possible; a reading that is nonsense finds nothing and costs nothing.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["ESCAPES", "readings"]

ESCAPES = re.compile(rb"\x1b[\x20-\x2f]+[\x30-\x7e]")
_SHORT = 256  # bytes; longer values do not come twice
# Specific Character Set (PS3.3 C.12.1.1.2) to Python's codec, single byte and multi byte without code extensions.
_CODECS = {
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 203": "iso8859_15",
    "ISO_IR 13": "shift_jis",
    "ISO_IR 166": "iso8859_11",
}


def readings(value: bytes, charset: str = "") -> list[str]:
    """Every way in which the bytes can be read as text, the likeliest first, without repetitions.

    >>> readings("王秀兰".encode("gb18030"), "ISO_IR 100")[0]
    '王秀兰'
    >>> readings(b"Wang^Xiulan")
    ['Wang^Xiulan']
    """
    return _short_readings(value, charset) if len(value) <= _SHORT else _readings(value, charset)


def _readings(value: bytes, charset: str) -> list[str]:
    value = value.split(b"\0", 1)[0] if not _looks_wide(value) else value
    found: list[str] = []
    for codec in _codecs_of(value, charset):
        source = value if codec.startswith(("iso2022", "utf-16")) else ESCAPES.sub(b"", value)
        try:
            text = source.decode(codec).strip(" \0")
        except (UnicodeDecodeError, LookupError):
            continue
        if text and text not in found:
            found.append(text)
    return found


@lru_cache(maxsize=16384)
def _short_readings(value: bytes, charset: str) -> list[str]:
    return _readings(value, charset)


def _codecs_of(value: bytes, charset: str) -> list[str]:
    if _looks_wide(value):
        return ["utf-16-le", "utf-16-be"]
    if value.isascii() and b"\x1b" not in value:
        return ["ascii"]
    codecs = ["utf-8", "gb18030"]
    if b"\x1b$)C" in value:
        codecs.insert(0, "euc_kr")
    if b"\x1b$B" in value or b"\x1b(J" in value or b"\x1b(I" in value:
        codecs.insert(0, "iso2022_jp_2")
    for term in charset.split("\\"):
        codec = _CODECS.get(term.strip().replace("ISO 2022 IR", "ISO_IR"))
        if codec:
            codecs.append(codec)
    return [*codecs, "big5", "latin_1"]


def _looks_wide(value: bytes) -> bool:
    """Whether every second byte is NUL: ASCII in UTF-16."""
    return len(value) >= 8 and (not any(value[1::2]) or not any(value[:-1:2]))
