"""Text: from whatever character set a hospital wrote to Unicode.

PS3.5 6.1 and PS3.3 C.12.1.1.2 say how text is encoded; Chinese archives often do otherwise: GBK bytes under ISO_IR 100
or under no character set at all, UTF-8 under GB18030, terms such as "GBK". The declared set is believed unless the
bytes prove it wrong. Which attributes are text, and where they stand, is the reader's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from radlake.errors import QuarantineError

__all__ = ["TextDecoder", "choose_decoder", "is_defined_term", "is_foreign", "readable_terms"]

_SINGLE_BYTE = {
    "ISO_IR 100": "latin_1",
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
    "ISO_IR 166": "tis_620",
}
_CODECS = {
    "": "ascii",
    "ISO_IR 6": "ascii",
    "ISO 2022 IR 6": "ascii",
    **_SINGLE_BYTE,
    **{term.replace("ISO_IR", "ISO 2022 IR"): codec for term, codec in _SINGLE_BYTE.items()},
    "ISO 2022 IR 87": "iso2022_jp",
    "ISO 2022 IR 159": "iso2022_jp_2",
    "ISO 2022 IR 149": "euc_kr",
    "ISO 2022 IR 58": "gb18030",
    "ISO_IR 192": "utf-8",
    "GB18030": "gb18030",
    "GBK": "gb18030",
}
# Escape sequences (PS3.3 tables C.12-3 and C.12-4) and the codec that reads what follows. The Japanese codecs want
# their escape sequence back; GB 2312 is a part of GB18030.
_ESCAPES = {
    b"\x1b(B": "",
    b"\x1b(J": "",
    b"\x1b)I": "shift_jis",
    b"\x1b-A": "latin_1",
    b"\x1b-B": "iso8859_2",
    b"\x1b-C": "iso8859_3",
    b"\x1b-D": "iso8859_4",
    b"\x1b-L": "iso8859_5",
    b"\x1b-G": "iso8859_6",
    b"\x1b-F": "iso8859_7",
    b"\x1b-H": "iso8859_8",
    b"\x1b-M": "iso8859_9",
    b"\x1b-b": "iso8859_15",
    b"\x1b-T": "tis_620",
    b"\x1b$B": "iso2022_jp",
    b"\x1b$(D": "iso2022_jp_2",
    b"\x1b$)A": "gb18030",
    b"\x1b$)C": "euc_kr",
}
_ESCAPE = re.compile(b"(" + b"|".join(re.escape(sequence) for sequence in _ESCAPES) + b")")
# Accented letters and signs of Western Europe stand alone, or in twos inside a word; bytes of Chinese come in pairs.
_ALONE = re.compile(rb"(?<![\x80-\xff])[\xa0-\xff](?![\x80-\xff])")
_ALONE_OR_PAIR = re.compile(_ALONE.pattern + rb"|(?<=[A-Za-z])[\xc0-\xff]{2}(?=[A-Za-z ]|$)")
_TOLERATED_LOSS = 0.1  # a value cut in the middle of a character is common; text in a wrong codec loses far more
_LOST = "\ufffd"
_HIGH = bytes(range(0x80, 0x100))


@dataclass(frozen=True, slots=True)
class TextDecoder:
    """Turns the bytes of one data set into text.

    Attributes
    ----------
    codec : str
        Python codec of text outside escape sequences.
    n_lost : int
        Characters of the data set that cannot be decoded; each becomes U+FFFD.
    """

    codec: str
    n_lost: int = 0

    def __call__(self, value: bytes) -> str:
        return _decode(value, self.codec, errors="replace")


def is_defined_term(term: str) -> bool:
    """Whether Specific Character Set may have this value (PS3.3 C.12.1.1.2)."""
    return term in _CODECS


def readable_terms(declared: Sequence[str]) -> str:
    """Specific Character Set for a note; a term that is not defined may be anything, so it is not shown."""
    terms = [term if term in _CODECS else "an undefined term" for term in declared]
    return "\\".join(terms).strip("\\") or "nothing"


def is_foreign(value: bytes) -> bool:
    """Whether the bytes are more than ASCII; ISO 2022 hides other characters behind escape sequences."""
    return not value.isascii() or (b"\x1b" in value and _ESCAPE.search(value) is not None)


def choose_decoder(declared: Sequence[str], values: Iterable[bytes]) -> TextDecoder:
    """Find the character set that the non-ASCII values of one data set were really written in.

    Parameters
    ----------
    declared : sequence of str
        Values of Specific Character Set.
    values : iterable of bytes
        Text values with at least one non-ASCII byte or escape sequence.

    Raises
    ------
    QuarantineError
        `charset_unknown`, if no usual character set fits.

    >>> choose_decoder(["ISO_IR 100"], ["李雷".encode("gbk")]).codec
    'gb18030'
    >>> choose_decoder(["ISO_IR 100"], ["Müller".encode("latin_1")]).codec
    'latin_1'
    """
    samples = list(values)
    initial = _CODECS.get(declared[0].strip(), "ascii") if declared else "ascii"
    plain = [sample for sample in samples if b"\x1b" not in sample]
    for codec in _candidates(plain, initial=initial) if plain else [initial]:
        if _n_lost(plain, codec) <= _TOLERATED_LOSS * sum(map(_n_high, plain)):
            return TextDecoder(codec, _n_lost(samples, codec))
    raise QuarantineError(reason="charset_unknown", detail=f"declared as {readable_terms(declared)}")


def _candidates(samples: list[bytes], *, initial: str) -> Iterator[str]:
    """Codecs to try, the likeliest first."""
    if initial in ("ascii", "latin_1", "utf-8"):
        if initial == "utf-8" or _is_plausible_utf8(samples, letters=0x250):
            yield "utf-8"
        if all(_is_western(_ALONE, sample) for sample in samples):
            yield "latin_1"
        if _common_share(samples, "gb18030", "gb2312", first=0xB0, last=0xD7) >= 0.4:
            yield "gb18030"
        if _common_share(samples, "big5", "big5", first=0xA4, last=0xC6) >= 0.9 and sum(map(_n_high, samples)) >= 8:
            yield "big5"
        if all(_is_western(_ALONE_OR_PAIR, sample) for sample in samples):
            yield "latin_1"
        yield "gb18030"
        if initial != "utf-8":
            yield "latin_1"
    elif initial == "gb18030":
        if _is_plausible_utf8(samples, letters=0):
            yield "utf-8"
        yield "gb18030"
    else:
        yield initial


def _decode(value: bytes, codec: str, *, errors: str) -> str:
    """Decode with ISO 2022 code extensions (PS3.5 6.1.2.5): an escape sequence governs the bytes until the next one."""
    if b"\x1b" not in value or codec == "utf-8":  # Unicode has no code extensions
        return value.decode(codec, errors=errors)
    first, *parts = _ESCAPE.split(value)
    text = [first.decode(codec, errors=errors)]
    for escape, segment in zip(parts[::2], parts[1::2], strict=True):
        named = _ESCAPES[escape]
        if named.startswith("iso2022"):
            text.append((escape + segment).decode(named, errors=errors))
            continue
        codec = named or codec
        text.append(segment.decode(codec, errors=errors))
    return "".join(text)


def _is_plausible_utf8(samples: list[bytes], *, letters: int) -> bool:
    """Whether bytes under another label are UTF-8: they read as Chinese, or as Western letters below `letters`.

    A few characters of GB18030 in a row are valid UTF-8 as well, and then read as Cyrillic or Arabic.
    """
    text = "".join(sample.decode("utf-8", errors="replace") for sample in samples)
    return all(ord(char) < max(letters, 0x80) or "\u2000" <= char <= "\u9fff" or char >= "\uf900" for char in text)


def _common_share(samples: list[bytes], codec: str, level_codec: str, *, first: int, last: int) -> float:
    """Share of everyday characters: GB 2312 and Big5 hold them in rows of their own, first to last lead byte."""
    text = "".join(sample.decode(codec, errors="replace") for sample in samples)
    foreign = [char for char in text if ord(char) > 0x7F]
    leads = [char.encode(level_codec, errors="ignore")[:1] for char in foreign]
    return sum(bool(lead) and first <= lead[0] <= last for lead in leads) / len(foreign)


def _is_western(letters: re.Pattern[bytes], sample: bytes) -> bool:
    return _n_high(letters.sub(b"", sample)) == 0


def _n_high(sample: bytes) -> int:
    return len(sample) - len(sample.translate(None, _HIGH))


def _n_lost(samples: list[bytes], codec: str) -> int:
    """Characters that cannot be decoded; a replacement character that somebody wrote is not lost here."""
    n = 0
    for sample in samples:
        try:
            _decode(sample, codec, errors="strict")
        except UnicodeDecodeError:
            n += _decode(sample, codec, errors="replace").count(_LOST)
    return n
