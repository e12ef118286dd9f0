"""One identifier in every form and every encoding in which it could be written.

Everything is searched folded: bytes in lower case, marks, spaces and NUL taken out of needle and haystack alike. This
is safe in every multi-byte encoding, because both sides lose the same bytes; it also makes UTF-16 of ASCII plain, and
WANG XIU-LAN and Wang^Xiulan one.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from radlake.referee.identifiers import Identifier, fold_text, nobody
from radlake.referee.reading import ESCAPES

__all__ = ["Needle", "fold", "needles_of", "typed_needles_of"]

_MARKS = b" \t\r\n\f\0^=,._-/()[]{}:;'\""
_SEPARATORS = rb"[ \t\r\n\f\0^=,._\-/()\[\]{}:;'\"]*"
_LONG_LATIN = 9  # letters; shorter ones count as words of their own only
_MIN_BYTES = 6  # of a needle in another encoding than ASCII, except the shortest names
_MULTIBYTE = ("utf-8", "gb18030", "big5", "euc_kr", "shift_jis", "euc_jp", "utf-16-le", "utf-16-be")
_COMPOUND = (
    "欧阳",
    "司马",
    "上官",
    "诸葛",
    "东方",
    "皇甫",
    "尉迟",
    "公孙",
    "慕容",
    "令狐",
    "司徒",
    "夏侯",
    "端木",
    "宇文",
)
_MAX_READINGS = 8


@dataclass(frozen=True, slots=True)
class Needle:
    """Folded bytes to look for, and how to make sure.

    Attributes
    ----------
    sure : compiled pattern or None
        What the bytes as they stand must match; None when the folded match is enough.
    whole : bytes
        What a number must equal as a whole where numbers stand (DS, IS); empty when it is no number.
    """

    folded: bytes
    kind: str
    encoding: str
    sure: re.Pattern[bytes] | None = None
    whole: bytes = b""

    @property
    def is_part(self) -> bool:
        """Whether it is one word of a name, which other persons have too."""
        return self.encoding.startswith("part")

    def __repr__(self) -> str:
        return f"Needle({self.kind}, {self.encoding})"


def fold(data: bytes) -> bytes:
    """Lower case, without marks, NUL and ISO 2022 escapes."""
    if b"\x1b" in data:
        data = ESCAPES.sub(b"", data)
    return data.lower().translate(None, _MARKS)


@lru_cache(maxsize=32768)
def needles_of(identifier: Identifier) -> tuple[Needle, ...]:
    """Every form in every encoding."""
    kind = identifier.kind
    needles: dict[tuple[bytes, bool], Needle] = {}
    for form, encoding in _forms(identifier):
        for needle in _uid_needle(form) if kind == "uid" else _encoded(form, kind, encoding):
            needles.setdefault((needle.folded, needle.sure is None), needle)
    return tuple(needles.values())


@lru_cache(maxsize=32768)
def typed_needles_of(identifier: Identifier) -> tuple[Needle, ...]:
    """Only as somebody types it today, in UTF-8: a fiftieth of all forms, for identifiers of very many persons."""
    texts = [text for text, form in _forms(identifier) if form in ("", "reversed")]
    encoded = [_encoded(text, identifier.kind, "typed") if text.isascii() else _typed(text, identifier.kind)
               for text in texts]  # fmt: skip
    return tuple({needle.folded: needle for needles in encoded for needle in needles}.values())


def _typed(text: str, kind: str) -> Iterator[Needle]:
    yield Needle(fold(text.encode("utf-8", "replace")), kind, "typed")


def _forms(identifier: Identifier) -> Iterator[tuple[str, str]]:
    """(text, how it came about)."""
    kind, text = identifier.kind, identifier.text
    if kind == "name":
        yield from _name_forms(text)
    elif kind == "date":
        year, month, day = text[:4], text[4:6], text[6:8]
        yield text, ""
        for order in (day + month + year, month + day + year):
            yield order, "day first"
        for written in {f"{year}年{int(month)}月{int(day)}日", f"{year}年{month}月{day}日"}:
            yield written, "Chinese date"
    else:
        yield text, ""
        if text.isascii() and len(fold_text(text)) >= 6:
            yield text.translate({code: code + 0xFEE0 for code in range(33, 127)}), "full width"


def _name_forms(text: str) -> Iterator[tuple[str, str]]:
    for group in text.split("="):
        parts = [part for part in re.split(r"[\^\s,·]+", group) if part]
        if not parts:
            continue
        # Base64 and hexadecimal hide the marks between the parts, so they are searched for with each.
        for mark in (" ", "^") if group.isascii() else ("", "^", " "):
            yield mark.join(parts), ""
        if len(parts) > 1:
            yield " ".join(parts[:2]), ""
            yield " ".join(parts[1::-1]), "reversed"
            for part in parts:
                if (part.isascii() or len(part) > 1) and not nobody(part):
                    yield part, "part"
        joined = "".join(parts)
        if re.fullmatch(r"[\u3400-\u9fff]{2,6}", joined):
            yield from _pinyin_forms(parts, joined)


def _pinyin_forms(parts: list[str], joined: str) -> Iterator[tuple[str, str]]:
    n_family = len(parts[0]) if len(parts) > 1 else 2 if joined.startswith(_COMPOUND) and len(joined) > 2 else 1
    if len(parts) == 1:
        yield joined[n_family:] + joined[:n_family], "reversed"
    for syllables in product(*_syllables(joined)):
        family, given = "".join(syllables[:n_family]), "".join(syllables[n_family:])
        yield f"{family} {given}", "pinyin"
        yield f"{given} {family}", "pinyin"


def _syllables(text: str) -> list[list[str]]:
    """Readings of each character; only the first characters may have several, so that the product stays small."""
    from pypinyin import Style, pinyin  # 0.1 s of import, only when a Chinese name is met

    found = pinyin(text, style=Style.NORMAL, heteronym=True, errors="ignore")
    n_forms, kept = 1, []
    for readings in found:
        spelt = list(dict.fromkeys(form for one in readings for form in _spelt(one)))
        spelt = spelt if n_forms * len(spelt) <= _MAX_READINGS else spelt[:1]
        n_forms *= len(spelt)
        kept.append(spelt)
    return kept


def _spelt(syllable: str) -> list[str]:
    """ü is written v, u or yu in passports and consoles."""
    syllable = syllable.replace("ü", "v")
    return [syllable.replace("v", way) for way in ("v", "u", "yu")] if "v" in syllable else [syllable]


def _uid_needle(uid: str) -> Iterator[Needle]:
    sure = re.compile(rb"(?<![0-9.])" + re.escape(uid.encode("ascii", "replace")) + rb"(?![0-9.]*[0-9])")
    yield Needle(fold(uid.encode("ascii", "replace")), "uid", "ascii", sure)


def _encoded(text: str, kind: str, form: str) -> Iterator[Needle]:
    if not text.isascii():
        yield from _encoded_beyond_ascii(text, kind, form)
        return
    folded = fold_text(text).encode()
    shortest = 5 if folded.isdigit() else 4
    if len(folded) < shortest:
        return
    is_word = form == "part" or len(folded) < _LONG_LATIN
    yield Needle(folded, kind, form or "ascii", _pattern(folded, is_word=is_word), folded if folded.isdigit() else b"")
    if form in ("", "pinyin") and len(folded) >= 6:
        yield from _armoured(text.encode(), kind)


def _encoded_beyond_ascii(text: str, kind: str, form: str) -> Iterator[Needle]:
    seen: set[bytes] = set()
    for codec in (*_MULTIBYTE, "iso2022_jp_2"):
        try:
            encoded = text.encode(codec)
        except UnicodeEncodeError:
            continue
        folded = fold(encoded)
        if folded in seen or len(folded) < (_MIN_BYTES if codec.startswith("iso") else 4):
            continue
        seen.add(folded)
        yield Needle(folded, kind, f"{form}, {codec}" if form else codec)
    for codec in ("gb18030", "utf-8"):
        try:
            raw = text.encode(codec)
        except UnicodeEncodeError:
            continue
        yield Needle(fold(raw.decode("latin_1").encode()), kind, f"{codec} read as Latin-1")
        yield Needle(fold("".join(f"%{byte:02x}" for byte in raw).encode()), kind, "percent")
        yield from _armoured(raw, kind)
    han = [char for char in text if not char.isspace() and char not in "^="]
    for encoding, escape in (("json escape", r"\u{:04x}"), ("xml", "&#x{:x};"), ("xml", "&#{:d};")):
        yield Needle(fold("".join(escape.format(ord(char)) for char in han).encode()), kind, encoding)


def _armoured(raw: bytes, kind: str) -> Iterator[Needle]:
    """Hexadecimal, and Base64 at each of the three places where it may start."""
    yield Needle(raw.hex().encode(), kind, "hex")
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        # The characters at both ends depend on what stands beside: they are left out.
        inner = encoded[(0, 2, 3)[shift] : len(encoded) - (4 if (shift + len(raw)) % 3 else 0)]
        if len(fold(inner)) >= 8:
            yield Needle(fold(inner), kind, "base64")


def _pattern(folded: bytes, *, is_word: bool) -> re.Pattern[bytes]:
    body = _SEPARATORS.join(re.escape(bytes([byte])) for byte in folded)
    if folded.isdigit():
        return re.compile(rb"(?<![0-9])(?<![0-9][.])" + body + rb"(?![0-9])")
    if is_word:
        return re.compile(rb"(?<![0-9A-Za-z])" + body + rb"(?![0-9A-Za-z])", re.IGNORECASE)
    return re.compile(body, re.IGNORECASE)
