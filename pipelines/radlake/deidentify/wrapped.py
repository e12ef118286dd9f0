"""Text in disguise: Base64, hexadecimal, and the escapes of URLs, XML and JSON.

Software that must pass a name through ASCII writes it so. What can be read after unwrapping has no business in a
technical value.
"""

from __future__ import annotations

import binascii
import html
import re
from collections.abc import Iterator
from urllib.parse import unquote

__all__ = ["hides_text", "unescaped"]

# An escape of JSON in an attribute of several values has lost its backslash, which separates them; then Chinese only.
_JSON = re.compile(r"(?:\\u(?=[0-9A-Fa-f]{4})|\Au(?=[4-9][0-9A-Fa-f]{3}(?![0-9A-Za-z])))([0-9A-Fa-f]{4})")
_ESCAPED = re.compile(rf"%[0-9A-Fa-f]{{2}}|&#|{_JSON.pattern}")
_HEX = re.compile(rb"(?:[0-9A-Fa-f]{2}){5,}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{8,}={0,2}|[A-Za-z0-9+/]{7}=")
# What of six bytes by chance is hardly ever: words, numbers and the marks of names; two characters of everyday Chinese.
_READABLE = re.compile(rb"(?:[A-Za-z0-9 ^.,:=_-]|(?<=[A-Z])'(?=[A-Z][a-z])){6,}|(?=.{5})[A-Za-z]+\^[A-Za-z]+")
_GB2312 = re.compile(rb"(?:[\xb0-\xf7][\xa1-\xfe]){2,}")
_WORDS = re.compile(r"[\w ^.,:=·•‧・∙-]{2,}")
_SHORTEST = 6  # bytes


def unescaped(text: str) -> str:
    """The text without the escapes of URLs, XML and JSON; what is no UTF-8 becomes other letters than ASCII.

    >>> unescaped("Wang%5EXiulan"), unescaped("95% CO2"), unescaped("&#29579;"), unescaped("u738b")
    ('Wang^Xiulan', '95% CO2', '王', '王')
    """
    if not _ESCAPED.search(text):
        return text
    text = _JSON.sub(lambda found: chr(int(found[1], 16)), html.unescape(text))
    return unquote(text)


def hides_text(value: bytes) -> bool:
    """Whether something readable is hidden in a value as Base64 or hexadecimal.

    >>> hides_text(b"V2FuZ15YaXVsYW4="), hides_text(b"57616e675e5869756c616e"), hides_text(b"4c695e4e61")
    (True, True, True)
    >>> hides_text(b"ORIGINAL"), hides_text(b"0a1b2c3d4e5f")
    (False, False)
    """
    return any(map(_is_readable, _unwrapped(value)))


def _unwrapped(value: bytes) -> Iterator[bytes]:
    for run in _HEX.findall(value):
        if not run.isdigit():
            yield bytes.fromhex(run.decode())
    for run in _BASE64.findall(value):
        if run.isdigit():
            continue
        for start in range(4):  # another letter may stand before it
            body = run.rstrip(b"=")[start:]
            yield binascii.a2b_base64(body[: len(body) - (len(body) % 4 == 1)] + b"==")


def _is_readable(data: bytes) -> bool:
    data = data.rstrip(b"\0 \r\n")
    if _READABLE.fullmatch(data) or _GB2312.fullmatch(data):
        return True
    try:
        return len(data) >= _SHORTEST and _WORDS.fullmatch(data.decode()) is not None
    except UnicodeDecodeError:
        return False
