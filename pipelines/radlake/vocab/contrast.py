"""English phrases about contrast, read from left to right by the grammar of schemas/vocab/reading.yaml."""

from __future__ import annotations

from collections.abc import Sequence

from radlake.vocab.rules import Grammar
from radlake.vocab.words import Found

__all__ = ["contrast_phrases"]


def contrast_phrases(pieces: Sequence[Found], *, modality: str, grammar: Grammar) -> set[bool]:
    """Whether phrases of a text say that contrast was given, or that it was not: W, WO, WITH AND WITHOUT CONTRAST."""
    tokens = [(token, piece) for piece in pieces for token in piece.text.split()]
    said: set[bool] = set()
    is_bare_enough = modality in grammar.modalities
    at = 0
    while at < len(tokens):
        token = tokens[at][0]
        end, has_noun, is_oral = _nouns_after(tokens, at + 1, grammar)
        following = tokens[end] if end < len(tokens) else None
        if (
            token in grammar.without
            and not is_oral
            and not (following and following[0] in grammar.other)
            and (has_noun or (is_bare_enough and token not in ("NO", "NON")))
        ):
            said.add(False)
        elif token in grammar.both and (has_noun or is_bare_enough):
            said |= {False, True}
        elif token in grammar.with_:
            if not is_oral and (has_noun or (is_bare_enough and _ends_phrase(following, grammar))):
                said.add(True)
        elif token in grammar.strong:
            said.add(True)
        elif token in grammar.without or (token in grammar.oral and has_noun):
            pass  # contrast by mouth says nothing about contrast in the vessels
        else:
            end = at + 1
        at = end
    return said


def _nouns_after(tokens: Sequence[tuple[str, Found]], at: int, grammar: Grammar) -> tuple[int, bool, bool]:
    """Where the words about contrast end that follow; whether there are any; whether it is given by mouth only."""
    has_noun = has_oral = has_iv = False
    while at < len(tokens):
        token = tokens[at][0]
        if token in grammar.nouns:
            has_noun, has_iv = True, has_iv or token.startswith("IV")
        elif token in grammar.oral:
            has_oral = True
        elif not (token in grammar.joins and has_oral):
            break
        at += 1
    return at, has_noun, has_oral and not has_iv


def _ends_phrase(following: tuple[str, Found] | None, grammar: Grammar) -> bool:
    """Nothing follows a W that it could belong to: W DOPPLER is not about contrast."""
    if following is None:
        return True
    token, piece = following
    return piece.word is None or token in grammar.after | grammar.joins | grammar.without | grammar.with_
