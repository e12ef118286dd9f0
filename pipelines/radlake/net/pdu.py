"""Protocol data units of the DICOM Upper Layer (PS3.8 9.3) and what negotiates an association, as bytes and values.

Nothing is sent here; the association and its order of events are in `upper_layer`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "IMPLEMENTATION_CLASS_UID",
    "IMPLEMENTATION_VERSION_NAME",
    "MAX_CONTEXTS",
    "MAX_PDU",
    "RELEASE_RP",
    "RELEASE_RQ",
    "Context",
    "Kind",
    "Negotiation",
    "PduBroken",
    "Proposal",
    "Reason",
    "Refusal",
    "Rejection",
    "abort",
    "associate_ac",
    "associate_rj",
    "associate_rq",
    "p_data",
    "parse_associate",
]

IMPLEMENTATION_CLASS_UID = "2.25.138850976236616442973440399222674701542"
IMPLEMENTATION_VERSION_NAME = "RADLAKE"
MAX_PDU = 131_072  # what we are ready to receive; DCMTK sends no more
MAX_CONTEXTS = 128  # odd numbers of one byte (PS3.8 9.3.2.2)

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_PROTOCOL_VERSION = 1  # a bit, not a number
_WINDOW = 16  # operations that a peer may have under way with us, when it asks for more than one


class Kind(IntEnum):
    """PDU type, PS3.8 9.3.1."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class Reason(IntEnum):
    """Why the upper layer aborts, PS3.8 Table 9-26; `USER` is the abort of the program above it."""

    USER = -1
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PARAMETER = 6


class Rejection(IntEnum):
    """Result, source and reason of an A-ASSOCIATE-RJ, PS3.8 Table 9-21; result 2 is for now, 1 for good."""

    APPLICATION_CONTEXT = 0x010102
    CALLING_AE_TITLE = 0x010103
    CALLED_AE_TITLE = 0x010107
    PROTOCOL_VERSION = 0x010202
    LOCAL_LIMIT = 0x020302


class Refusal(IntEnum):
    """Result of a presentation context that is not accepted, PS3.8 Table 9-18."""

    ABSTRACT_SYNTAX = 3
    TRANSFER_SYNTAXES = 4


class PduBroken(ValueError):
    """The bytes are not what their PDU type says."""


@dataclass(frozen=True)
class Proposal:
    """A presentation context that we propose; `is_scp` offers to receive, as C-GET needs (PS3.7 D.3.3.4)."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    is_scp: bool = False


@dataclass(frozen=True)
class Context:
    """An accepted presentation context."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True)
class Negotiation:
    """What an A-ASSOCIATE-RQ or -AC says, as far as we use it.

    Attributes
    ----------
    contexts : tuple of (context id, result, abstract syntax, transfer syntaxes)
        As they came; a request has no result, an acceptance no abstract syntax.
    max_pdu : int
        Longest PDU that the peer takes; 0 is no limit.
    window : int, optional
        How many operations the requestor wants to have under way, 0 for any number (PS3.7 D.3.3.3); None when it says
        nothing, which means one.
    """

    protocol_version: int
    called: str
    calling: str
    application_context: str
    contexts: tuple[tuple[int, int, str, tuple[str, ...]], ...]
    max_pdu: int
    window: int | None

    def rejection(self, *, ae_title: str) -> Rejection | None:
        """Why a request of somebody who should call `ae_title` cannot be accepted."""
        if not self.protocol_version & _PROTOCOL_VERSION:
            return Rejection.PROTOCOL_VERSION
        if self.application_context != _APPLICATION_CONTEXT:
            return Rejection.APPLICATION_CONTEXT
        return None if self.called == ae_title else Rejection.CALLED_AE_TITLE

    def answers(self, choose: Callable[[str, Sequence[str]], str | Refusal]) -> dict[int, Context | Refusal]:
        """What becomes of each proposed context."""
        answers: dict[int, Context | Refusal] = {}
        for context_id, _, abstract_syntax, offered in self.contexts:
            chosen = choose(abstract_syntax, offered)
            is_refused = isinstance(chosen, Refusal)
            answers[context_id] = chosen if is_refused else Context(context_id, abstract_syntax, chosen)
        return answers


