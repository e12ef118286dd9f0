"""Vocabulary: body part, modality, side, contrast, vendor, and the words that may leave in a description.

The words and codes are data in schemas/vocab/. An unknown is a value, never a dropped row.
"""

from __future__ import annotations

from radlake.vocab.decide import ExamFacts, decide
from radlake.vocab.descriptions import clean_description
from radlake.vocab.evidence import Evidence, evidence_from_json, evidence_of, evidence_to_json, texts_of
from radlake.vocab.reading import Reading, read
from radlake.vocab.terms import body_part_term, manufacturer_group, modality_group, modality_term

__all__ = [
    "Evidence",
    "ExamFacts",
    "Reading",
    "body_part_term",
    "clean_description",
    "decide",
    "evidence_from_json",
    "evidence_of",
    "evidence_to_json",
    "manufacturer_group",
    "modality_group",
    "modality_term",
    "read",
    "texts_of",
]
