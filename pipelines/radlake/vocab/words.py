"""Cut a free description, Chinese or English or both, into the words of the vocabulary.

Nothing is guessed: what is not a word of schemas/vocab/ is reported as not known. What may leave the restricted zone is
decided in `descriptions`, what a study examined in `decide`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from radlake.vocab.load import Lexicon, Word

__all__ = ["Found", "Run", "runs_of"]

_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# A Chinese run, or a run of other letters and digits with dots inside: 5.0MM, T2WI, WANG.MING.
_RUN = re.compile(rf"[{_HAN}]+|[^\W_{_HAN}]+(?:\.[^\W_{_HAN}]+)*")
_ABBREVIATIONS = (
    (re.compile(r"\bW\s*/\s*O\b"), " WO "),
    (re.compile(r"\bW\s*/\s*WO\b"), " W WO "),
    (re.compile(r"\bC\+"), " CE "),
    (re.compile(r"\bC-(?![A-Z0-9])"), " WO "),
    (re.compile(r"(?<=\d)\s+MM\b"), "MM"),
)


@dataclass(frozen=True)
class Found:
    """A piece of text and its meaning; None: not a word of the vocabulary."""

    text: str
    word: Word | None


@dataclass(frozen=True)
class Run:
    """Pieces that stand together: one Chinese run, or consecutive other words.

    `is_whole` says that every piece is a word and stands where it may stand: 左 before a paired body part, 及 between
    two words. A Chinese name that contains a word (张增强) makes a run that is not whole.
    """

    pieces: tuple[Found, ...]
    is_chinese: bool

    @property
    def is_whole(self) -> bool:
        pieces = self.pieces
        return all(_may_stand(pieces, index) for index in range(len(pieces)))


def runs_of(text: str, vocabulary: Lexicon) -> list[Run]:
    """All runs of a text, in order, after Unicode NFKC (full-width letters and digits) and upper-casing."""
    text = unicodedata.normalize("NFKC", text).upper()
    for pattern, replacement in _ABBREVIATIONS:
        text = pattern.sub(replacement, text)
    runs: list[Run] = []
    latin: list[str] = []

    def close_latin() -> None:
        if latin:
            runs.append(Run(tuple(_phrases(latin, vocabulary)), is_chinese=False))
            latin.clear()

    for match in _RUN.finditer(text):
        piece = match[0]
        if _is_han(piece[0]):
            close_latin()
            runs.append(Run(tuple(_segments(piece, vocabulary)), is_chinese=True))
        elif (piece,) in vocabulary.en or any(char.isdigit() for char in piece):
            latin.append(piece)
        else:
            latin += piece.split(".")
    close_latin()
    return runs


def _is_han(char: str) -> bool:
    return re.match(f"[{_HAN}]", char) is not None


def _phrases(tokens: list[str], vocabulary: Lexicon) -> Iterator[Found]:
    """The longest phrase at each place: WITHOUT CONTRAST before WITHOUT."""
    start = 0
    while start < len(tokens):
        for length in range(min(vocabulary.longest_en, len(tokens) - start), 0, -1):
            phrase = tuple(tokens[start : start + length])
            if (word := vocabulary.en.get(phrase)) is not None:
                yield Found(" ".join(phrase), word)
                break
        else:
            length = 1
            yield Found(tokens[start], None)
        start += length


def _segments(run: str, vocabulary: Lexicon) -> Iterator[Found]:
    """The segmentation with the fewest characters outside the vocabulary, then the fewest words."""
    best: list[tuple[int, int, int]] = [(0, 0, 0)]  # unknown characters, words, length of the last piece
    for end in range(1, len(run) + 1):
        unknown, words, _ = best[end - 1]
        choice = (unknown + 1, words + 1, 1)
        for length in range(1, min(vocabulary.longest_zh, end) + 1):
            if run[end - length : end] in vocabulary.zh:
                unknown, words, _ = best[end - length]
                choice = min(choice, (unknown, words + 1, length))
        best.append(choice)
    lengths = []
    end = len(run)
    while end:
        lengths.append(best[end][2])
        end -= lengths[-1]
    start = 0
    for length in reversed(lengths):
        piece = run[start : start + length]
        yield Found(piece, vocabulary.zh.get(piece))
        start += length


def _may_stand(pieces: tuple[Found, ...], index: int) -> bool:
    word = pieces[index].word
    if word is None:
        return False
    before = pieces[index - 1].word if index else None
    after = pieces[index + 1].word if index + 1 < len(pieces) else None
    if word.is_joining:
        return all(other is not None and not other.is_joining for other in (before, after))
    if word.side and len(pieces[index].text) == 1:
        return after is not None and after.is_paired
    return True
