"""DICOM Upper Layer over TCP (PS3.8): one association on a blocking socket.

Negotiation, fragments, release and abort belong here; their bytes are in `pdu`, the socket and its silence in
`connection`. What a message says is in `message`; what to do with it is in `dimse` and `storage_scp`. There are no
threads: the caller sends and receives in turn, and a data set passes through in pieces as they arrive, so that memory
does not grow with the size of an instance, nor with that of a PDU.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from radlake.net.connection import AssociationLost, Connection
from radlake.net.pdu import (
    MAX_CONTEXTS,
    MAX_PDU,
    RELEASE_RP,
    RELEASE_RQ,
    Context,
    Kind,
    Negotiation,
    PduBroken,
    Proposal,
    Reason,
    Refusal,
    Rejection,
    abort,
    associate_ac,
    associate_rj,
    associate_rq,
    p_data,
    parse_associate,
)

__all__ = ["Association", "AssociationRefused", "AssociationReleased"]

_COMMAND, _LAST = 1, 2  # of a fragment, PS3.8 E.2
_LARGEST_COMMAND = 64 * 1024
_MOST_PIECES = 256  # a system call takes 1024
_LARGEST_ASSOCIATE = 256 * 1024
_LARGEST_PDU = 64 * 1024 * 1024  # a length beyond this is not a PDU of a DICOM peer

_REASONS = {  # (source, reason) of A-ASSOCIATE-RJ, PS3.8 9.3.4
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized: it does not know ours",
    (1, 7): "called AE title not recognized: it is not named so",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded: it has no association left for us",
}
_REJECTED = {
    Rejection.APPLICATION_CONTEXT: "it does not speak DICOM as we know it (application context)",
    Rejection.CALLING_AE_TITLE: "nobody of its AE title may send from its address",
    Rejection.CALLED_AE_TITLE: "it called another AE title than ours",
    Rejection.PROTOCOL_VERSION: "it speaks another version of the protocol",
    Rejection.LOCAL_LIMIT: "we have as many associations as we can serve",
}


class AssociationReleased(Exception):
    """The peer released the association in good order."""

    def __init__(self) -> None:
        super().__init__("it released the association before it was done")


class AssociationRefused(Exception):
    """The peer answered A-ASSOCIATE-RJ.

    Attributes
    ----------
    is_transient : bool
        The peer says that it may accept later.
    """

    def __init__(self, *, result: int, source: int, reason: int) -> None:
        self.is_transient = result == 2
        super().__init__(_REASONS.get((source, reason), f"source {source}, reason {reason}"))


class Association:
    """An established association; `request` or `accept` makes one.

    Attributes
    ----------
    contexts : dict
        Accepted contexts by their id.
    """

    def __init__(self, sock: socket.socket, *, timeout: float) -> None:
        self.contexts: dict[int, Context] = {}
        self._connection = Connection(sock, timeout=timeout, farewell=abort(Reason.USER))
        self._peer_max_pdu = 0
        self._pdu_left = 0  # bytes of the P-DATA PDU at hand that are not read yet

    @classmethod
    def request(
        cls, sock: socket.socket, *, calling: str, called: str, proposals: Sequence[Proposal], timeout: float
    ) -> Association:
        """Propose an association and wait for the answer.

        Raises
        ------
        AssociationRefused
            With the reason that the peer gives.
        AssociationLost
            If there is no answer, or not one of DICOM.
        """
        self = cls(sock, timeout=timeout)
        proposed = {2 * n + 1: proposal for n, proposal in enumerate(proposals[:MAX_CONTEXTS])}
        self._connection.write(associate_rq(called=called, calling=calling, proposed=proposed))
        kind, length = self._next_pdu()
        if kind == Kind.ASSOCIATE_RJ and length == 4:
            _, result, source, reason = self._connection.take(4)
            self._connection.close()
            raise AssociationRefused(result=result, source=source, reason=reason)
        if kind != Kind.ASSOCIATE_AC:
            self._unexpected(kind, length)
        negotiation, _ = self._read_associate(length)
        for context_id, result, _, syntaxes in negotiation.contexts:
            if result == 0 and context_id in proposed:
                abstract_syntax = proposed[context_id].abstract_syntax
                self.contexts[context_id] = Context(context_id, abstract_syntax, (*syntaxes, "")[0])
        return self

    @classmethod
    def accept(
        cls,
        sock: socket.socket,
        *,
        ae_title: str,
        choose: Callable[[str, Sequence[str]], str | Refusal],
        timeout: float,
        admit: Callable[[Negotiation], Rejection | None] = lambda _: None,
    ) -> Association:
        """Answer a proposal: accept each context for which `choose` names one of its transfer syntaxes.

        Parameters
        ----------
        admit : callable
            Says why a peer that calls our AE title is rejected all the same, or None.

        Raises
        ------
        AssociationLost
            If the peer calls another AE title or is not admitted (it is told so), or it does not speak DICOM.
        """
        self = cls(sock, timeout=timeout)
        kind, length = self._next_pdu()
        if kind != Kind.ASSOCIATE_RQ:
            self._unexpected(kind, length)
        negotiation, raw = self._read_associate(length)
        rejection = negotiation.rejection(ae_title=ae_title) or admit(negotiation)
        if rejection is not None:
            self._connection.fail(_REJECTED[rejection], associate_rj(rejection))
        answers = negotiation.answers(choose)
        self.contexts = {key: answer for key, answer in answers.items() if isinstance(answer, Context)}
        self._connection.write(associate_ac(raw, answers=answers, window=negotiation.window))
        return self

    @property
    def timeout(self) -> float:
        """Seconds of silence that end the association."""
        return self._connection.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._connection.timeout = seconds

    @property
    def peer_host(self) -> str:
        return self._connection.peer_host

    def context_for(self, abstract_syntax: str) -> int | None:
        """Id of an accepted context of an abstract syntax; None when the peer accepted none."""
        return next((c.context_id for c in self.contexts.values() if c.abstract_syntax == abstract_syntax), None)

    def send(self, context_id: int, command: bytes, data: bytes = b"") -> None:
        """Send a message: a command set and, unless empty, a data set."""
        largest = max(min(self._peer_max_pdu or MAX_PDU, MAX_PDU), 128) - 6
        pdus = []
        for content, is_command in ((command, _COMMAND), (data, 0)):
            for begin in range(0, len(content), largest):
                is_last = _LAST if begin + largest >= len(content) else 0
                pdus.append(p_data(context_id, is_command | is_last, content[begin : begin + largest]))
        self._connection.write(b"".join(pdus))

    def receive(self) -> tuple[int, bytes]:
        """Wait for the command set of the next message: context id and bytes.

        Raises
        ------
        AssociationReleased, AssociationLost
        """
        self._connection.next_exchange()
        command, is_last, context_id = b"", 0, 0
        while not is_last:
            context_id, control, length = self._next_fragment()
            if not control & _COMMAND:
                self._give_up("a data set came where a command was due", Reason.UNEXPECTED_PDU)
            if len(command) + length > _LARGEST_COMMAND:
                self._give_up("a command that does not end", Reason.INVALID_PARAMETER)
            command += self._connection.take(length)
            is_last = control & _LAST
        self._connection.next_exchange()
        return context_id, command

    def data_set(self) -> Iterator[list[memoryview]]:
        """The data set that belongs to the command just received, some hundred kilobytes at a time.

        Use the pieces of each list before you take the next: they share one buffer. It must be read to its end before
        the next message.
        """
        connection, pieces, is_last = self._connection, [], 0
        while not is_last:
            _, control, length = self._next_fragment()
            if control & _COMMAND:
                self._give_up("a command came where a data set was due", Reason.UNEXPECTED_PDU)
            while length:
                pieces.append(connection.some(length))
                length -= len(pieces[-1])
                if connection.is_full or len(pieces) == _MOST_PIECES:
                    yield pieces
                    connection.let_go()
                    pieces = []
            is_last = control & _LAST
        yield pieces

    def whole_data_set(self) -> bytes:
        """The same in one piece, for what is small."""
        return b"".join(b"".join(pieces) for pieces in self.data_set())

    def is_readable(self, *, seconds: float) -> bool:
        """Whether something arrives within `seconds`."""
        return self._connection.is_readable(seconds=seconds)

    def release(self) -> None:
        """End in good order; never raises."""
        try:
            self._connection.hurry()
            self._connection.write(RELEASE_RQ)
            self._connection.next_exchange()
            while (pdu := self._next_pdu())[0] != Kind.RELEASE_RP:
                kind, length = pdu
                if kind == Kind.RELEASE_RQ:  # both sides at once (PS3.8 7.2.2.7)
                    self._connection.write(RELEASE_RP)
                elif kind != Kind.P_DATA:
                    break
                while length:
                    length -= len(self._connection.some(length))
        except AssociationLost:
            pass
        self._connection.close()

    def abort(self) -> None:
        """End at once; never raises."""
        try:
            self._connection.hurry()
            self._connection.write(abort(Reason.USER))
        except AssociationLost:
            pass
        self._connection.close()

    def cut(self) -> None:
        """End it for the thread that uses it, from another one; never raises."""
        self._connection.cut()

    def _next_fragment(self) -> tuple[int, int, int]:
        """Context id, control header and length of the next presentation data value (PS3.8 9.3.5.1)."""
        while not self._pdu_left:
            kind, length = self._next_pdu()
            if kind == Kind.RELEASE_RQ:
                self._connection.close(RELEASE_RP)
                raise AssociationReleased
            if kind != Kind.P_DATA:
                self._unexpected(kind, length)
            self._pdu_left = length
        head = self._connection.take(min(6, self._pdu_left))
        length = int.from_bytes(head[:4], "big")
        self._pdu_left -= 4 + length
        if len(head) < 6 or length < 2 or self._pdu_left < 0:
            self._give_up("a presentation data value has a wrong length", Reason.INVALID_PARAMETER)
        return head[4], head[5], length - 2

    def _next_pdu(self) -> tuple[int, int]:
        """Type of the next PDU, and length of its body, which is left to read."""
        kind, length = struct.unpack(">BxL", self._connection.take(6))
        if not Kind.ASSOCIATE_RQ <= kind <= Kind.ABORT or length > _LARGEST_PDU:
            self._give_up("it does not speak DICOM", Reason.UNRECOGNIZED_PDU)
        return kind, length

    def _read_associate(self, length: int) -> tuple[Negotiation, bytes]:
        if length > _LARGEST_ASSOCIATE:
            self._give_up("a negotiation that does not end", Reason.INVALID_PARAMETER)
        body = bytes(self._connection.take(length))
        try:
            negotiation = parse_associate(memoryview(body))
        except PduBroken as exc:
            self._give_up(str(exc), Reason.INVALID_PARAMETER)
        self._peer_max_pdu = negotiation.max_pdu
        return negotiation, body

    def _unexpected(self, kind: int, length: int) -> NoReturn:
        if kind == Kind.ABORT:
            is_provider = length == 4 and self._connection.take(4)[2] == 2
            self._connection.fail(f"aborted by {'its upper layer' if is_provider else 'the peer'}")
        self._give_up(f"an unexpected PDU of type {kind}", Reason.UNEXPECTED_PDU)

    def _give_up(self, why: str, reason: Reason) -> NoReturn:
        self._connection.fail(why, abort(reason))
