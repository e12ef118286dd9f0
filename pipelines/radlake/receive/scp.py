"""What hospitals push over DIMSE: C-STORE into the spool, and MPPS as notices (PS3.4 B, F.7)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence

from pydicom.uid import generate_uid

from radlake import log
from radlake.dicom.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from radlake.errors import StoreFull
from radlake.lake.pushed import Notice, PushRecords
from radlake.machine import utc_now
from radlake.net import Hospital
from radlake.net.connection import AssociationLost
from radlake.net.contexts import choose_transfer_syntax
from radlake.net.delivery import Delivery
from radlake.net.message import SUCCESS, Command, Field, encode_command, has_data_set
from radlake.net.pdu import Context, Refusal, Rejection
from radlake.net.storage_scp import Sender
from radlake.net.upper_layer import Association
from radlake.receive import mpps
from radlake.receive.senders import Senders
from radlake.receive.spool import PushSpool

__all__ = ["Reception"]

_OUT_OF_RESOURCES, _CANNOT_UNDERSTAND = 0xA700, 0xC000
_LARGEST_NOTICE = 16 << 20  # 16 MB: more than 100,000 references
_SYNTAXES = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
_ANSWERS = {Field.N_CREATE_RQ: Field.N_CREATE_RSP, Field.N_SET_RQ: Field.N_SET_RSP}


class Reception:
    """Decides who may send to our storage SCP, and where it goes; used by many threads.

    Parameters
    ----------
    told : callable
        Called with hospital and study when a notice was kept.
    """

    def __init__(
        self, senders: Senders, spool: PushSpool, records: PushRecords, *, told: Callable[[str, str], None]
    ) -> None:
        self.senders, self.spool, self.records, self.told = senders, spool, records, told
        self._n_open: Counter[str] = Counter()
        self._lock = threading.Lock()

    def admit(self, calling: str, address: str) -> Sender | Rejection:
        hospital = self.senders.of_association(calling, address)
        if hospital is None or hospital.push is None:
            log.get_logger().warning("sender_refused", reason=f"{calling!r} at {address} is a sender of no hospital")
            return Rejection.CALLING_AE_TITLE
        name = hospital.hospital_id
        with self._lock:
            if self._n_open[name] >= hospital.push.max_associations:
                log.get_logger().warning("sender_refused", hospital=name, reason="max_associations are open")
                return Rejection.LOCAL_LIMIT
            self._n_open[name] += 1
        return _Sender(self, hospital)

    def left(self, hospital_id: str) -> None:
        with self._lock:
            self._n_open[hospital_id] -= 1


class _Sender:
    """One association of a hospital."""

    def __init__(self, reception: Reception, hospital: Hospital) -> None:
        self._reception, self._hospital = reception, hospital.hospital_id

    def choose(self, abstract_syntax: str, offered: Sequence[str]) -> str | Refusal:
        if abstract_syntax == mpps.MPPS:
            return next((uid for uid in offered if uid in _SYNTAXES), Refusal.TRANSFER_SYNTAXES)
        return choose_transfer_syntax(abstract_syntax, offered)

    def delivery(self, study_uid: str) -> Delivery | int:
        if not study_uid:
            log.get_logger().warning("instance_refused", hospital=self._hospital, reason="no Study Instance UID")
            return _CANNOT_UNDERSTAND
        try:
            return self._reception.spool.intake(self._hospital, study_uid)
        except StoreFull:
            return _OUT_OF_RESOURCES

    def perform(self, assoc: Association, context: Context, command: Command) -> bool:
        answer = _ANSWERS.get(Field(command["CommandField"])) if command["CommandField"] in _ANSWERS else None
        if answer is None or context.abstract_syntax != mpps.MPPS:
            return False
        data = _whole(assoc) if has_data_set(command) else b""
        named = command.get("AffectedSOPInstanceUID") or command.get("RequestedSOPInstanceUID")
        uid = str(named or generate_uid(prefix=None))
        try:
            ds = mpps.data_set_of(data, is_implicit=context.transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN)
            known = self._reception.records.notice(self._hospital, uid)
            if answer is Field.N_CREATE_RSP:
                if known is not None:
                    raise mpps.MppsRefused(mpps.DUPLICATE_INSTANCE)
                self._keep(mpps.notice_from_create(uid, ds))
            else:
                if known is None:
                    raise mpps.MppsRefused(mpps.NO_SUCH_INSTANCE)
                self._keep(mpps.notice_from_set(known, ds))
            status = SUCCESS
        except mpps.MppsRefused as exc:
            status = exc.status
            log.get_logger().warning("notice_refused", hospital=self._hospital, status=f"0x{status:04X}")
        response = {
            "AffectedSOPClassUID": mpps.MPPS,
            "CommandField": answer,
            "MessageIDBeingRespondedTo": command.get("MessageID", 0),
            "Status": status,
            "AffectedSOPInstanceUID": uid,
        }
        assoc.send(context.context_id, encode_command(response, with_data_set=False))
        return True

    def _keep(self, notice: Notice) -> None:
        self._reception.records.tell(self._hospital, notice, now=utc_now())
        self._reception.told(self._hospital, notice.study_uid)

    def leave(self) -> None:
        self._reception.left(self._hospital)


def _whole(assoc: Association) -> bytes:
    """The data set of a notice.

    Raises
    ------
    AssociationLost
        If it is larger than any notice.
    """
    data = bytearray()
    for pieces in assoc.data_set():
        for piece in pieces:
            data += piece
        if len(data) > _LARGEST_NOTICE:
            assoc.abort()
            raise AssociationLost("a notice that does not end")
    return bytes(data)
