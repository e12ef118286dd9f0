"""Read a report: which findings it says are there, may be there, or are not; of whom, and when.

A text is cut into sentences and these into clauses; a word of negation or doubt works on the names of its clause, those
before it or those behind it (after NegEx and ConText: Chapman 2001, Harkema 2009). Doubt beats negation: "cannot
exclude". Of several statements in a report the strongest stays: there, may be there, not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from radlake.findings.rules import Rules, Word, normal

__all__ = ["Fact", "read_report"]

_CERTAINTIES = ("ABSENT", "POSSIBLE", "PRESENT")
_SENTENCE = re.compile(r"[。;；\n!]|\.(?=\s|$)")
_COMMA = re.compile(r"[,，]")


@dataclass(frozen=True, order=True)
class Fact:
    """A finding of a report.

    Attributes
    ----------
    certainty : str
        PRESENT, POSSIBLE or ABSENT.
    is_current, is_of_patient : bool
        False for what was before, and for what relatives have.
    """

    finding: str
    certainty: str
    is_current: bool = True
    is_of_patient: bool = True


@dataclass(frozen=True)
class _Token:
    start: int
    end: int
    word: Word


def read_report(text: str, *, rules: Rules) -> list[Fact]:
    """Facts of a report, sorted, one for each finding, time and person; the text is in none of them.

    >>> from radlake.findings.rules import load_rules
    >>> [(f.finding, f.certainty) for f in read_report("右肺见磨玻璃结节，未见胸腔积液及气胸。", rules=load_rules())]
    [('pleural_effusion', 'ABSENT'), ('pneumothorax', 'ABSENT'), ('pulmonary_nodule', 'PRESENT')]
    """
    found: dict[tuple[str, bool, bool], str] = {}
    for sentence in _SENTENCE.split(rules.skipped.sub("", normal(text))):
        for fact in _facts(sentence, rules):
            key = (fact.finding, fact.is_current, fact.is_of_patient)
            found[key] = max(found.get(key, "ABSENT"), fact.certainty, key=_CERTAINTIES.index)
    return sorted(Fact(finding, certainty, *when) for (finding, *when), certainty in found.items())


def _facts(sentence: str, rules: Rules) -> Iterator[Fact]:
    past = family = False
    for clause in _clauses(sentence, rules):
        roles = {role for token in clause for role in token.word.roles}
        # Whose and when something was holds on in the sentence: "mother: lung cancer, gallstones".
        past, family = past or "past" in roles, family or "family" in roles
        for i, token in enumerate(clause):
            if token.word.finding:
                before = _reaching(clause[:i][::-1], "before")
                after = _reaching(clause[i + 1 :], "after")
                yield Fact(token.word.finding, _certainty(before | after), not past, not family)
        past = past and "past" not in roles


def _reaching(tokens: list[_Token], side: str) -> set[str]:
    """Roles of words on one side of a name that reach it: other names do not stop them, an end does."""
    found: set[str] = set()
    for token in tokens:
        roles = {role.removesuffix(f"_{side}") for role in token.word.roles if role.endswith(side)}
        found |= roles
        if "end" in token.word.roles and not roles:
            break
    return found


def _certainty(roles: set[str]) -> str:
    return "POSSIBLE" if "possible" in roles else "ABSENT" if "absent" in roles else "PRESENT"


def _clauses(sentence: str, rules: Rules) -> Iterator[list[_Token]]:
    """Phrases of each clause: a comma ends one, unless what follows goes on with a list of names."""
    tokens = [_Token(m.start(), m.end(), rules.words[re.sub(r"\s+", " ", m[0])]) for m in rules.pattern.finditer(sentence)]  # fmt: skip  # noqa: E501
    cuts = [comma.start() for comma in _COMMA.finditer(sentence) if not _goes_on(sentence, comma.end(), tokens, rules)]
    for low, high in zip([0, *cuts], [*cuts, len(sentence)], strict=True):
        yield [token for token in tokens if low <= token.start < high and "neutral" not in token.word.roles]


def _goes_on(sentence: str, at: int, tokens: list[_Token], rules: Rules) -> bool:
    """Whether a name follows the comma at once, or after an `or`, and nothing says behind it that it is there."""
    start = at
    while (match := rules.goes_on.match(sentence, start)) and match.end() > start:
        start = match.end()
    blank = len(sentence[start:]) - len(sentence[start:].lstrip())
    named = next((token for token in tokens if token.start == start + blank and token.word.finding), None)
    return named is not None and not rules.asserted.match(sentence, named.end)
