"""Whether a result may come home: object, provenance and release have to agree, and nothing else may be told in it.

Every problem is told at once, by place; a value of the object never is.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import xxhash
from pydicom._uid_dict import UID_dictionary

from radlake.cohort.results.persons import Persons
from radlake.cohort.results.provenance import ProvenanceInvalid, provenance_text, read_provenance
from radlake.cohort.results.referred import Referred, SourceSeries
from radlake.referee import Instance, Unreadable, judge_derived, telltales_in

__all__ = ["KINDS", "ResultRefused", "checked_content", "checked_provenance"]

# kind -> storage SOP classes (PS3.4 B.5)
KINDS: Mapping[str, tuple[str, ...]] = {
    "segmentation": ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"),
    "parametric_map": ("1.2.840.10008.5.1.4.1.1.30",),
    "measurements": (
        "1.2.840.10008.5.1.4.1.1.88.22",
        "1.2.840.10008.5.1.4.1.1.88.33",
        "1.2.840.10008.5.1.4.1.1.88.34",
    ),
    "key_images": ("1.2.840.10008.5.1.4.1.1.88.59",),
}

_META_INSTANCE = 0x00020003
_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_PATIENT_NAME, _PATIENT_ID = 0x00100010, 0x00100020
_REFERENCED_INSTANCE, _FRAME_OF_REFERENCE, _REFERENCED_FRAME = 0x00081155, 0x00200052, 0x30060024
_BURNED_IN, _RECOGNIZABLE = 0x00280301, 0x00280302
_TEMPLATE = re.compile(r"\(0040,A504\)\[\d+\]>\(0040,DB00\)")
# UIDs that whoever makes an object makes: implementation, creator, dimensions, tracking, and UIDREF of an SR.
_MADE_UIDS = frozenset([0x00020012, 0x00080014, 0x00209164, 0x00209161, 0x00620021, 0x0040A124])
# Patient, study and where it was made: groups as a whole, and attributes of the study and of equipment.
_GROUPS_OF_SOURCE = frozenset([0x0010, 0x0032, 0x0038])
_OF_SOURCE = frozenset(
    [0x00080020, 0x00080030, 0x00080050, 0x00080080, 0x00080081, 0x00080090, 0x00080092, 0x00080094, 0x00081010,
     0x00081030, 0x00081040, 0x00081080, 0x00120062, 0x00120063, 0x00200010, 0x00204000]
)  # fmt: skip


class ResultRefused(Exception):
    """Why an object stays where it lies."""


def checked_provenance(path: Path, *, release_id: str, digests: Collection[str]) -> dict[str, Any]:
    """The provenance beside an object, which is of this release and of a kind that is taken.

    Parameters
    ----------
    digests : collection of str
        Of the release as it was approved: now, and before somebody was withdrawn from it.

    Raises
    ------
    ResultRefused
    """
    try:
        told = read_provenance(path.with_suffix(".json"))
    except ProvenanceInvalid as exc:
        raise ResultRefused(str(exc)) from None
    problems = []
    if told["release_id"] != release_id:
        problems.append(f"it was made from another release than {release_id}")
    elif told["release_digest"] not in digests:
        problems.append(f"{release_id} was never approved as what its provenance tells: release_digest is another")
    if told["kind"] not in KINDS:
        problems.append(f"its kind is none of {', '.join(KINDS)}")
    elif told["sop_class_uid"] not in KINDS[told["kind"]]:
        problems.append(f"its SOP Class is none of {told['kind']}")
    kinds = telltales_in(provenance_text(told).encode(), vr="UT")
    problems += [f"its provenance has what looks like a {kind}" for kind in sorted(kinds)]
    _refuse(problems)
    return told


def checked_content(data: bytes | mmap.mmap, told: Mapping[str, Any], referred: Referred, persons: Persons) -> None:
    """Hold a whole Part-10 file against its provenance, the release, and what the vault knows of its persons.

    Raises
    ------
    ResultRefused
        With all problems.
    Damaged, SourceMissing
        If the release itself cannot be read.
    """
    source = referred.series(told["source_series_instance_uid"])
    if source is None:
        raise ResultRefused(f"it refers to a series that is not in {told['release_id']}")
    problems, person = [*_provenance_problems(told, source, referred)], source.row["person_pseudo_id"]
    if _digest(data) != told["digest"]:
        problems.append("its digest is not that of its provenance: it was changed after it was written")
    try:
        instance, findings = judge_derived(data, source.head, searchers=persons.searchers(person), owner=person)
    except Unreadable as exc:
        raise ResultRefused("; ".join([*problems, f"it cannot be read as DICOM Part 10: {exc}"])) from None
    problems += [f"{one.rule} at {one.path} {one.kind}".strip() for one in findings]
    problems += _object_problems(instance, told, source)
    kinds = persons.told_in(provenance_text(told), person=person)
    problems += [f"its provenance tells who somebody of the release is: {kind}" for kind in sorted(kinds)]
    _refuse(problems)


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ResultRefused("; ".join(dict.fromkeys(problems)))


def _digest(data: bytes | mmap.mmap) -> str:
    state = xxhash.xxh3_128()
    with memoryview(data) as view:
        state.update(view)
    return state.hexdigest()


def _provenance_problems(told: Mapping[str, Any], source: SourceSeries, referred: Referred) -> Iterator[str]:
    for name in ("person_pseudo_id", "study_instance_uid"):
        if told[name] != source.row[name]:
            yield f"{name} of its provenance is not that of its source series"
    if told["source_object_digest"] != source.row["object_digest"]:
        yield "its source series has other content in this release"
    if not source.sop_uids.issuperset(told["source_sop_instance_uids"]):
        yield "its provenance names instances that are not of its source series"
    if {told["sop_instance_uid"], told["series_instance_uid"]} & referred.own_uids:
        yield "it bears the UID of an instance or a series of the release: give it UIDs of its own"


def _object_problems(instance: Instance, told: Mapping[str, Any], source: SourceSeries) -> Iterator[str]:
    same = {
        _SOP_CLASS: told["sop_class_uid"],
        _SOP_INSTANCE: told["sop_instance_uid"],
        _SERIES: told["series_instance_uid"],
        _STUDY: told["study_instance_uid"],
        _PATIENT_ID: told["person_pseudo_id"],
        _PATIENT_NAME: told["person_pseudo_id"],
    }
    for tag, expected in same.items():
        if instance.text(tag) != expected:
            yield f"{_place(tag)} is not what its provenance tells"
    if told["kind"] == "measurements" and "1500" not in _templates(instance):
        yield "it is no SR by TID 1500"
    for tag in (_BURNED_IN, _RECOGNIZABLE):
        if instance.text(tag) == "YES":
            yield f"{_place(tag)} says that its pixels tell who somebody is"
    yield from _uid_problems(instance, told, source)
    for value in instance.values:
        is_of_source = value.tag in _OF_SOURCE or value.tag >> 16 in _GROUPS_OF_SOURCE
        if is_of_source and value.tag not in same and value.text not in ("", _text_at(source.head, value.path)):
            yield f"{value.path} is not what the images of the release tell"


def _templates(instance: Instance) -> set[str]:
    return {value.text for value in instance.values if _TEMPLATE.fullmatch(value.path)}


def _uid_problems(instance: Instance, told: Mapping[str, Any], source: SourceSeries) -> Iterator[str]:
    """Every UID is one that the standard registers, the object's own, or one that its provenance refers to."""
    allowed: dict[int, set[str]] = {}
    for value in source.head.values:
        if value.vr == "UI":
            allowed.setdefault(value.tag, set()).update(_uids(value.text))
    more = {
        _META_INSTANCE: {told["sop_instance_uid"]},
        _SOP_INSTANCE: {told["sop_instance_uid"]},
        _SERIES: {told["series_instance_uid"]},
        _REFERENCED_INSTANCE: set(told["source_sop_instance_uids"]),
        _REFERENCED_FRAME: allowed.get(_FRAME_OF_REFERENCE, set()),
    }
    for value in instance.values:
        if value.vr != "UI" or value.tag in _MADE_UIDS:
            continue
        foreign = _uids(value.text) - allowed.get(value.tag, set()) - more.get(value.tag, set())
        if not all(uid in UID_dictionary for uid in foreign):
            yield f"{value.path} refers to what is not in its provenance"


def _uids(text: str) -> set[str]:
    return {uid.strip(" \0") for uid in text.split("\\")} - {""}


def _text_at(instance: Instance, path: str) -> str:
    return next((value.text for value in instance.values if value.path == path), "")


def _place(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
