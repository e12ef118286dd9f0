"""DIMSE messages (PS3.7): command sets, identifiers, what a status means. Bytes in, values out; nothing is sent here.

Identifiers are read element by element, and only those that we asked for: a name in a wrong character set, or any
other value that we do not need, cannot break an answer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "PENDING",
    "SUB_OPERATIONS_FAILED",
    "SUCCESS",
    "Command",
    "Field",
    "MessageBroken",
    "decode_command",
    "decode_identifier",
    "elements",
    "encode_command",
    "encode_identifier",
    "encode_response",
    "has_data_set",
    "status_text",
    "value_of",
]

Command = dict[str, int | str]

SUCCESS = 0x0000
PENDING = (0xFF00, 0xFF01)
SUB_OPERATIONS_FAILED = 0xB000

_NO_DATA_SET = 0x0101
_RESPONSE = 0x8000  # set in the command field of every response
_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_DEEPEST = 64
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LAYOUTS = {  # by byte order: tag and length; tag, VR and length; a length of 32 bits
    order: (struct.Struct(order + "HHL"), struct.Struct(order + "HH2sH"), struct.Struct(order + "L")) for order in "<>"
}


class MessageBroken(ValueError):
    """The bytes are not a data set in the encoding that was agreed."""


class Field(IntEnum):
    """Command Field (0000,0100), PS3.7 E.1."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_GET_RQ = 0x0010
    C_GET_RSP = 0x8010
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_SET_RQ = 0x0120
    N_SET_RSP = 0x8120
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130
    N_CREATE_RQ = 0x0140
    N_CREATE_RSP = 0x8140


_COMMAND = {  # keyword -> tag and VR; group 0000 only (PS3.7 E.1)
    "AffectedSOPClassUID": (0x00000002, "UI"),
    "RequestedSOPClassUID": (0x00000003, "UI"),
    "CommandField": (0x00000100, "US"),
    "MessageID": (0x00000110, "US"),
    "MessageIDBeingRespondedTo": (0x00000120, "US"),
    "MoveDestination": (0x00000600, "AE"),
    "Priority": (0x00000700, "US"),
    "CommandDataSetType": (0x00000800, "US"),
    "Status": (0x00000900, "US"),
    "AffectedSOPInstanceUID": (0x00001000, "UI"),
    "RequestedSOPInstanceUID": (0x00001001, "UI"),
    "EventTypeID": (0x00001002, "US"),
    "ActionTypeID": (0x00001008, "US"),
    "NumberOfRemainingSuboperations": (0x00001020, "US"),
    "NumberOfCompletedSuboperations": (0x00001021, "US"),
    "NumberOfFailedSuboperations": (0x00001022, "US"),
    "NumberOfWarningSuboperations": (0x00001023, "US"),
}
_COMMAND_BY_TAG = {tag: (keyword, vr) for keyword, (tag, vr) in _COMMAND.items()}

_IDENTIFIER = {  # keyword -> tag and VR of the query keys that we use (PS3.4 C.6)
    "SOPClassUID": (0x00080016, "UI"),
    "SOPInstanceUID": (0x00080018, "UI"),
    "StudyDate": (0x00080020, "DA"),
    "StudyTime": (0x00080030, "TM"),
    "QueryRetrieveLevel": (0x00080052, "CS"),
    "InstanceAvailability": (0x00080056, "CS"),
    "Modality": (0x00080060, "CS"),
    "ModalitiesInStudy": (0x00080061, "CS"),
    "PatientID": (0x00100020, "LO"),
    "StudyInstanceUID": (0x0020000D, "UI"),
    "SeriesInstanceUID": (0x0020000E, "UI"),
    "NumberOfStudyRelatedInstances": (0x00201208, "IS"),
    "NumberOfSeriesRelatedInstances": (0x00201209, "IS"),
}
_IDENTIFIER_BY_TAG = {tag: keyword for keyword, (tag, _) in _IDENTIFIER.items()}

_STATUSES = {
    0x0110: "processing failure",
    0x0122: "SOP class not supported",
    0x0124: "not authorized: it does not let our AE title do this",
    0x0210: "duplicate invocation",
    0x0211: "unrecognized operation: it does not know this service",
    0x0212: "mistyped argument",
    0x0213: "resource limitation",
    0xA700: "out of resources",
    0xA701: "out of resources: unable to calculate the number of matches",
    0xA702: "out of resources: unable to perform sub-operations",
    0xA801: "move destination unknown: it does not know our AE title and address",
    0xA900: "identifier does not match the SOP class",
    0xB000: "sub-operations complete, with failures",
    0xFE00: "cancelled",
}


def status_text(status: int) -> str:
    """What a status says, for a person (PS3.7 Annex C, PS3.4 C.4).

    >>> status_text(0xA801)
    '0xA801: move destination unknown: it does not know our AE title and address'
    """
    text = _STATUSES.get(status) or ("unable to process" if 0xC000 <= status <= 0xCFFF else "unknown status")
    return f"0x{status:04X}: {text}"


def encode_command(command: Mapping[str, int | str], *, with_data_set: bool) -> bytes:
    """Command set with its group length, in Implicit VR Little Endian (PS3.7 6.3.1)."""
    values = {**command, "CommandDataSetType": 0x0001 if with_data_set else _NO_DATA_SET}
    body = b"".join(
        _element(tag, _encode(values[keyword], vr)) for keyword, (tag, vr) in _COMMAND.items() if keyword in values
    )
    return _element(0x00000000, struct.pack("<L", len(body))) + body


