"""STOW-RS, the store transaction (PS3.18 10.5): parts of a request into the spool, and what is said of each.

A part goes to its file as it flows by, byte for byte; only its head is looked at, for the study that it belongs to.
What carries the bytes is in `http`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from radlake.errors import StoreFull
from radlake.net.instance_files import is_file_name
from radlake.net.message import MessageBroken, value_of
from radlake.net.multipart import parts
from radlake.net.storage_scp import study_uid_of
from radlake.receive.spool import Intake

__all__ = ["OUT_OF_RESOURCES", "STUDY_MISMATCH", "Stored", "answer", "http_status", "store_all"]

OUT_OF_RESOURCES = 0xA700
STUDY_MISMATCH = 0xA901  # of the range "data set does not match" (PS3.18 table I.2-2)
_CANNOT_UNDERSTAND = 0xC000

_HEAD_BYTES = 256 * 1024  # where the Study Instance UID is looked for
_PREFIX_END = 132
_GROUP_LENGTH, _SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x00020000, 0x00020002, 0x00020003, 0x00020010


@dataclass(frozen=True)
class Stored:
    """What became of one part; `failure` is a Failure Reason (0008,1197), 0 when it is durable."""

    sop_class: str = ""
    sop_uid: str = ""
    failure: int = 0


@dataclass(frozen=True)
class _Head:
    sop_class: str
    sop_uid: str
    study_uid: str


def store_all(
    chunks: Iterable[bytes], *, boundary: bytes, study_uid: str | None, intake: Callable[[str], Intake]
) -> list[Stored]:
    """Make every part durable, in bounded memory.

    Parameters
    ----------
    study_uid : str, optional
        The study of the resource: an instance of another one is refused.
    intake : callable
        Where instances of a study go; `begin` is called, `end` follows here.

    Raises
    ------
    MultipartBroken
        If the body breaks; parts before that are stored, and nobody was told so.
    """
    return [_store(part, study_uid=study_uid, intake=intake) for part in parts(chunks, boundary=boundary)]


def _store(part: Iterator[bytes], *, study_uid: str | None, intake: Callable[[str], Intake]) -> Stored:
    first = bytearray()
    head: _Head | None = None
    for chunk in part:
        first += chunk
        head = _head_of(first)
        if (head is not None and head.study_uid) or len(first) >= _HEAD_BYTES:
            break
    stored = _judge(head, study_uid=study_uid)
    try:
        if not stored.failure and head is not None:
            _write(intake(head.study_uid), head.sop_uid, [bytes(first)], part)
    except StoreFull:
        stored = replace(stored, failure=OUT_OF_RESOURCES)
    finally:
        for _ in part:  # so that the next one can be read
            pass
    return stored


def _judge(head: _Head | None, *, study_uid: str | None) -> Stored:
    if head is None:
        return Stored(failure=_CANNOT_UNDERSTAND)
    named = Stored(head.sop_class, head.sop_uid)
    if not head.study_uid or not is_file_name(head.sop_uid):
        return replace(named, failure=_CANNOT_UNDERSTAND)
    return replace(named, failure=STUDY_MISMATCH) if study_uid not in (None, head.study_uid) else named


def _write(intake: Intake, uid: str, first: Sequence[bytes], rest: Iterator[bytes]) -> None:
    done, is_new = "", False
    try:
        with intake.folder.draft() as draft:
            draft.write(*first)
            for chunk in rest:
                draft.write(chunk)
            is_new = draft.keep_as(uid)
        done = uid
    finally:
        intake.end(done, is_new=is_new)


def _head_of(data: bytearray) -> _Head | None:
    """What the head of a Part-10 file tells (PS3.10 7.1); None while it is too short, or when it is none."""
    if data[_PREFIX_END - 4 : _PREFIX_END] != b"DICM":
        return None
    meta = bytes(data[_PREFIX_END:])
    try:
        length = int.from_bytes(value_of(meta, _GROUP_LENGTH, is_implicit=False), "little")
        sop_class, sop_uid, syntax = (
            value_of(meta, tag, is_implicit=False).decode("latin-1").strip(" \0")
            for tag in (_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX)
        )
    except MessageBroken:
        return None
    return _Head(sop_class, sop_uid, study_uid_of([meta[12 + length :]], syntax_uid=syntax) if length else "")


def http_status(stored: Sequence[Stored]) -> int:
    """Status of the response (PS3.18 10.5.3.1): 200 all, 202 some, 409 none; 400 nothing came, 503 our disk is full."""
    failures = [item.failure for item in stored if item.failure]
    if not stored:
        return 400
    if not failures:
        return 200
    if len(failures) < len(stored):
        return 202
    return 503 if all(failure == OUT_OF_RESOURCES for failure in failures) else 409


def answer(stored: Iterable[Stored]) -> dict[str, Any]:
    """Store Instances Response (PS3.18 10.5.3.2, PS3.3 C.12.4) in the DICOM JSON model (PS3.18 F)."""
    good: list[dict[str, Any]] = []
    bad: list[dict[str, Any]] = []
    other: list[dict[str, Any]] = []
    for item in stored:
        named = {"00081150": _ui(item.sop_class), "00081155": _ui(item.sop_uid)}
        reason = {"00081197": {"vr": "US", "Value": [item.failure]}}
        if not item.failure:
            good.append(named)
        elif item.sop_uid:
            bad.append(named | reason)
        else:
            other.append(reason)
    sequences = {"00081198": bad, "00081199": good, "0008119A": other}
    return {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}


def _ui(uid: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [uid]} if uid else {"vr": "UI"}
