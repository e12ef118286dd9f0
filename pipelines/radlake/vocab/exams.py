"""What a study examined: modality group, body parts, side, contrast, from the identified headers of its series.

`evidence` reads the headers, `decide` weighs what they say. What cannot be told is UNKNOWN and stays a row. The result
holds codes of the vocabulary only, never text of a header.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom import Dataset

from radlake.vocab.decide import ExamFacts, decide
from radlake.vocab.evidence import evidence_of
from radlake.vocab.terms import modality_group_of, modality_term

__all__ = ["classify_exam", "modality_group"]


def classify_exam(datasets: Sequence[Dataset]) -> ExamFacts:
    """Classify a study from one data set of each of its series."""
    return decide(evidence_of(datasets))


def modality_group(modalities: Iterable[str]) -> str:
    """Leading modality of a study that is known by its Modalities in Study (0008,0061) only.

    >>> modality_group(["SR", "CT", "PT"]), modality_group(["?"])
    ('PT', 'UNKNOWN')
    """
    return modality_group_of(map(modality_term, modalities))
