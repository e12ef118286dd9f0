"""Modality Performed Procedure Step as a notice of what a study has (PS3.4 F.7, PS3.3 C.4.13 to C.4.15).

N-CREATE opens a step, N-SET replaces attributes of it until it is completed or discontinued. Of the whole object only
the study, the status and the references to instances are kept; nothing is sent here.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from pydicom import Dataset
from pydicom.filereader import read_dataset

from radlake.lake.pushed import Notice, StepStatus

__all__ = [
    "ATTRIBUTE_MISSING",
    "DUPLICATE_INSTANCE",
    "INVALID_VALUE",
    "MPPS",
    "NO_SUCH_INSTANCE",
    "PROCESSING_FAILURE",
    "MppsRefused",
    "data_set_of",
    "notice_from_create",
    "notice_from_set",
]

MPPS = "1.2.840.10008.3.1.2.3.3"

INVALID_VALUE, PROCESSING_FAILURE, DUPLICATE_INSTANCE, NO_SUCH_INSTANCE, ATTRIBUTE_MISSING = (
    0x0106,
    0x0110,
    0x0111,
    0x0112,
    0x0120,
)


class MppsRefused(Exception):
    """The step cannot be created or changed so.

    Attributes
    ----------
    status : int
        Of the response (PS3.7 Annex C).
    """

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"0x{status:04X}")


def data_set_of(data: bytes, *, is_implicit: bool) -> Dataset:
    """A data set that came with a message, in little endian.

    Raises
    ------
    MppsRefused
        If it cannot be read.
    """
    try:
        ds = read_dataset(io.BytesIO(data), is_implicit, True, bytelength=len(data))
        ds.walk(lambda *_: None)  # values are read at their first use: here, or never
    except Exception as exc:  # pydicom raises whatever its reader meets
        raise MppsRefused(PROCESSING_FAILURE) from exc
    return ds


def notice_from_create(notice_uid: str, ds: Dataset) -> Notice:
    """What an N-CREATE tells.

    Raises
    ------
    MppsRefused
        If it names no study, or begins with another status than IN PROGRESS (PS3.4 F.7.2.1.2).
    """
    studies = {str(step.get("StudyInstanceUID", "")) for step in ds.get("ScheduledStepAttributesSequence") or ()} - {""}
    if len(studies) != 1:
        raise MppsRefused(ATTRIBUTE_MISSING if not studies else INVALID_VALUE)
    if ds.get("PerformedProcedureStepStatus") != StepStatus.IN_PROGRESS:
        raise MppsRefused(INVALID_VALUE)
    return Notice(notice_uid, studies.pop(), StepStatus.IN_PROGRESS, _listed(ds))


def notice_from_set(known: Notice, ds: Dataset) -> Notice:
    """The notice after an N-SET: what it tells replaces what was told (PS3.4 F.7.2.2.2).

    Raises
    ------
    MppsRefused
        If the step has ended, or the status is none.
    """
    if known.status is not StepStatus.IN_PROGRESS:
        raise MppsRefused(PROCESSING_FAILURE)
    try:
        status = StepStatus(str(ds.get("PerformedProcedureStepStatus", known.status)))
    except ValueError as exc:
        raise MppsRefused(INVALID_VALUE) from exc
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