def decode_command(data: bytes) -> Command:
    """Values of a command set by keyword; elements that we do not use are left out.

    Raises
    ------
    MessageBroken
    """
    command: Command = {}
    for tag, value in elements(data):
        keyword, vr = _COMMAND_BY_TAG.get(tag, ("", ""))
        if vr == "US" and len(value) >= 2:
            command[keyword] = int.from_bytes(value[:2], "little")
        elif vr in ("UI", "AE"):
            command[keyword] = _text(value)
    if "CommandField" not in command:
        raise MessageBroken("a message without a command field")
    if int(command["CommandField"]) & _RESPONSE and "Status" not in command:
        raise MessageBroken("a response without a status")
    return command


def encode_response(request: Command, *, field: Field, status: int) -> bytes:
    """Command set that answers a C-STORE or C-ECHO request (PS3.7 9.3.1.2, 9.3.5.2)."""
    same = {key: request[key] for key in ("AffectedSOPClassUID", "AffectedSOPInstanceUID") if key in request}
    response = {"CommandField": field, "MessageIDBeingRespondedTo": request.get("MessageID", 0), "Status": status}
    return encode_command({**same, **response}, with_data_set=False)


def has_data_set(command: Command) -> bool:
    return command.get("CommandDataSetType", _NO_DATA_SET) != _NO_DATA_SET


def encode_identifier(keys: Mapping[str, str | Iterable[str]]) -> bytes:
    r"""Query keys in Implicit VR Little Endian, the transfer syntax that every node has; a list means any of them.

    >>> encode_identifier({"StudyDate": ""})
    b'\x08\x00 \x00\x00\x00\x00\x00'
    """
    parts = []
    for keyword, (tag, vr) in _IDENTIFIER.items():
        if keyword in keys:
            value = keys[keyword]
            parts.append(_element(tag, _encode(value if isinstance(value, str) else "\\".join(value), vr)))
    return b"".join(parts)


def decode_identifier(data: bytes) -> dict[str, str]:
    """Values of an answer by keyword, as text without padding; all other elements are passed over unread.

    Raises
    ------
    MessageBroken
    """
    return {_IDENTIFIER_BY_TAG[tag]: _text(value) for tag, value in elements(data) if tag in _IDENTIFIER_BY_TAG}


def elements(data: bytes, *, is_implicit: bool = True, is_big_endian: bool = False) -> Iterator[tuple[int, bytes]]:
    """Top-level elements of a data set as (tag, value bytes); a sequence of undefined length comes with no bytes.

    Raises
    ------
    MessageBroken
        Where the data set ends too early or is in another encoding.
    """
    encoding = _Encoding(is_implicit, is_big_endian)
    at = 0
    while at < len(data):
        tag, vr, length, at = encoding.header(data, at)
        if length == _UNDEFINED:
            yield tag, b""
            at = encoding.within(vr).after_sequence(data, at)
            continue
        if at + length > len(data):
            raise MessageBroken("an element is longer than its data set")
        yield tag, data[at : at + length]
        at += length


def value_of(data: bytes | memoryview, wanted: int, *, is_implicit: bool, is_big_endian: bool = False) -> bytes:
    """Value of a top-level element of a data set; empty when there is none.

    Raises
    ------
    MessageBroken
        Where the data set ends before the element does or could come, or is in another encoding.
    """
    encoding = _Encoding(is_implicit, is_big_endian)
    header = encoding.header
    tag = at = begin = 0
    while tag < wanted:
        tag, vr, length, begin = header(data, at)
        at = encoding.within(vr).after_sequence(data, begin) if length == _UNDEFINED else begin + length
    if tag != wanted:
        return b""
    if at > len(data):
        raise MessageBroken("an element is longer than its data set")
    return bytes(data[begin:at])


@dataclass(frozen=True)
class _Encoding:
    is_implicit: bool
    is_big_endian: bool

    def within(self, vr: bytes) -> _Encoding:
        """Encoding of the items of an element: those of a UN are implicit (PS3.5 6.2.2, note 4)."""
        return _Encoding(True, False) if vr == b"UN" else self

    def header(self, data: bytes | memoryview, at: int) -> tuple[int, bytes, int, int]:
        """Tag, VR, value length, and where the value begins (PS3.5 7.1)."""
        implicit, explicit, long_length = _LAYOUTS[">" if self.is_big_endian else "<"]
        try:
            group, element, vr, length = explicit.unpack_from(data, at)
            if self.is_implicit or group == 0xFFFE:
                return group << 16 | element, b"", implicit.unpack_from(data, at)[2], at + 8
            if vr in _LONG_VRS:
                return group << 16 | element, vr, long_length.unpack_from(data, at + 8)[0], at + 12
            return group << 16 | element, vr, length, at + 8
        except struct.error as exc:
            raise MessageBroken("the data set ends inside an element") from exc

    def after_sequence(self, data: bytes | memoryview, at: int, *, depth: int = 0) -> int:
        """Where a sequence of undefined length ends (PS3.5 7.5)."""
        if depth > _DEEPEST:
            raise MessageBroken("sequences lie too deep in each other")
        while True:
            tag, _, length, at = self.header(data, at)
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM:
                raise MessageBroken("an element stands where an item was due")
            at = self._after_item(data, at, depth=depth) if length == _UNDEFINED else at + length

    def _after_item(self, data: bytes | memoryview, at: int, *, depth: int) -> int:
        while True:
            tag, vr, length, at = self.header(data, at)
            if tag == _ITEM_END:
                return at
            at = self.within(vr).after_sequence(data, at, depth=depth + 1) if length == _UNDEFINED else at + length


def _element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def _encode(value: int | str, vr: str) -> bytes:
    if vr == "US":
        return struct.pack("<H", int(value))
    raw = str(value).encode("latin-1", "replace")
    return raw if len(raw) % 2 == 0 else raw + (b"\0" if vr == "UI" else b" ")


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip(" \0")
