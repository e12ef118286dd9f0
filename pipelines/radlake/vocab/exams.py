"""What a study examined: modality group, body part, side, contrast, from the identified headers of its series.

A ladder with a recorded source, best evidence first: codes, then Body Part Examined, then descriptions. What cannot be
told is UNKNOWN and stays a row. The result holds codes of the vocabulary only, never text of a header.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue

from radlake.vocab.load import UNKNOWN, sct_code, vocabulary
from radlake.vocab.terms import modality_term
from radlake.vocab.words import runs_of

__all__ = ["ExamFacts", "classify_exam", "modality_group"]

_PROCEDURE_CODES = ("ProcedureCodeSequence", "RequestedProcedureCodeSequence", "PerformedProtocolCodeSequence")
_STUDY_TEXTS = ("StudyDescription", "RequestedProcedureDescription", "PerformedProcedureStepDescription")
_SERIES_TEXTS = ("ProtocolName", "SeriesDescription")


@dataclass(frozen=True)
class ExamFacts:
    """Coded facts of one study.

    Attributes
    ----------
    modality_group : str
        Leading modality: PET/CT is PT, SPECT/CT is NM; UNKNOWN when no modality is a listed term.
    modalities_in_study : str
        Listed terms of all series, sorted, joined by a backslash.
    body_part_code : str
        Body part of schemas/vocab/body_parts.yaml; several ones sorted and joined by "+"; or UNKNOWN.
    body_part_source : str
        code, body_part_examined, description or none.
    laterality_code : str
        L, R, B (both), U (every part is unpaired), NONE (not stated).
    has_contrast : bool or None
        None when nothing states it.
    """

    modality_group: str
    modalities_in_study: str
    body_part_code: str
    body_part_source: str
    laterality_code: str
    has_contrast: bool | None


@dataclass(frozen=True)
class _Said:
    parts: frozenset[str]
    sides: frozenset[str]
    contrast: frozenset[bool]


def classify_exam(datasets: Sequence[Dataset]) -> ExamFacts:
    """Classify a study from one data set of each of its series.

    Objects derived from images (reports, segmentations, presentation states) decide nothing when an image series is
    there. A value that cannot be decoded counts as absent.
    """
    known = vocabulary()
    terms = [modality_term(_text(ds, "Modality")) for ds in datasets]
    images = [ds for ds, term in zip(datasets, terms, strict=True) if term not in known.derived_modalities]
    evidence = images or list(datasets)

    parts, source = _body_parts(evidence)
    said = [_said(text) for ds in evidence for text in _texts(ds, (*_STUDY_TEXTS, *_SERIES_TEXTS))]
    return ExamFacts(
        modality_group=_modality_group(terms),
        modalities_in_study="\\".join(sorted(set(terms))) or UNKNOWN,
        body_part_code="+".join(sorted(parts)) or UNKNOWN,
        body_part_source=source,
        laterality_code=_laterality(evidence, parts=parts, said=said),
        has_contrast=_contrast(evidence, said=said),
    )


def modality_group(modalities: Iterable[str]) -> str:
    """Leading modality of a study that is known by its Modalities in Study (0008,0061) only.

    >>> modality_group(["SR", "CT", "PT"]), modality_group(["?"])
    ('PT', 'UNKNOWN')
    """
    return _modality_group(map(modality_term, modalities))


def _modality_group(terms: Iterable[str]) -> str:
    known = vocabulary()
    groups = {known.group_of_modality[term] for term in terms if term != UNKNOWN}
    return next((group for group in known.group_precedence if group in groups), UNKNOWN)


def _body_parts(datasets: Sequence[Dataset]) -> tuple[frozenset[str], str]:
    """The first rung of the ladder that names a part, in any series."""
    rungs: tuple[tuple[str, Callable[[Dataset], frozenset[str]]], ...] = (
        ("code", _coded_regions),
        ("code", _coded_procedures),
        ("body_part_examined", _examined),
        ("description", lambda ds: _parts_said(_texts(ds, _STUDY_TEXTS))),
        ("description", lambda ds: _parts_said(_texts(ds, _SERIES_TEXTS))),
    )
    for source, rung in rungs:
        if found := frozenset().union(*map(rung, datasets)):
            return found, source
    return frozenset(), "none"


def _coded_regions(ds: Dataset) -> frozenset[str]:
    """Anatomic Region Sequence (PS3.3 10.5), by code; the meaning of a local code is read as words."""
    return frozenset().union(*(_region(item) for item in _items(ds, "AnatomicRegionSequence")))


def _region(item: Dataset) -> frozenset[str]:
    code = sct_code(_text(item, "CodeValue"), _text(item, "CodingSchemeDesignator").upper())
    return vocabulary().part_of_code.get(code) or _said(_text(item, "CodeMeaning")).parts


def _coded_procedures(ds: Dataset) -> frozenset[str]:
    """Procedure codes are local nearly everywhere: the Code Meaning, which comes with the code, is read as words."""
    items = [item for keyword in _PROCEDURE_CODES for item in _items(ds, keyword)]
    items += [
        item
        for request in _items(ds, "RequestAttributesSequence")
        for keyword in ("RequestedProcedureCodeSequence", "ScheduledProtocolCodeSequence")
        for item in _items(request, keyword)
    ]
    return frozenset().union(*(_said(_text(item, "CodeMeaning")).parts for item in items if _text(item, "CodeValue")))


def _examined(ds: Dataset) -> frozenset[str]:
    value = _text(ds, "BodyPartExamined").upper()
    squeezed = "".join(char for char in value if char.isalnum())
    return vocabulary().part_of_term.get(squeezed) or _said(value).parts


def _parts_said(texts: Iterable[str]) -> frozenset[str]:
    return frozenset().union(*(_said(text).parts for text in texts))


def _laterality(datasets: Sequence[Dataset], *, parts: frozenset[str], said: Sequence[_Said]) -> str:
    """Coded sides first; words only for a paired part (a left lateral chest view is not a left chest)."""
    known = vocabulary()
    sides: set[str] = set()
    for ds in datasets:
        sides |= {_text(ds, keyword).upper() for keyword in ("Laterality", "ImageLaterality", "FrameLaterality")}
        for region in _items(ds, "AnatomicRegionSequence"):
            for modifier in _items(region, "AnatomicRegionModifierSequence"):
                code = sct_code(_text(modifier, "CodeValue"), _text(modifier, "CodingSchemeDesignator").upper())
                sides.add(known.side_of_code.get(code, ""))
    sides &= {"L", "R", "B"}
    is_unpaired = bool(parts) and not parts & known.paired
    if not sides and not is_unpaired:
        sides = {side for one in said for side in one.sides}
    if len(sides) == 1:
        return sides.pop()
    if sides:
        return "B"
    return "U" if is_unpaired else "NONE"


def _contrast(datasets: Sequence[Dataset], *, said: Sequence[_Said]) -> bool | None:
    """An agent in the header, else words; "with and without" is with."""
    known = vocabulary()
    agents = {_text(ds, "ContrastBolusAgent").upper() for ds in datasets} - {""}
    if agents - known.agent_not_given or any(_items(ds, "ContrastBolusAgentSequence") for ds in datasets):
        return True
    words = {given for one in said for given in one.contrast}
    if True in words:
        return True
    return False if words or agents else None


@lru_cache(maxsize=4096)
def _said(text: str) -> _Said:
    """What the words of a text say.

    In a Chinese run with unknown characters a single character is no word (手 in 手术), a body part before 科, 内科 or
    外科 is a department, and only a run that begins with words can state a side or contrast (张增强 is a person).
    """
    parts: set[str] = set()
    sides: set[str] = set()
    contrast: set[bool] = set()
    for run in runs_of(text, vocabulary()):
        is_loose = run.is_chinese and not run.is_whole
        is_start = True
        for piece, following in zip_longest(run.pieces, run.pieces[1:]):
            word = piece.word
            if word is None:
                is_start = False
                continue
            if is_loose and (
                len(piece.text) == 1 or (following and following.word is None and following.text in "科内外")
            ):
                continue
            parts |= word.parts
            if is_start or not run.is_chinese:
                sides |= {word.side} if word.side else set()
                contrast |= {word.contrast} if word.contrast is not None else set()
    return _Said(parts=frozenset(parts), sides=frozenset(sides), contrast=frozenset(contrast))


def _texts(ds: Dataset, keywords: Sequence[str]) -> list[str]:
    return [text for keyword in keywords if (text := _text(ds, keyword))]


def _text(ds: Dataset, keyword: str) -> str:
    try:
        value: Any = ds.get(keyword)
        if isinstance(value, MultiValue):
            value = value[0] if value else None
        return "" if value is None else str(value).strip()
    except Exception:  # a value that pydicom cannot decode
        return ""


def _items(ds: Dataset, keyword: str) -> list[Dataset]:
    try:
        return list(ds.get(keyword) or [])
    except Exception:  # not a sequence, or one that pydicom cannot parse
        return []
