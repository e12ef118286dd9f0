"""Storage Commitment Push Model: what is asked and what is answered (PS3.4 Annex J, PS3.3 C.14). Pure.

Who asks and how the result reaches him is in `commitments`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import IntEnum

from pydicom import Dataset

from radlake.lake.commitments import CommitmentRequest
from radlake.net.instance_files import is_file_name
from radlake.net.message import Command
from radlake.receive.data_sets import INVALID_ARGUMENT, NO_SUCH_ACTION, NO_SUCH_INSTANCE, Refused

__all__ = ["ALL_COMMITTED", "SOME_FAILED", "STORAGE_COMMITMENT", "WELL_KNOWN", "Failure", "failures", "read", "result"]

STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
WELL_KNOWN = "1.2.840.10008.1.20.1.1"  # the one SOP Instance of the class (PS3.4 J.3.5)
ALL_COMMITTED, SOME_FAILED = 1, 2  # event types (PS3.4 J.3.3.1.1)
_REQUEST = 1  # action type (PS3.4 J.3.2.1.1)


class Failure(IntEnum):
    """Failure Reason (0008,1197), PS3.3 C.14.1.1."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_CONFLICT = 0x0119


def read(command: Command, ds: Dataset, *, hospital_id: str, ae_title: str) -> CommitmentRequest:
    """What an N-ACTION asks.

    Raises
    ------
    Refused
        If it asks something else, or does not say for what.
    """
    if command.get("ActionTypeID") != _REQUEST:
        raise Refused(NO_SUCH_ACTION)
    if command.get("RequestedSOPInstanceUID") != WELL_KNOWN:
        raise Refused(NO_SUCH_INSTANCE)
    references = ds.get("ReferencedSOPSequence") or ()
    wanted = {
        str(one.get("ReferencedSOPInstanceUID", "")): str(one.get("ReferencedSOPClassUID", "")) for one in references
    }
    transaction_uid = str(ds.get("TransactionUID", ""))
    if not wanted or "" in wanted or not is_file_name(transaction_uid):
        raise Refused(INVALID_ARGUMENT)
    return CommitmentRequest(hospital_id, transaction_uid, ae_title, wanted)


def failures(request: CommitmentRequest, *, held: Mapping[str, str], set_aside: Collection[str]) -> dict[str, Failure]:
    """Why we are not committed to some of the instances; none for the others.

    Parameters
    ----------
    held : mapping
        SOP Class UID by SOP Instance UID of what is durable in the spool or stored in the lake.
    set_aside : collection of str
        SOP Instance UIDs of what lies in quarantine: kept, but nobody knows whether it will ever be stored.
    """
    found: dict[str, Failure] = {}
    for uid, sop_class in request.wanted.items():
        if uid in set_aside:
            found[uid] = Failure.PROCESSING_FAILURE
        elif uid not in held:
            found[uid] = Failure.NO_SUCH_INSTANCE
        elif held[uid] != sop_class:
            found[uid] = Failure.CLASS_CONFLICT
    return found


def result(request: CommitmentRequest, failed: Mapping[str, Failure]) -> Dataset:
    """Event information of the N-EVENT-REPORT (PS3.4 Table J.3-2)."""
    ds = Dataset()
    ds.TransactionUID = request.transaction_uid
    committed = [_item(uid, name) for uid, name in request.wanted.items() if uid not in failed]
    if committed:
        ds.ReferencedSOPSequence = committed
    if failed:
        ds.FailedSOPSequence = [_item(uid, request.wanted[uid], reason) for uid, reason in failed.items()]
    return ds


def _item(uid: str, sop_class: str, reason: Failure | None = None) -> Dataset:
    ds = Dataset()
    ds.ReferencedSOPClassUID, ds.ReferencedSOPInstanceUID = sop_class, uid
    if reason is not None:
        ds.FailureReason = int(reason)
    return ds
