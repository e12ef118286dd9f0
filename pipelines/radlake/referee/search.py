"""Search bytes for all identifiers of many originals: one Aho-Corasick automaton, then a second look at each hit.

The automaton runs over folded bytes and may be wrong; a hit counts only when the bytes as they stand agree, in a place
where such an identifier can stand: a short number within a UID or a matrix of coordinates is chance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import ahocorasick

from radlake.referee.identifiers import Identifier, telltales
from radlake.referee.instance import BULK_VRS
from radlake.referee.needles import Needle, fold, needles_of
from radlake.referee.reading import readings

__all__ = ["ALL", "Hit", "Searcher", "telltales_in"]

_CHUNK, _OVERLAP = 8 << 20, 4096
_MIN_BULK = 6  # folded bytes in binary data
_MIN_BULK_DIGITS = 8
_NUMBERS = frozenset(["DS", "IS"])
_TIMES = frozenset(["DA", "DT", "TM"])
_CLOSED = frozenset(["DA", "DT", "TM", "DS", "IS", "UI", "AS"])
_PLAIN = ("ascii", "utf-8", "gb18030", "reversed", "pinyin")
ALL = "*"  # the owner of identifiers that are searched for everywhere
_MIN_STRONG, _MIN_STRONG_ASCII = 6, 8  # folded bytes of one: three Chinese characters, eight letters


@dataclass(frozen=True, slots=True)
class Hit:
    """An identifier that can be read: its kind and how it was written."""

    kind: str
    encoding: str


class Searcher:
    """All identifiers of some originals, by owner (an original study): the weak ones count with their owner only."""

    def __init__(
        self,
        identifiers: Mapping[str, Iterable[Identifier]],
        forms: Callable[[Identifier], Iterable[Needle]] = needles_of,
    ) -> None:
        needles: dict[str, list[tuple[Needle, set[str]]]] = defaultdict(list)
        index: dict[Needle, set[str]] = {}
        for owner, told in identifiers.items():
            for identifier in told:
                for needle in forms(identifier):
                    owners = index.get(needle)
                    if owners is None:
                        owners = index[needle] = set()
                        needles[needle.folded.decode("latin_1")].append((needle, owners))
                    shortest = _MIN_STRONG_ASCII if needle.sure else _MIN_STRONG
                    is_strong = identifier.is_strong and not needle.is_part and len(needle.folded) >= shortest
                    owners.add(ALL if is_strong else owner)
        self.n_needles = len(index)
        self._automaton = ahocorasick.Automaton()
        for word, entries in needles.items():
            self._automaton.add_word(word, entries)
        if needles:
            self._automaton.make_automaton()

    def hits(self, data: bytes, *, vr: str, owner: str) -> set[Hit]:
        """Identifiers in one value, one hit of each kind.

        Parameters
        ----------
        vr : str
            What may stand there: a VR of DICOM, `text` for any text, `bulk` for bytes.
        owner : str
            The study that the bytes belong to; ALL for bytes of no study in particular.
        """
        if not self.n_needles or not data:
            return set()
        # The same bytes can be read in several ways: of each kind the plainest is told.
        plainest: dict[str, Hit] = {}
        for start in range(0, len(data), _CHUNK):
            piece = data if len(data) <= _CHUNK else data[start : start + _CHUNK + _OVERLAP]
            for hit in self._hits(piece, vr, owner):
                if hit.kind not in plainest or _rank(hit) < _rank(plainest[hit.kind]):
                    plainest[hit.kind] = hit
        return set(plainest.values())

    def _hits(self, data: bytes, vr: str, owner: str) -> Iterator[Hit]:
        for _, entries in self._automaton.iter(fold(data).decode("latin_1")):
            for needle, owners in entries:
                if (ALL in owners or owner in owners) and _is_sure(needle, data, vr):
                    yield Hit(needle.kind, needle.encoding)


def _rank(hit: Hit) -> tuple[int, str]:
    return _PLAIN.index(hit.encoding) if hit.encoding in _PLAIN else len(_PLAIN), hit.encoding


def _is_sure(needle: Needle, data: bytes, vr: str) -> bool:
    """Whether a folded match is one in the bytes as they stand, and can be meant."""
    if vr in _NUMBERS:
        return bool(needle.whole) and any(part.strip(b" \0") == needle.whole for part in data.split(b"\\"))
    if vr in _TIMES and needle.kind in ("date", "time"):
        return False  # judged against the original, element by element
    if vr == "UI" and needle.kind != "uid":
        return len(needle.whole) >= _MIN_BULK and needle.whole in data.strip(b" \0").split(b".")
    shortest = _MIN_BULK_DIGITS if needle.whole else _MIN_BULK
    if (vr == "bulk" or vr in BULK_VRS) and (needle.kind in ("time", "date") or len(needle.folded) < shortest):
        return False
    return needle.sure is None or needle.sure.search(data) is not None


def telltales_in(data: bytes, *, vr: str) -> set[str]:
    """Kinds of identifier that a value looks like, whoever it belongs to."""
    if vr in BULK_VRS or vr in _CLOSED or vr == "bulk":
        return set()
    return {kind for text in readings(data)[:2] for kind in telltales(text)}
