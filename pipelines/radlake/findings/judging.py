"""Judge the rules on sentences that people labelled: what of each certainty was found, and what was invented."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from radlake.findings.reading import Fact, read_report
from radlake.findings.rules import Rules

__all__ = ["Labelled", "Score", "judge", "labelled_from_csv"]

_FACT = re.compile(r"([a-z_]+)=(PRESENT|POSSIBLE|ABSENT)(~past)?(@family)?")


@dataclass(frozen=True)
class Labelled:
    """A sentence and the facts that a person read in it."""

    text: str
    facts: frozenset[Fact]
    split: str

    @property
    def language(self) -> str:
        return "zh" if re.search(r"[\u4e00-\u9fff]", self.text) else "en"


@dataclass(frozen=True)
class Score:
    """Facts found, missed and invented."""

    n_found: int = 0
    n_missed: int = 0
    n_invented: int = 0


def labelled_from_csv(path: Path) -> list[Labelled]:
    """Sentences of a CSV file: split, text, facts (`pneumonia=ABSENT fracture=PRESENT~past lung_mass=PRESENT@family`).

    Raises
    ------
    ValueError
        If a fact is not written so.
    """
    with path.open(encoding="utf-8", newline="") as file:
        return [Labelled(row["text"], frozenset(_facts(row["facts"])), row["split"]) for row in csv.DictReader(file)]


def judge(labelled: Iterable[Labelled], *, rules: Rules) -> dict[tuple[str, str, str], Score]:
    """Score by split, language and certainty; a fact counts only when certainty, time and person are right."""
    counts: Counter[tuple[tuple[str, str, str], str]] = Counter()
    for sentence in labelled:
        found = set(read_report(sentence.text, rules=rules))
        for name, facts in (
            ("n_found", found & sentence.facts),
            ("n_missed", sentence.facts - found),
            ("n_invented", found - sentence.facts),
        ):
            for fact in facts:
                counts[(sentence.split, sentence.language, fact.certainty), name] += 1
    keys = sorted({key for key, _ in counts})
    return {key: Score(**{name: counts[key, name] for name in ("n_found", "n_missed", "n_invented")}) for key in keys}


def _facts(text: str) -> Iterable[Fact]:
    for word in text.split():
        match = _FACT.fullmatch(word)
        if match is None:
            raise ValueError(f"{word!r} is not a fact like pneumonia=ABSENT~past")
        yield Fact(match[1], match[2], not match[3], not match[4])
