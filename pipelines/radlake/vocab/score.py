"""How right the normaliser is on descriptions that people labelled (schemas/vocab/labelled_exams.csv).

The labels are no rules: nothing here or in `reading` learns from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from radlake.vocab.decide import ExamFacts, decide
from radlake.vocab.evidence import evidence_of_texts
from radlake.vocab.load import csv_rows

__all__ = ["FIELDS", "Miss", "Score", "labelled", "misses", "scores"]

FIELDS = ("modality_group", "body_part_code", "laterality_code", "contrast_code")


@dataclass(frozen=True)
class Score:
    """Of one split and modality group ("all": of all).

    Attributes
    ----------
    n_right : mapping of str to int
        Right answers by field; "exam" when every field is right.
    n_unknown : int
        Body parts that are there and were not told.
    """

    split: str
    modality_group: str
    n: int
    n_right: Mapping[str, int]
    n_unknown: int

    def share(self, field: str) -> float:
        return self.n_right[field] / self.n


@dataclass(frozen=True)
class Miss:
    """A labelled description that was read otherwise: field -> (told, right)."""

    row: Mapping[str, str]
    differing: Mapping[str, tuple[str, str]]


def labelled() -> list[dict[str, str]]:
    """The labelled descriptions of schemas/vocab."""
    return csv_rows("labelled_exams")


def scores(rows: Sequence[Mapping[str, str]]) -> list[Score]:
    """Scores by split, of all and of each modality group."""
    told = [(row, _facts(row)) for row in rows]
    made = []
    for split in sorted({row["split"] for row in rows}):
        for group in ("all", *sorted({row["modality_group"] for row in rows})):
            part = [(r, f) for r, f in told if r["split"] == split and group in ("all", r["modality_group"])]
            if part:
                made.append(_score(split, group, part))
    return made


def misses(rows: Iterable[Mapping[str, str]]) -> list[Miss]:
    """What was read otherwise than it is labelled."""
    found = [Miss(row, _differing(row, _facts(row))) for row in rows]
    return [miss for miss in found if miss.differing]


def _score(split: str, group: str, part: Sequence[tuple[Mapping[str, str], ExamFacts]]) -> Score:
    wrong = [_differing(row, facts) for row, facts in part]
    n_right = {field: sum(field not in differing for differing in wrong) for field in FIELDS}
    n_right["exam"] = sum(not differing for differing in wrong)
    n_unknown = sum(facts.body_part_code == "UNKNOWN" and row["body_part_code"] != "UNKNOWN" for row, facts in part)
    return Score(split, group, len(part), n_right, n_unknown)


def _facts(row: Mapping[str, str]) -> ExamFacts:
    return decide(evidence_of_texts([row["description"]], modalities=[row["modality"]]))


def _differing(row: Mapping[str, str], facts: ExamFacts) -> dict[str, tuple[str, str]]:
    told = {field: str(getattr(facts, field)) for field in FIELDS}
    return {field: (told[field], row[field]) for field in FIELDS if told[field] != row[field]}
