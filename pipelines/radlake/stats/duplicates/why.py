"""Why one exam is counted as a repeat, or is not: the exams that were considered, and every exclusion.

Pure, over the exams of one person, by comparing them one by one; it shares no code with `sequence` and `pairs`, so that
an auditor who asks for one exam also checks the count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from radlake.stats.duplicates.codes import ground_bits
from radlake.stats.duplicates.packs import Exclusion, RulePack, Windows

__all__ = ["Considered", "Explanation", "Looked", "PackVerdict", "PersonExam", "explain"]


_SIDES = "LRB"  # in the order of side_code; any other is 0


@dataclass(frozen=True, kw_only=True)
class PersonExam:
    """An exam of one person in true time, with what is on record of it.

    Attributes
    ----------
    encounter_code : int
        Number of the encounter in core.exam_sequence; it orders exams of one second.
    """

    hospital_id: str
    exam_pseudo_id: str
    at: datetime | None
    modality_group: str
    body_part_code: str
    laterality_code: str
    is_patient_known: bool = True
    encounter_pseudo_id: str | None = None
    encounter_code: int = 0
    ground_codes: frozenset[str] = frozenset()
    operation_days: int | None = None
    evidence_source: str = ""
    region_code: str = "UNKNOWN"
    hospital_level: str = "UNKNOWN"


@dataclass(frozen=True)
class Considered:
    """Another exam of the person, and why it is or is not the one that is repeated."""

    exam: PersonExam
    days: int | None
    verdict: str


@dataclass(frozen=True)
class Looked:
    """An exclusion that was looked at: whose record, what it says, whether it applies."""

    code: str
    told_by: str
    evidence: str
    applies: bool


@dataclass(frozen=True)
class PackVerdict:
    """Class of the pair by one rule pack, and in which windows the exam counts as what."""

    rule_pack: str
    class_: str
    looked: tuple[Looked, ...]


@dataclass(frozen=True)
class Explanation:
    """The whole answer about one exam.

    Attributes
    ----------
    unmatchable : str
        Why the exam cannot match at all; empty when it can.
    days : int or None
        Calendar days from the exam that is repeated to this one.
    windows : tuple of int
        Windows in days that the gap lies in.
    """

    exam: PersonExam
    unmatchable: str
    considered: tuple[Considered, ...]
    earlier: PersonExam | None
    days: int | None
    windows: tuple[int, ...]
    is_side_unknown: bool
    packs: tuple[PackVerdict, ...] = field(default=())


def explain(
    exam: PersonExam, others: Sequence[PersonExam], *, packs: Mapping[str, RulePack], windows: Windows
) -> Explanation:
    """Explain one exam; `others` are all other exams of the person, in any order."""
    n_exams = sum(one.at is not None for one in (exam, *others))
    unmatchable = _unmatchable(exam, n_exams=n_exams, windows=windows)
    order = _order((exam, *others))
    considered = [_consider(exam, other, is_earlier=order[other] < order[exam]) for other in others]
    considered.sort(key=lambda one: order[one.exam], reverse=True)
    fitting = [one for one in considered if one.verdict == "fits"]
    latest = None if unmatchable or not fitting else fitting[0]
    told = tuple(
        Considered(one.exam, one.days, "repeated by this exam" if one is latest else _not_latest(one, latest))
        for one in considered
    )
    if latest is None or latest.days is None:
        return Explanation(exam, unmatchable, told, None, None, (), is_side_unknown=False)
    earlier, days = latest.exam, latest.days
    return Explanation(
        exam,
        unmatchable,
        told,
        earlier,
        days,
        tuple(window for window in windows.days if days <= window),
        is_side_unknown={exam.laterality_code, earlier.laterality_code} & {"L", "R"} != set()
        and {exam.laterality_code, earlier.laterality_code} & {"NONE", "U"} != set(),
        packs=tuple(_judge(name, pack, exam, earlier, days) for name, pack in packs.items()),
    )


def _unmatchable(exam: PersonExam, *, n_exams: int, windows: Windows) -> str:
    if exam.at is None:
        return "the exam has no date"
    if not exam.is_patient_known:
        return "the person is not known"
    if exam.body_part_code == "UNKNOWN":
        return "the body part is not known"
    if n_exams > windows.max_person_exams:
        return f"the person has {n_exams:,} exams: a number that many persons share"
    return ""


def _order(exams: Sequence[PersonExam]) -> dict[PersonExam, tuple[object, ...]]:
    """What exams are put in order by: whole seconds, and of one second what the sequence is sorted by."""
    records = ground_bits(["+".join(exam.ground_codes) for exam in exams])
    return {
        exam: (
            exam.at is not None,
            (exam.at or datetime.min).replace(microsecond=0),
            exam.region_code if exam.region_code == "UNKNOWN" else exam.region_code[:4],
            exam.hospital_level,
            exam.hospital_id,
            exam.encounter_code,
            _SIDES.find(exam.laterality_code) + 1,
            bits,
            -1 if exam.operation_days is None else exam.operation_days,
            exam.exam_pseudo_id,
        )
        for exam, bits in zip(exams, records, strict=True)
    }


def _consider(exam: PersonExam, other: PersonExam, *, is_earlier: bool) -> Considered:
    days = (exam.at.date() - other.at.date()).days if exam.at and other.at else None
    if other.at is None or days is None or exam.at is None:
        return Considered(other, days, "has no date")
    if not is_earlier:
        return Considered(other, days, "is not earlier")
    if other.modality_group != exam.modality_group:
        same = other.body_part_code == exam.body_part_code
        return Considered(other, days, "is of another modality" + (": supplementary" if same else ""))
    if other.body_part_code != exam.body_part_code:
        return Considered(other, days, "is of another body part")
    if {other.laterality_code, exam.laterality_code} == {"L", "R"}:
        return Considered(other, days, "is of the other side")
    if not other.is_patient_known:
        return Considered(other, days, "is of a person who is not known")
    return Considered(other, days, "fits")


def _not_latest(one: Considered, latest: Considered | None) -> str:
    if one.verdict != "fits":
        return one.verdict
    return "fits, but a later one does too" if latest else "fits, but this exam cannot match"


def _judge(name: str, pack: RulePack, exam: PersonExam, earlier: PersonExam, days: int) -> PackVerdict:
    if days == 0:
        return PackVerdict(name, "same_episode: done on the same day", ())
    if exam.encounter_pseudo_id is not None and (exam.encounter_pseudo_id, exam.hospital_id) == (
        earlier.encounter_pseudo_id,
        earlier.hospital_id,
    ):
        return PackVerdict(name, "same_episode: done in the same encounter", ())
    looked = tuple(_look(exclusion, exam, earlier) for exclusion in pack.exclusions)
    for exclusion, found in zip(pack.exclusions, looked, strict=True):
        if found.applies:
            class_ = exclusion.class_ if exclusion.class_ == "follow_up" else f"justified({found.code})"
            return PackVerdict(name, class_, looked)
    return PackVerdict(name, "duplicative_potential", looked)


def _look(exclusion: Exclusion, exam: PersonExam, earlier: PersonExam) -> Looked:
    ground = exclusion.ground
    told_by = exam if ground.of == "later" else earlier
    applies = ground.code in told_by.ground_codes
    source = told_by.evidence_source or "nothing on record"
    evidence = f"on record ({source})" if applies else "not on record"
    if exclusion.operation_within_days is not None:
        limit, operation = exclusion.operation_within_days, exam.operation_days
        if operation is None:
            evidence += ", no operation known"
        else:
            near = 0 <= operation <= limit
            evidence += f", operation {operation} days later, {'within' if near else 'beyond'} {limit}"
            applies = applies or near
    return Looked(ground.code, told_by.exam_pseudo_id, evidence, applies)
