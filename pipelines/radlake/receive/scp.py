"""What hospitals push over DIMSE: C-STORE into the spool, MPPS as notices, storage commitment (PS3.4 B, F.7, J)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence

from pydicom.uid import generate_uid

from radlake import log
from radlake.errors import StoreFull, TransientError
from radlake.lake.commitments import CommitmentRequest
from radlake.lake.pushed import Notice, PushRecords
from radlake.machine import utc_now
from radlake.net import Hospital
from radlake.net.connection import AssociationLost
from radlake.net.contexts import choose_transfer_syntax
from radlake.net.delivery import Delivery
from radlake.net.event_report import event_report
from radlake.net.message import SUCCESS, Command, Field, encode_command, has_data_set
from radlake.net.pdu import Context, Refusal, Rejection
from radlake.net.storage_scp import Sender
from radlake.net.upper_layer import Association
from radlake.receive import commitment, mpps
from radlake.receive.commitments import Commitments
from radlake.receive.data_sets import (
    DUPLICATE_INSTANCE,
    INVALID_ARGUMENT,
    NO_SUCH_INSTANCE,
    RESOURCE_LIMITATION,
    SYNTAXES,
    Refused,
    bytes_of,
    data_set_of,
)
from radlake.receive.senders import Senders
from radlake.receive.spool import PushSpool

__all__ = ["Reception"]

_OUT_OF_RESOURCES, _CANNOT_UNDERSTAND = 0xA700, 0xC000
_LARGEST_NOTICE = 16 << 20  # 16 MB: more than 100,000 references
_GRACE_SECONDS = 0.5  # many hang up at once when their request is taken, and take no event before that
_SERVICES = {
    mpps.MPPS: (Field.N_CREATE_RQ, Field.N_SET_RQ),
    commitment.STORAGE_COMMITMENT: (Field.N_ACTION_RQ, Field.N_EVENT_REPORT_RSP),
}


class Reception:
    """Decides who may send to our storage SCP, and where it goes; used by many threads.

    Parameters
    ----------
    told : callable
        Called with hospital and study when a notice was kept.
    """

    def __init__(
        self,
        senders: Senders,
        spool: PushSpool,
        records: PushRecords,
        commitments: Commitments,
        *,
        told: Callable[[str, str], None],
    ) -> None:
        self.senders, self.spool, self.records, self.commitments, self.told = senders, spool, records, commitments, told
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
        return _Sender(self, hospital, calling)

    def left(self, hospital_id: str) -> None:
        with self._lock:
            self._n_open[hospital_id] -= 1


class _Sender:
    """One association of a hospital."""

    def __init__(self, reception: Reception, hospital: Hospital, calling: str) -> None:
        self._reception, self._hospital, self._calling = reception, hospital.hospital_id, calling
        self._untold: dict[int, CommitmentRequest] = {}  # by the message ID that their result has or would have

    def choose(self, abstract_syntax: str, offered: Sequence[str]) -> str | Refusal:
        if abstract_syntax in _SERVICES:
            return next((uid for uid in offered if uid in SYNTAXES), Refusal.TRANSFER_SYNTAXES)
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
        field = command["CommandField"]
        if field not in _SERVICES.get(context.abstract_syntax, ()):
            return False
        data = _whole(assoc) if has_data_set(command) else b""
        if field == Field.N_EVENT_REPORT_RSP:
            request = self._untold.pop(int(command.get("MessageIDBeingRespondedTo", 0)), None)
            if request is not None:
                self._reception.commitments.told(request, status=int(command["Status"]))
        elif field == Field.N_ACTION_RQ:
            self._commit(assoc, context, command, data)
        else:
            self._take_step(assoc, context, command, data)
        return True

    def _take_step(self, assoc: Association, context: Context, command: Command, data: bytes) -> None:
        is_new = command["CommandField"] == Field.N_CREATE_RQ
        named = command.get("AffectedSOPInstanceUID") or command.get("RequestedSOPInstanceUID")
        uid = str(named or generate_uid(prefix=None))
        try:
            ds = data_set_of(data, syntax_uid=context.transfer_syntax)
            known = self._reception.records.notice(self._hospital, uid)
            if is_new:
                if known is not None:
                    raise Refused(DUPLICATE_INSTANCE)
                self._keep(mpps.notice_from_create(uid, ds))
            else:
                if known is None:
                    raise Refused(NO_SUCH_INSTANCE)
                self._keep(mpps.notice_from_set(known, ds))
            status = SUCCESS
        except Refused as exc:
            status = exc.status
            log.get_logger().warning("notice_refused", hospital=self._hospital, status=f"0x{status:04X}")
        _answer(assoc, context, command, sop_uid=uid, status=status)

    def _commit(self, assoc: Association, context: Context, command: Command, data: bytes) -> None:
        """Keep a request for storage commitment, answer it, and tell the result here if the sender waits for it."""
        commitments, request, status = self._reception.commitments, None, SUCCESS
        try:
            ds = data_set_of(data, syntax_uid=context.transfer_syntax)
            asked = commitment.read(command, ds, hospital_id=self._hospital, ae_title=self._calling)
            if not commitments.ask(asked):
                raise Refused(INVALID_ARGUMENT)
            request = asked
        except (Refused, TransientError) as exc:  # when the ledger is away, it is asked again later
            status = exc.status if isinstance(exc, Refused) else RESOURCE_LIMITATION
            log.get_logger().warning("commitment_refused", hospital=self._hospital, status=f"0x{status:04X}")
        message_id = len(self._untold) + 1
        if request is not None:
            self._untold[message_id] = request
        _answer(assoc, context, command, sop_uid=commitment.WELL_KNOWN, status=status)
        if request is None:
            return
        if commitments.listener(request) is not None and assoc.is_readable(seconds=_GRACE_SECONDS):
            return  # it hangs up, or goes on: it hears of it where it listens
        try:
            event_type, result = commitments.result(request)
        except TransientError:
            return
        event = event_report(
            sop_class=commitment.STORAGE_COMMITMENT,
            sop_uid=commitment.WELL_KNOWN,
            event_type=event_type,
            message_id=message_id,
        )
        assoc.send(context.context_id, event, bytes_of(result, syntax_uid=context.transfer_syntax))

    def _keep(self, notice: Notice) -> None:
        self._reception.records.tell(self._hospital, notice, now=utc_now())
        self._reception.told(self._hospital, notice.study_uid)

    def leave(self) -> None:
        self._reception.left(self._hospital)
        for request in self._untold.values():
            self._reception.commitments.hung_up(request)


def _answer(assoc: Association, context: Context, command: Command, *, sop_uid: str, status: int) -> None:
    """The response of a normalized service without a data set (PS3.7 10.3)."""
    response = {
        "AffectedSOPClassUID": context.abstract_syntax,
        "CommandField": int(command["CommandField"]) | 0x8000,
        "MessageIDBeingRespondedTo": command.get("MessageID", 0),
        "Status": status,
        "AffectedSOPInstanceUID": sop_uid,
    }
    assoc.send(context.context_id, encode_command(response, with_data_set=False))


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
