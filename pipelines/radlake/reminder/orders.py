"""Read a draft order: its codes and words become the exam that they name, by the same vocabulary as headers do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from radlake.vocab import ExamFacts, decide
from radlake.vocab.evidence import evidence_of_texts
from radlake.vocab.load import csv_rows, vocabulary

__all__ = ["OrderWords", "exam_of_order"]


@dataclass(frozen=True, repr=False)
class OrderWords:
    """What an order says of the exam, as it was sent: words may hold anything, so it has no repr and is never kept.

    Attributes
    ----------
    texts : tuple of str
        Text and displays of the code and the body site.
    modalities : tuple of str
        Modality codes of DICOM (DCM).
    loinc, sites : tuple of str
        LOINC codes of the procedure; SNOMED CT codes of the body site.
    """

    texts: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    loinc: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()


def exam_of_order(words: OrderWords) -> ExamFacts:
    """The exam that an order names, with how sure that is.

    >>> facts = exam_of_order(OrderWords(texts=("胸部CT平扫",), sites=("51185008",)))
    >>> facts.modality_group, facts.body_part_code, facts.contrast_code, facts.confidence_code
    ('CT', 'CHEST', 'WITHOUT', 'HIGH')
    """
    known = vocabulary()
    listed = [row for code in words.loinc if (row := _loinc().get(code))]
    evidence = evidence_of_texts(
        words.texts, modalities=[*words.modalities, *(row["modality_group"] for row in listed)]
    )
    sides = [known.side_of_code.get(code, "") for code in words.sites] + [row["laterality_code"] for row in listed]
    contrasts = {row["contrast_code"] for row in listed}
    given = set(evidence.study_contrast)
    given |= {"WITH"} if contrasts & {"WITH", "WITHOUT_AND_WITH"} else set()
    given |= {"WITHOUT"} if contrasts & {"WITHOUT", "WITHOUT_AND_WITH"} else set()
    return decide(
        replace(
            evidence,
            region=_sorted(known.part_of_code.get(code, ()) for code in words.sites),
            procedure=_sorted(row["body_part_code"].split("+") for row in listed),
            side=tuple(sorted({"L", "R", "B"}.intersection(sides))),
            study_contrast=tuple(sorted(given)),
        )
    )


@cache
def _loinc() -> Mapping[str, Mapping[str, str]]:
    return {row["loinc_code"]: row for row in csv_rows("loinc")}


def _sorted(found: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(sorted({one for several in found for one in several}))
