"""Vocabulary: body part, modality, side, contrast, vendor, and the words that may leave in a description.

The words and codes are data in schemas/vocab/. An unknown is a value, never a dropped row.
"""

from __future__ import annotations

from radlake.vocab.descriptions import clean_description
from radlake.vocab.exams import ExamFacts, classify_exam, modality_group
from radlake.vocab.terms import body_part_term, manufacturer_group, modality_term

__all__ = [
    "ExamFacts",
    "body_part_term",
    "classify_exam",
    "clean_description",
    "manufacturer_group",
    "modality_group",
    "modality_term",
]
