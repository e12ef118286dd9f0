"""What the headers of a study say about the examination, source by source: codes of the vocabulary, never their text.

Nothing is decided here: `decide` weighs the sources. The evidence goes into the lake with the study, so that newer
rules can decide again and people can see what contradicts what.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue

from radlake.vocab.load import UNKNOWN, sct_code, vocabulary
from radlake.vocab.reading import Reading, put_together, read
from radlake.vocab.terms import modality_group_of, modality_term

__all__ = ["Evidence", "evidence_from_json", "evidence_of", "evidence_of_texts", "evidence_to_json", "texts_of"]

_PROCEDURE_CODES = ("ProcedureCodeSequence", "RequestedProcedureCodeSequence", "PerformedProtocolCodeSequence")
_REQUEST_CODES = ("RequestedProcedureCodeSequence", "ScheduledProtocolCodeSequence")
_STUDY_TEXTS = ("StudyDescription", "RequestedProcedureDescription")
_STEP_TEXTS = ("PerformedProcedureStepDescription", "ScheduledProcedureStepDescription")
_SERIES_TEXTS = ("ProtocolName", "SeriesDescription")
_SIDES = ("Laterality", "ImageLaterality", "FrameLaterality")


@dataclass(frozen=True)
class Evidence:
    """Statements of one study; each field is sorted codes.

    Attributes
    ----------
    modalities : tuple of str
        Listed terms of Modality of all series.
    region, procedure, examined, study, step, series : tuple of str
        Body parts by Anatomic Region Sequence, procedure and protocol codes, Body Part Examined, the descriptions of
        the study and its request, of the step, of the series.
    side, study_side, series_side : tuple of str
        L, R, B: of the header's attributes and codes, of the descriptions.
    agent, study_contrast, series_contrast : tuple of str
        WITH, WITHOUT: of Contrast/Bolus Agent, of the descriptions.
    spoken : str
        Modality group that the descriptions name; "" when they name none.
    is_paired : bool
        A description names something paired of a part that is not (左侧颈动脉).
    is_partial : bool
        More of a description of the study was not understood than was.
    """

    modalities: tuple[str, ...] = ()
    region: tuple[str, ...] = ()
    procedure: tuple[str, ...] = ()
    examined: tuple[str, ...] = ()
    study: tuple[str, ...] = ()
    step: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    side: tuple[str, ...] = ()
    study_side: tuple[str, ...] = ()
    series_side: tuple[str, ...] = ()
    agent: tuple[str, ...] = ()
    study_contrast: tuple[str, ...] = ()
    series_contrast: tuple[str, ...] = ()
    spoken: str = ""
    is_paired: bool = False
    is_partial: bool = False


def evidence_of(datasets: Sequence[Dataset]) -> Evidence:
    """Evidence of a study, from one data set of each of its series.

    Objects derived from images (reports, segmentations, presentation states) say nothing when an image series is
    there. A value that cannot be decoded counts as absent.
    """
    known = vocabulary()
    terms = [modality_term(_text(ds, "Modality")) for ds in datasets]
    images = [ds for ds, term in zip(datasets, terms, strict=True) if term not in known.derived_modalities]
    evidence = images or list(datasets)
    group = _group(terms)
    return _of_readings(
        terms,
        study=[read(text, group) for text in texts_of(evidence, _STUDY_TEXTS)],
        step=[read(text, group) for text in texts_of(evidence, _STEP_TEXTS)],
        series=[read(text, group) for text in texts_of(evidence, _SERIES_TEXTS)],
        procedure=[read(text, group) for text in dict.fromkeys(_code_meanings(evidence))],
        region=_sorted(_region(item) for ds in evidence for item in _items(ds, "AnatomicRegionSequence")),
        examined=_sorted(_examined(_text(ds, "BodyPartExamined"), group) for ds in evidence),
        side=_sorted(map(_sides, evidence)),
        agent=_agent(evidence),
    )


def evidence_of_texts(descriptions: Sequence[str], *, modalities: Sequence[str]) -> Evidence:
    """Evidence of an exam of which only descriptions of the study or order are known."""
    terms = [modality_term(modality) for modality in modalities]
    return _of_readings(terms, study=[read(text, _group(terms)) for text in descriptions])


def _group(terms: Sequence[str]) -> str:
    """Modality group that descriptions are read for; "" when the headers name none."""
    group = modality_group_of(terms)
    return "" if group in ("OT", UNKNOWN) else group


def _of_readings(
    terms: Sequence[str],
    *,
    study: Sequence[Reading],
    step: Sequence[Reading] = (),
    series: Sequence[Reading] = (),
    procedure: Sequence[Reading] = (),
    **coded: tuple[str, ...],
) -> Evidence:
    said = [*study, *step, *procedure, *series]
    return Evidence(
        modalities=tuple(sorted(set(terms))),
        procedure=_parts(procedure),
        study=_parts(study),
        step=_parts(step),
        series=_parts(series),
        study_side=_sorted(one.sides for one in (*study, *step, *procedure)),
        series_side=_sorted(one.sides for one in series),
        study_contrast=_contrast((*study, *step, *procedure)),
        series_contrast=_contrast(series),
        spoken=next((one.modality for one in said if one.modality), ""),
        is_paired=any(one.is_paired for one in said if one.parts),
        is_partial=any(one.is_partial for one in study),
        **coded,
    )


def evidence_to_json(evidence: Evidence) -> str:
    """Compact and equal for equal evidence; what is empty is left out."""
    return json.dumps({name: value for name, value in asdict(evidence).items() if value}, separators=(",", ":"))


def evidence_from_json(text: str) -> Evidence:
    """The evidence of a row of dicom.study; fields that this version does not know are left out."""
    names = {field.name for field in fields(Evidence)}
    given = {name: value for name, value in json.loads(text).items() if name in names}
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return Evidence(**values)


def texts_of(datasets: Sequence[Dataset], keywords: Sequence[str] = (*_STUDY_TEXTS, *_STEP_TEXTS)) -> list[str]:
    """Distinct descriptions, those of the requests (Request Attributes Sequence) too, in order."""
    places = [place for ds in datasets for place in (ds, *_items(ds, "RequestAttributesSequence"))]
    return list(dict.fromkeys(text for place in places for keyword in keywords if (text := _text(place, keyword))))


def _region(item: Dataset) -> frozenset[str]:
    """Anatomic Region Sequence (PS3.3 10.5), by code; the meaning of a local code is read as words."""
    code = sct_code(_text(item, "CodeValue"), _text(item, "CodingSchemeDesignator").upper())
    return vocabulary().part_of_code.get(code) or read(_text(item, "CodeMeaning")).parts


def _code_meanings(datasets: Iterable[Dataset]) -> list[str]:
    """Procedure codes are local nearly everywhere: the Code Meaning, which comes with the code, is read as words."""
    items = [
        item
        for ds in datasets
        for place, keywords in (
            (ds, _PROCEDURE_CODES),
            *((request, _REQUEST_CODES) for request in _items(ds, "RequestAttributesSequence")),
        )
        for keyword in keywords
        for item in _items(place, keyword)
    ]
    return [_text(item, "CodeMeaning") for item in items if _text(item, "CodeValue")]


def _examined(value: str, group: str) -> frozenset[str]:
    """Body Part Examined: a defined term of PS3.16 Annex L, or whatever was typed."""
    squeezed = "".join(char for char in value.upper() if char.isalnum())
    return vocabulary().part_of_term.get(squeezed) or read(value, group).parts


def _sides(ds: Dataset) -> frozenset[str]:
    known = vocabulary()
    sides = {_text(ds, keyword).upper() for keyword in _SIDES}
    for region in _items(ds, "AnatomicRegionSequence"):
        for modifier in _items(region, "AnatomicRegionModifierSequence"):
            code = sct_code(_text(modifier, "CodeValue"), _text(modifier, "CodingSchemeDesignator").upper())
            sides.add(known.side_of_code.get(code, ""))
    return frozenset(sides & {"L", "R", "B"})


def _agent(datasets: Sequence[Dataset]) -> tuple[str, ...]:
    """Contrast/Bolus Agent (0018,0010) and its sequence; many devices write NONE into it."""
    agents = {_text(ds, "ContrastBolusAgent").upper() for ds in datasets} - {""}
    if agents - vocabulary().agent_not_given or any(_items(ds, "ContrastBolusAgentSequence") for ds in datasets):
        return ("WITH",)
    return ("WITHOUT",) if agents else ()


def _contrast(readings: Iterable[Reading]) -> tuple[str, ...]:
    return tuple(sorted({"WITH" if given else "WITHOUT" for one in readings for given in one.contrast}))


def _parts(readings: Iterable[Reading]) -> tuple[str, ...]:
    return tuple(sorted(put_together(part for one in readings for part in one.parts)))


def _sorted(found: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(sorted({one for several in found for one in several}))


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
