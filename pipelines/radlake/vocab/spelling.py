"""Spell a description as the vocabulary does: characters, abbreviations, typing errors, words written as one.

What a word means is not decided here. Rules: schemas/vocab/spellings.csv and `patterns` of reading.yaml.
"""

from __future__ import annotations

import re
import string
import unicodedata
from functools import cache, lru_cache

from radlake.vocab.load import vocabulary
from radlake.vocab.rules import rules

__all__ = ["one_word", "spelled"]

_BETWEEN = r"[\s/_\-.,&+()]+"
_MIN_COMPOUND, _MIN_TOKEN, _MIN_WORD = 3, 5, 6  # letters: shorter ones are found in any name
_Table = tuple[re.Pattern[str] | None, dict[str, str]]


def spelled(text: str, *, modality: str) -> str:
    """The text in upper case with every spelling of the table replaced.

    Parameters
    ----------
    modality : str
        Modality group, or "" when it is not known: some spellings hold in some groups only.

    >>> spelled("頭顱ＣＴ平扫 w/o", modality="CT")
    '头颅CT平扫  WO '
    >>> spelled("CT C/A/P", modality="CT")
    'CT CHEST ABDOMEN PELVIS'
    """
    known = rules()
    text = unicodedata.normalize("NFKC", text).upper().translate(known.simplified)
    for pattern, replacement in known.patterns:
        text = pattern.sub(replacement, text)
    for found, meant in _tables(modality):
        if found is not None:
            text = found.sub(lambda match, meant=meant: meant[_key(match[0])], text)
    return text


@lru_cache(maxsize=65536)
def one_word(token: str) -> tuple[str, ...]:
    """Words that an unknown token of Latin letters stands for; empty when nobody can tell.

    Words written as one (CHESTPELVIS) must cover it; one typing error is allowed in a word of six letters or more.

    >>> one_word("CHESTPELVIS"), one_word("SHOUDLER"), one_word("WANGMING")
    (('CHEST', 'PELVIS'), ('SHOULDER',), ())
    """
    if not token.isascii() or not token.isalpha() or len(token) < _MIN_TOKEN:
        return ()
    return _compound(token) or _corrected(token)


def _compound(token: str) -> tuple[str, ...]:
    """The cover with the fewest words, at least one of which says something."""
    words = _single_words()
    best: list[tuple[str, ...] | None] = [()]
    for end in range(1, len(token) + 1):
        covers = [
            (*before, token[start:end])
            for start in range(end - _MIN_COMPOUND + 1)
            if (before := best[start]) is not None and token[start:end] in words
        ]
        best.append(min(covers, key=len) if covers else None)
    found = best[-1] or ()
    return found if any(rules().en[word,].parts for word in found) else ()


def _corrected(token: str) -> tuple[str, ...]:
    """The one word with a meaning that is one letter too many, too few, wrong or exchanged away; the first is right."""
    cuts = [(token[:at], token[at:]) for at in range(1, len(token) + 1)]
    edits = {head + rest[1:] for head, rest in cuts if rest}
    edits |= {head + rest[1] + rest[0] + rest[2:] for head, rest in cuts if len(rest) > 1}
    edits |= {head + letter + rest[1:] for head, rest in cuts if rest for letter in string.ascii_uppercase}
    edits |= {head + letter + rest for head, rest in cuts for letter in string.ascii_uppercase}
    words = vocabulary().en  # not those of reading.yaml, which have words of many languages
    meant = {edit: rules().en[edit,] for edit in edits if len(edit) >= _MIN_WORD and (edit,) in words}
    meanings = {(word.parts, word.side) for word in meant.values()} - {(frozenset(), None)}
    return (min(edit for edit, word in meant.items() if word.parts or word.side),) if len(meanings) == 1 else ()


@cache
def _single_words() -> frozenset[str]:
    return frozenset(word[0] for word in rules().en if len(word) == 1 and len(word[0]) >= _MIN_COMPOUND)


@cache
def _tables(modality: str) -> tuple[_Table, ...]:
    """Two replacements that hold in a modality group: of Chinese, then of English words; the longest first."""
    rows = [row for row in rules().spellings if not row["modality"] or modality in row["modality"].split()]
    tables: list[_Table] = []
    for kind in ("zh", "en"):
        written = {row["written"]: row["meant"] for row in rows if row["kind"] == kind}
        longest_first = sorted(written, key=len, reverse=True)
        if kind == "zh":
            found = "|".join(map(re.escape, longest_first))
        else:
            spread = (_BETWEEN.join(map(re.escape, words.split())) for words in longest_first)
            found = rf"(?<![^\W_])(?:{'|'.join(spread)})(?![^\W_])"
        tables.append((re.compile(found) if written else None, written))
    return tuple(tables)


def _key(found: str) -> str:
    return found if found[0] > "\u3400" else re.sub(_BETWEEN, " ", found)
