"""Read one description: the body parts, sides, contrast and apparatus that its words name, and what was not understood.

A pure function of the text and the modality group, kept for each distinct pair. How the statements of several
descriptions and attributes become one exam is in `decide`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from radlake.vocab.contrast import contrast_phrases
from radlake.vocab.load import Word
from radlake.vocab.rules import ANY, Rules, rules
from radlake.vocab.spelling import one_word, spelled
from radlake.vocab.words import Found, Run, runs_of

__all__ = ["Reading", "Step", "put_together", "read"]

_PRECEDENCE = ("PT", "NM", "MR", "CT", "MG", "US", "XA", "RF", "DX")  # of words: 冠状动脉CT造影 is CT
_DEPARTMENT = "科内外"


@dataclass(frozen=True)
class Step:
    """A piece of the text as it was understood: for people who ask why."""

    text: str
    meaning: str


@dataclass(frozen=True)
class Reading:
    """What a text says.

    Attributes
    ----------
    parts : frozenset of str
        Codes of schemas/vocab/body_parts.yaml.
    is_paired : bool
        It names something that has a left and a right.
    sides, contrast : frozenset
        L, R, B; contrast given, not given.
    modality : str
        Modality group that the words name; "" when none does.
    unread : tuple of str
        Pieces that no rule knows.
    steps : tuple of Step
        Every piece, in order.
    """

    parts: frozenset[str] = frozenset()
    is_paired: bool = False
    sides: frozenset[str] = frozenset()
    contrast: frozenset[bool] = frozenset()
    modality: str = ""
    unread: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def is_partial(self) -> bool:
        """More of the text was not understood than was."""
        return 2 * len(self.unread) > len(self.steps)


@dataclass
class _Draft:
    parts: set[str] = field(default_factory=set)
    is_paired: bool = False
    sides: set[str] = field(default_factory=set)
    contrast: set[bool] = field(default_factory=set)
    modalities: set[str] = field(default_factory=set)
    unread: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)


@lru_cache(maxsize=1 << 16)
def read(text: str, modality: str = "") -> Reading:
    """Read a description; `modality` is the modality group of the images, "" when it is not known.

    A text of the form REGION^PROTOCOL is a protocol in the folder of a region: when the protocol names a part, the
    folder does not count.

    >>> said = read("胸部CT平扫+增强", "CT")
    >>> sorted(said.parts), sorted(said.contrast), said.modality
    (['CHEST'], [False, True], 'CT')
    """
    if not modality and (named := _read(text, "").modality):
        modality = named
    folder, _, protocol = text.rpartition("^")
    if folder and (inner := _read(protocol, modality)).parts:
        outer = _read(folder, modality)
        return Reading(
            inner.parts,
            inner.is_paired,
            inner.sides | outer.sides,
            inner.contrast | outer.contrast,
            inner.modality or outer.modality,
            outer.unread + inner.unread,
            outer.steps + inner.steps,
        )
    return _read(text, modality)


def put_together(parts: Iterable[str]) -> frozenset[str]:
    """Parts of one text as those of one exam: the knee of a leg is the knee, the bladder belongs to the kidneys."""
    known = rules()
    found = set(parts)
    for part, by, otherwise in known.absorbed:
        if part in found:
            found.remove(part)
            if not (found if by == ANY else by in found):
                found.add(otherwise)
    if known.everything in found:
        return frozenset({known.everything})
    for umbrella in known.umbrellas & found:
        if any(umbrella in known.broader.get(part, ()) for part in found - {umbrella}):
            found.remove(umbrella)
    return frozenset(found)


def _read(text: str, modality: str) -> Reading:
    known, draft = rules(), _Draft()
    for run in runs_of(spelled(text, modality=modality), known):
        if run.is_chinese:
            _read_chinese(run, modality, known, draft)
        else:
            _read_latin(run, modality, known, draft)
    return Reading(
        parts=put_together(draft.parts),
        is_paired=draft.is_paired,
        sides=frozenset(draft.sides),
        contrast=frozenset(draft.contrast),
        modality=next((group for group in _PRECEDENCE if group in draft.modalities), ""),
        unread=tuple(draft.unread),
        steps=tuple(draft.steps),
    )


def _read_chinese(run: Run, modality: str, known: Rules, draft: _Draft) -> None:
    """A Chinese run.

    With unknown characters in it a single character is no word (手 in 手术) unless a side stands before it (左手), a
    body part before 科, 内科 or 外科 is a department, and a word that is a given name says nothing after a single
    unknown character (张增强 is a person).
    """
    pieces = run.pieces
    is_loose = any(piece.word is None for piece in pieces)
    gap = 0  # unknown characters right before
    for at, piece in enumerate(pieces):
        word = piece.word
        before = pieces[at - 1].word if at else None
        after = pieces[at + 1] if at + 1 < len(pieces) else None
        if word is None:
            gap += len(piece.text)
            _not_understood(piece.text, glued=at > 0 and before is None, draft=draft)
            continue
        is_single = len(piece.text) == 1
        is_after_side = before is not None and before.side is not None
        is_department = after is not None and after.word is None and after.text in _DEPARTMENT
        if is_loose and ((is_single and not is_after_side and not word.side) or is_department):
            draft.steps.append(Step(piece.text, "not counted"))
            continue
        if word.side and is_single and not _is_side(pieces, at):
            draft.steps.append(Step(piece.text, "not counted"))
            continue
        may_state = gap != 1 or piece.text not in known.given_names
        _understood(piece.text, word, modality, known, draft, may_state=may_state)
        gap = 0


def _is_side(pieces: Sequence[Found], at: int) -> bool:
    """左 alone, or beside something that has a left and a right."""
    beside = [pieces[index].word for index in (at - 1, at + 1) if 0 <= index < len(pieces)]
    return not beside or any(word is not None and (word.is_paired or word.side is not None) for word in beside)


def _read_latin(run: Run, modality: str, known: Rules, draft: _Draft) -> None:
    pieces = list(_known_pieces(run.pieces, known))
    for piece in pieces:
        if piece.word is None and piece.text in known.grammar.tokens:
            draft.steps.append(Step(piece.text, "in a phrase about contrast"))
        elif piece.word is None:
            _not_understood(piece.text, glued=False, draft=draft)
        else:
            _understood(piece.text, piece.word, modality, known, draft, may_state=True)
    said = contrast_phrases(pieces, modality=modality, grammar=known.grammar)
    if said:
        draft.contrast |= said
        meaning = " and ".join(_CONTRAST[given] for given in sorted(said))
        draft.steps.append(Step("phrase about contrast", meaning))


def _known_pieces(pieces: Sequence[Found], known: Rules) -> Iterator[Found]:
    """Pieces, and in the place of an unknown one the words that it stands for."""
    for piece in pieces:
        words = one_word(piece.text) if piece.word is None else ()
        yield from (Found(word, known.en[word,]) for word in words) if words else (piece,)


def _understood(text: str, word: Word, modality: str, known: Rules, draft: _Draft, *, may_state: bool) -> None:
    meanings = []
    if word.parts:
        draft.parts |= word.parts
        draft.is_paired |= word.is_paired
        meanings.append("+".join(sorted(word.parts)))
    if word.side and may_state:
        draft.sides.add(word.side)
        meanings.append(f"side {word.side}")
    given = known.contrast_in.get(text, {}).get(modality)
    if given is not None and may_state:
        draft.contrast.add(given)
        meanings.append(_CONTRAST[given])
    if group := known.modality_of.get(text):
        draft.modalities.add(group)
        meanings.append(group)
    draft.steps.append(Step(text, ", ".join(meanings)))


def _not_understood(text: str, *, glued: bool, draft: _Draft) -> None:
    """Numbers and single letters are no gap in the rules."""
    draft.steps.append(Step(text, "?"))
    if text[0] > "\u3400":
        if glued and draft.unread:
            draft.unread[-1] += text
        else:
            draft.unread.append(text)
    elif len(text) > 1 and not any(char.isdigit() for char in text):
        draft.unread.append(text)


_CONTRAST = {True: "with contrast", False: "without contrast"}
