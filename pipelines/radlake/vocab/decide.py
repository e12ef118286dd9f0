"""Decide what was examined from the evidence of a study: a ladder that lets evidences confirm and refine each other.

Codes come before Body Part Examined, that before descriptions. A later evidence that says the same more exactly (the
knee for an extremity) or more completely (chest and abdomen for a chest) is taken; one that says something else is a
contradiction, which is told. Pure: the same evidence and the same rules give the same facts.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from radlake.vocab.evidence import Evidence
from radlake.vocab.load import UNKNOWN, csv_rows, vocabulary
from radlake.vocab.rules import rules
from radlake.vocab.terms import modality_group_of

__all__ = ["ExamFacts", "decide"]

# Field of the evidence, and what it is called in the tables. Series speak only when nothing else does.
_LADDER = (
    ("region", "code"),
    ("procedure", "code"),
    ("examined", "body_part_examined"),
    ("study", "description"),
    ("step", "description"),
)
_SERIES = ("series", "description")
# Groups that one examination is called by: PET/CT is in the group PT and its CT series says CT.
_ALIKE = tuple(
    map(frozenset, (("PT", "CT"), ("PT", "MR"), ("PT", "NM"), ("NM", "CT"), ("XA", "RF"), ("XA", "DX"), ("RF", "DX"),
                    ("CT", "XA"), ("MG", "DX")))
)  # fmt: skip


@dataclass(frozen=True)
class ExamFacts:
    """Coded facts of one study.

    Attributes
    ----------
    modality_group : str
        Leading modality: PET/CT is PT, SPECT/CT is NM; by the descriptions when the headers name none; else UNKNOWN.
    modalities_in_study : str
        Listed terms of all series, sorted, joined by a backslash.
    body_part_code : str
        Body part of schemas/vocab/body_parts.yaml; several ones sorted and joined by "+"; or UNKNOWN.
    body_part_source : str
        Evidence that decided: code, body_part_examined, description, modality or none.
    laterality_code : str
        L, R, B (both), U (every part is unpaired), NONE (not stated).
    contrast_code : str
        WITH, WITHOUT, WITHOUT_AND_WITH or UNKNOWN.
    mado_region_code : str
        SNOMED CT codes of the regions of IHE RAD MADO, sorted and joined by "+"; or UNKNOWN.
    confidence_code : str
        HIGH: a standard code, or two evidences agree; MEDIUM: one evidence; LOW: evidences contradict each other, only
        series say it, or most of the description was not understood; NONE: unknown.
    conflict_code : str
        BODY_PART, CONTRAST, LATERALITY, MODALITY, sorted and joined by "+"; or NONE.
    loinc_code : str
        Code of schemas/vocab/loinc.csv, or NONE.
    vocab_version : int
        Version of the rules.
    """

    modality_group: str
    modalities_in_study: str
    body_part_code: str
    body_part_source: str
    laterality_code: str
    contrast_code: str
    mado_region_code: str
    confidence_code: str
    conflict_code: str
    loinc_code: str
    vocab_version: int

    @property
    def has_contrast(self) -> bool | None:
        """Contrast was given; None when nothing states it."""
        return None if self.contrast_code == UNKNOWN else self.contrast_code != "WITHOUT"

    @property
    def columns(self) -> dict[str, Any]:
        """The facts as columns of dicom.study."""
        return vars(self) | {"has_contrast": self.has_contrast}


@dataclass(frozen=True)
class _Parts:
    parts: frozenset[str]
    source: str
    n_agreeing: int
    is_conflict: bool


@lru_cache(maxsize=1 << 16)
def decide(evidence: Evidence) -> ExamFacts:
    """The facts that the evidence of a study amounts to."""
    known = vocabulary()
    group, group_conflict = _group(evidence)
    found = _body_parts(evidence, group)
    side, side_conflict = _laterality(evidence, found.parts)
    contrast, contrast_conflict = _contrast(evidence)
    conflicts = {
        "BODY_PART": found.is_conflict,
        "CONTRAST": contrast_conflict,
        "LATERALITY": side_conflict,
        "MODALITY": group_conflict,
    }
    code = "+".join(sorted(found.parts)) or UNKNOWN
    return ExamFacts(
        modality_group=group,
        modalities_in_study="\\".join(evidence.modalities) or UNKNOWN,
        body_part_code=code,
        body_part_source=found.source,
        laterality_code=side,
        contrast_code=contrast,
        mado_region_code="+".join(sorted({known.region_of[part] for part in found.parts})) or UNKNOWN,
        confidence_code=_confidence(evidence, found),
        conflict_code="+".join(name for name, is_so in conflicts.items() if is_so) or "NONE",
        loinc_code=_loinc(group, code, side, contrast),
        vocab_version=rules().version,
    )


def _group(evidence: Evidence) -> tuple[str, bool]:
    group, spoken = modality_group_of(evidence.modalities), evidence.spoken
    if not spoken:
        return group, False
    if group in ("OT", UNKNOWN):
        return spoken, False
    return group, group != spoken and not any(alike == {group, spoken} for alike in _ALIKE)


def _body_parts(evidence: Evidence, group: str) -> _Parts:
    parts: frozenset[str] = frozenset()
    source, n_agreeing, is_conflict = "none", 0, False
    for name, called in _LADDER:
        said = frozenset(getattr(evidence, name))
        if not said or (name == "step" and evidence.study):  # the step repeats the study, or names a protocol's folder
            continue
        if not parts:
            parts, source, n_agreeing = said, called, 1
        elif (agreed := _agreed(parts, said)) is None:
            is_conflict = True
        else:
            source = called if agreed != parts else source
            parts, n_agreeing = agreed, n_agreeing + 1
    if not parts and evidence.series:
        parts, source = frozenset(evidence.series), _SERIES[1]
    if not parts:
        terms = (*evidence.modalities, group)
        parts = frozenset(part for term in terms if (part := rules().part_of_modality.get(term)))
        source = "modality" if parts else "none"
    return _Parts(parts, source, n_agreeing, is_conflict)


def _agreed(first: frozenset[str], second: frozenset[str]) -> frozenset[str] | None:
    """The more exact or more complete one of two that do not contradict each other; None when they do."""
    if rules().everything in second or _explains(second, first):
        return second
    return first if _explains(first, second) else None


def _explains(exact: frozenset[str], rough: frozenset[str]) -> bool:
    """Every part of `rough` is one of `exact`, or a broader part that one of them lies in."""
    broader = rules().broader
    return all(any(part == one or part in broader.get(one, ()) for one in exact) for part in rough)


def _confidence(evidence: Evidence, found: _Parts) -> str:
    if not found.parts:
        return "NONE"
    if found.is_conflict:
        return "LOW"
    if found.n_agreeing > 1 or evidence.region:
        return "HIGH"
    is_rough = not found.n_agreeing and found.source == "description"
    is_partial = found.source == "description" and evidence.is_partial
    return "LOW" if is_rough or is_partial else "MEDIUM"


def _laterality(evidence: Evidence, parts: Collection[str]) -> tuple[str, bool]:
    """Coded sides first; words only for what is paired (a left lateral chest view is not a left chest)."""
    is_unpaired = bool(parts) and not evidence.is_paired and not vocabulary().paired & set(parts)
    said = set() if is_unpaired else set(evidence.study_side or evidence.series_side)
    coded = set(evidence.side)
    sides = coded or said
    if not sides:
        return "U" if is_unpaired else "NONE", False
    is_conflict = bool(coded and said) and _one(coded) != _one(said) and "B" not in (_one(coded), _one(said))
    return _one(sides), is_conflict


def _one(sides: Collection[str]) -> str:
    return next(iter(sides)) if len(sides) == 1 else "B"


def _contrast(evidence: Evidence) -> tuple[str, bool]:
    """Words and the agent of the header; an agent named NONE gives way to words, since many devices always write it."""
    words = {*evidence.study_contrast, *evidence.series_contrast}
    agent = set(evidence.agent)
    said = words | agent if "WITH" in agent else words or agent
    if said == {"WITH", "WITHOUT"}:
        code = "WITHOUT_AND_WITH" if words == said or words == {"WITH"} else "WITH"
    else:
        code = next(iter(said), UNKNOWN)
    is_conflict = (agent == {"WITH"} and words == {"WITHOUT"}) or (agent == {"WITHOUT"} and "WITH" in words)
    return code, is_conflict


def _loinc(group: str, part: str, side: str, contrast: str) -> str:
    table = _loinc_table()
    keys = [(group, part, s, c) for s in (side, "ANY") for c in (contrast, "ANY")]
    return next((table[key] for key in keys if key in table), "NONE")


@cache
def _loinc_table() -> dict[tuple[str, str, str, str], str]:
    return {
        (row["modality_group"], row["body_part_code"], row["laterality_code"], row["contrast_code"]): row["loinc_code"]
        for row in csv_rows("loinc")
    }