def parse_associate(body: memoryview) -> Negotiation:
    """Read an A-ASSOCIATE-RQ or -AC (PS3.8 9.3.2, 9.3.3); items that we do not use are passed over.

    Raises
    ------
    PduBroken
    """
    if len(body) < 68:
        raise PduBroken("an A-ASSOCIATE that ends too early")
    application_context, contexts, max_pdu, window = "", [], 0, None
    for item, value in _items(body[68:]):
        if item == 0x10:
            application_context = _text(value)
        elif item in (0x20, 0x21) and len(value) >= 4:
            parts = list(_items(value[4:]))
            abstract_syntax = next((_text(uid) for part, uid in parts if part == 0x30), "")
            syntaxes = tuple(_text(uid) for part, uid in parts if part == 0x40)
            contexts.append((value[0], value[2], abstract_syntax, syntaxes))
        elif item == 0x50:
            user = dict(_items(value))
            max_pdu = int.from_bytes(user.get(0x51, b""), "big")
            window = int.from_bytes(user[0x53][:2], "big") if 0x53 in user else None
    version = int.from_bytes(body[:2], "big")
    return Negotiation(
        version, _text(body[4:20]), _text(body[20:36]), application_context, tuple(contexts), max_pdu, window
    )


def associate_rq(*, called: str, calling: str, proposed: Mapping[int, Proposal]) -> bytes:
    titles = struct.pack(">16s16s32x", called.ljust(16).encode("ascii"), calling.ljust(16).encode("ascii"))
    items = [_item(0x10, _APPLICATION_CONTEXT)]
    for context_id, proposal in proposed.items():
        syntaxes = b"".join(_item(0x40, uid) for uid in proposal.transfer_syntaxes)
        items.append(_item(0x20, bytes([context_id, 0, 0, 0]) + _item(0x30, proposal.abstract_syntax) + syntaxes))
    roles = dict.fromkeys(proposal.abstract_syntax for proposal in proposed.values() if proposal.is_scp)
    selections = b"".join(_item(0x54, struct.pack(">H", len(uid)) + uid.encode("ascii") + b"\0\1") for uid in roles)
    items.append(_user_information(selections))
    return _pdu(Kind.ASSOCIATE_RQ, struct.pack(">H2x", _PROTOCOL_VERSION) + titles + b"".join(items))


def associate_ac(request: bytes, *, answers: Mapping[int, Context | Refusal], window: int | None) -> bytes:
    """Accept; what stands before the items is sent back as it came (PS3.8 9.3.3)."""
    items = [_item(0x10, _APPLICATION_CONTEXT)]
    for context_id, answer in answers.items():
        is_refused = isinstance(answer, Refusal)
        result, syntax = (answer, _IMPLICIT_VR_LITTLE_ENDIAN) if is_refused else (0, answer.transfer_syntax)
        items.append(_item(0x21, bytes([context_id, 0, result, 0]) + _item(0x40, syntax)))
    # We perform operations in turn as they come, and invoke none: a peer need not wait for one answer to ask again.
    said = b"" if window is None else _item(0x53, struct.pack(">HH", min(window or _WINDOW, _WINDOW), 1))
    items.append(_user_information(said))
    return _pdu(Kind.ASSOCIATE_AC, struct.pack(">H", _PROTOCOL_VERSION) + request[2:68] + b"".join(items))


def associate_rj(rejection: Rejection) -> bytes:
    return _pdu(Kind.ASSOCIATE_RJ, rejection.to_bytes(4, "big"))


def abort(reason: Reason) -> bytes:
    return _pdu(Kind.ABORT, b"\0\0\0\0" if reason is Reason.USER else bytes([0, 0, 2, reason]))


def p_data(context_id: int, control: int, fragment: bytes) -> bytes:
    """One presentation data value in a PDU of its own (PS3.8 9.3.5); control: 1 command, 2 last fragment."""
    return struct.pack(">BxLLBB", Kind.P_DATA, len(fragment) + 6, len(fragment) + 2, context_id, control) + fragment


def _pdu(kind: Kind, body: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(body)) + body


RELEASE_RQ, RELEASE_RP = _pdu(Kind.RELEASE_RQ, b"\0\0\0\0"), _pdu(Kind.RELEASE_RP, b"\0\0\0\0")


def _item(kind: int, body: bytes | str) -> bytes:
    raw = body.encode("ascii") if isinstance(body, str) else body
    return struct.pack(">BxH", kind, len(raw)) + raw


def _user_information(more: bytes) -> bytes:
    """Maximum length, implementation, and what else is negotiated, in the order of the item types (PS3.7 D.3.3)."""
    return _item(
        0x50,
        _item(0x51, struct.pack(">L", MAX_PDU))
        + _item(0x52, IMPLEMENTATION_CLASS_UID)
        + more
        + _item(0x55, IMPLEMENTATION_VERSION_NAME),
    )


def _items(body: memoryview) -> Iterator[tuple[int, memoryview]]:
    while body:
        if len(body) < 4 or len(body) < 4 + (length := int.from_bytes(body[2:4], "big")):
            raise PduBroken("an item of the negotiation has a wrong length")
        yield body[0], body[4 : 4 + length]
        body = body[4 + length :]


def _text(raw: memoryview | bytes) -> str:
    return bytes(raw).decode("ascii", "replace").strip(" \0")
