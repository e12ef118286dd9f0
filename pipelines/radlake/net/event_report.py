"""N-EVENT-REPORT over an association of our own: what a sender that has hung up is told (PS3.7 10.1.1)."""

from __future__ import annotations

from collections.abc import Callable

from radlake.errors import NodeUnavailable
from radlake.net.connection import AssociationLost, open_socket
from radlake.net.message import Command, Field, MessageBroken, decode_command, encode_command
from radlake.net.pdu import Proposal
from radlake.net.push import Listener
from radlake.net.reach import client_context, why_unreachable
from radlake.net.upper_layer import Association, AssociationRefused, AssociationReleased

__all__ = ["event_report", "report_event"]

_CONNECT_SECONDS, _ANSWER_SECONDS = 10.0, 60.0


def event_report(*, sop_class: str, sop_uid: str, event_type: int, message_id: int) -> bytes:
    """Command set of an N-EVENT-REPORT with event information."""
    command: Command = {
        "AffectedSOPClassUID": sop_class,
        "CommandField": Field.N_EVENT_REPORT_RQ,
        "MessageID": message_id,
        "AffectedSOPInstanceUID": sop_uid,
        "EventTypeID": event_type,
    }
    return encode_command(command, with_data_set=True)


def report_event(
    listener: Listener,
    *,
    ae_title: str,
    sop_class: str,
    sop_uid: str,
    event_type: int,
    syntaxes: tuple[str, ...],
    information: Callable[[str], bytes],
) -> int:
    """Tell an event as the provider of its SOP class, and return the status of the answer.

    Parameters
    ----------
    ae_title : str
        Our own.
    information : callable
        The event information in the transfer syntax that is agreed.

    Raises
    ------
    NodeUnavailable
    """
    name = listener.ae_title
    tls = client_context(listener.tls, node=name) if listener.tls else None
    try:
        sock = open_socket(listener.host, listener.port, seconds=_CONNECT_SECONDS, tls=tls)
    except OSError as exc:
        raise NodeUnavailable(node=name, reason=why_unreachable(exc)) from exc
    try:
        assoc = Association.request(
            sock,
            calling=ae_title,
            called=name,
            proposals=[Proposal(sop_class, syntaxes, is_scp=True)],
            timeout=_ANSWER_SECONDS,
        )
        context_id = assoc.context_for(sop_class)
        if context_id is None:
            assoc.release()
            raise NodeUnavailable(node=name, reason="it does not take the event: no presentation context")
        command = event_report(sop_class=sop_class, sop_uid=sop_uid, event_type=event_type, message_id=1)
        assoc.send(context_id, command, information(assoc.contexts[context_id].transfer_syntax))
        answer = decode_command(assoc.receive()[1])
        if answer["CommandField"] != Field.N_EVENT_REPORT_RSP:
            assoc.abort()
            raise NodeUnavailable(node=name, reason="it answered something else")
        assoc.release()
    except (AssociationRefused, AssociationLost, AssociationReleased, MessageBroken) as exc:
        raise NodeUnavailable(node=name, reason=str(exc)) from exc
    return int(answer["Status"])
