"""Modality Performed Procedure Step as a notice of what a study has (PS3.4 F.7, PS3.3 C.4.13 to C.4.15).

N-CREATE opens a step, N-SET replaces attributes of it until it is completed or discontinued. Of the whole object only
the study, the status and the references to instances are kept; nothing is sent here.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset

from radlake.lake.pushed import Notice, StepStatus
from radlake.receive.data_sets import ATTRIBUTE_MISSING, INVALID_VALUE, PROCESSING_FAILURE, Refused

__all__ = ["MPPS", "notice_from_create", "notice_from_set"]

MPPS = "1.2.840.10008.3.1.2.3.3"


def notice_from_create(notice_uid: str, ds: Dataset) -> Notice:
    """What an N-CREATE tells.

    Raises
    ------
    Refused
        If it names no study, or begins with another status than IN PROGRESS (PS3.4 F.7.2.1.2).
    """
    studies = {str(step.get("StudyInstanceUID", "")) for step in ds.get("ScheduledStepAttributesSequence") or ()} - {""}
    if len(studies) != 1:
        raise Refused(ATTRIBUTE_MISSING if not studies else INVALID_VALUE)
    if ds.get("PerformedProcedureStepStatus") != StepStatus.IN_PROGRESS:
        raise Refused(INVALID_VALUE)
    return Notice(notice_uid, studies.pop(), StepStatus.IN_PROGRESS, _listed(ds))


def notice_from_set(known: Notice, ds: Dataset) -> Notice:
    """The notice after an N-SET: what it tells replaces what was told (PS3.4 F.7.2.2.2).

    Raises
    ------
    Refused
        If the step has ended, or the status is none.
    """
    if known.status is not StepStatus.IN_PROGRESS:
        raise Refused(PROCESSING_FAILURE)
    try:
        status = StepStatus(str(ds.get("PerformedProcedureStepStatus", known.status)))
    except ValueError as exc:
        raise Refused(INVALID_VALUE) from exc
    listed = _listed(ds)
    return Notice(known.notice_uid, known.study_uid, status, known.listed if listed is None else listed)


def _listed(ds: Dataset) -> frozenset[str] | None:
    """SOP Instance UIDs of the Performed Series Sequence; None when there is no such sequence."""
    if "PerformedSeriesSequence" not in ds:
        return None
    return frozenset(_references(ds)) - {""}


def _references(ds: Dataset) -> Iterator[str]:
    for series in ds.get("PerformedSeriesSequence") or ():
        for keyword in ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence"):
            for reference in series.get(keyword) or ():
                yield str(reference.get("ReferencedSOPInstanceUID", ""))
