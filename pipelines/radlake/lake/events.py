"""The history of the ledger: every change of a study's row is an event, in one chain per hospital.

An event tells the state that the study came to and the digest of its whole row, and bears a keyed digest of itself and
of the event before it. Events are only added, in the transaction that changes the row: who changes a row, an event or
the end of the chain behind our back breaks it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from radlake.lake.chain import Head, Link, canonical
from radlake.lake.ledger_tables import STUDY, STUDY_EVENT

__all__ = [
    "ALTERED",
    "Event",
    "EventLog",
    "Mac",
    "erased_name",
    "evidence_digest",
    "has_erased",
    "head_of",
    "last_evidence",
    "lock_chains",
    "redact",
    "walk",
]

Mac = Callable[[str], str]  # keyed digest of a text, 64 hexadecimal digits

ALTERED = "altered"  # what an event tells of a row that somebody else changed

_ERASED = "withdrawn:"  # how the keyed name begins that a study bears when nothing may tell whose it was
_PACKED = ("expected", "stored", "set_aside")
_PLAIN = tuple(column.name for column in STUDY.c if column.name not in (*_PACKED, "updated_at"))
_HEAD = (
    sa.select(STUDY_EVENT.c.seq, STUDY_EVENT.c.mac)
    .where(STUDY_EVENT.c.hospital_id == sa.bindparam("hospital"))
    .order_by(STUDY_EVENT.c.seq.desc())
    .limit(1)
)


@dataclass(frozen=True)
class Event:
    """One change of one study.

    Attributes
    ----------
    seq : int
        Number in the hospital's chain, from 1.
    at : datetime
        UTC.
    what : str
        `discover`, `begin`, `settle`, `withdraw`; `adopt` of a row that is older than its history; `altered` of one
        that was not as the event before had left it.
    evidence : str
        `evidence_digest` of the row since then.
    redaction : str
        Keyed digest of the event since its study bears a keyed name; it then answers for everything else in it, as
        `mac` was made of the original UID.
    """

    hospital_id: str
    seq: int
    study_uid: str
    at: datetime
    what: str
    state: str
    reason: str
    evidence: str
    previous_mac: str
    mac: str
    redaction: str = ""

    def sealed(self, mac: Mac) -> str:
        """The keyed digest that it should have."""
        fields = {name: value for name, value in vars(self).items() if name not in ("mac", "redaction")}
        return mac("event" + canonical(fields | {"at": self.at.isoformat()}))

    def redacted(self, name: str, mac: Mac) -> Event:
        """The event of a study that bears a keyed name from now on; its place in the chain stays."""
        after = replace(self, study_uid=name)
        return replace(after, redaction=after._redaction(mac))

    def link(self, mac: Mac) -> Link:
        if self.redaction:
            computed = self.mac if self.redaction == self._redaction(mac) else ""
            return Link(self.seq, self.previous_mac, self.mac, computed)
        return Link(self.seq, self.previous_mac, self.mac, self.sealed(mac))

    def _redaction(self, mac: Mac) -> str:
        fields = {name: value for name, value in vars(self).items() if name != "redaction"}
        return mac("redaction" + canonical(fields | {"at": self.at.isoformat()}))


def evidence_digest(row: Mapping[str, Any]) -> str:
    """SHA-256 of everything that a row of `study` tells, but for the time of its last change: the event has that.

    Empty values (None, 0, "", False) are left out, so that a new column leaves the digests of old rows as they are.
    """
    plain = {
        name: value.isoformat() if isinstance(value, date) else value
        for name in _PLAIN
        if (value := row.get(name))  # a datetime is a date
    }
    state = hashlib.sha256(canonical(plain).encode())
    for name in _PACKED:
        state.update(b"\n" + (zlib.decompress(row[name]) if row.get(name) else b""))
    return state.hexdigest()


def lock_chains(connection: sa.Connection, hospital_ids: Iterable[str]) -> None:
    """Let nobody else append to these chains until the transaction ends; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        for key in sorted({zlib.crc32(hospital_id.encode()) - (1 << 31) for hospital_id in hospital_ids}):
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(7254, :key)"), {"key": key})


class EventLog:
    """Appends to the chains within one transaction; nothing is written before `flush`."""

    def __init__(self, connection: sa.Connection, *, mac: Mac) -> None:
        self._connection = connection
        self._mac = mac
        self._rows: list[dict[str, Any]] = []
        self.heads: dict[str, Head] = {}
        self.has_begun = False  # one of the chains

    def append(self, row: Mapping[str, Any], *, what: str, at: datetime) -> None:
        """Add the event that brought a study's row to what it is now."""
        hospital_id = row["hospital_id"]
        seq, previous = self.heads.get(hospital_id) or head_of(self._connection, hospital_id) or (0, "")
        event = Event(
            hospital_id=hospital_id,
            seq=seq + 1,
            study_uid=row["study_uid"],
            at=at,
            what=what,
            state=str(row["state"]),
            reason=row["reason"],
            evidence=evidence_digest(row),
            previous_mac=previous,
            mac="",
        )
        mac = event.sealed(self._mac)
        self.has_begun |= seq == 0
        digests = {"evidence": event.evidence, "previous_mac": previous, "mac": mac}
        packed = {name: bytes.fromhex(value) for name, value in digests.items()}
        self._rows.append(vars(event) | packed | {"redaction": None})
        self.heads[hospital_id] = event.seq, mac

    @property
    def n_waiting(self) -> int:
        return len(self._rows)

    def flush(self) -> None:
        if self._rows:
            self._connection.execute(STUDY_EVENT.insert(), self._rows)
            self._rows = []


def head_of(connection: sa.Connection, hospital_id: str) -> Head | None:
    """Number and keyed digest of the last event of a hospital."""
    row = connection.execute(_HEAD, {"hospital": hospital_id}).first()
    return (row[0], row[1].hex()) if row else None


def last_evidence() -> sa.Label[bytes]:
    """Column `evidence` for a query of `study`: that of the last event of each."""
    of_study = STUDY_EVENT.c.hospital_id == STUDY.c.hospital_id, STUDY_EVENT.c.study_uid == STUDY.c.study_uid
    newest = sa.select(STUDY_EVENT.c.evidence).where(*of_study).order_by(STUDY_EVENT.c.seq.desc()).limit(1)
    return newest.scalar_subquery().label("evidence")


def walk(
    connection: sa.Connection,
    hospital_id: str,
    *,
    study_uid: str | None = None,
    after: int = 0,
    upto: int | None = None,
) -> Iterator[Event]:
    """Events of a hospital or of one study, oldest first, with a number above `after` and not above `upto`."""
    query = sa.select(STUDY_EVENT).where(STUDY_EVENT.c.hospital_id == hospital_id, STUDY_EVENT.c.seq > after)
    if study_uid is not None:
        query = query.where(STUDY_EVENT.c.study_uid == study_uid)
    if upto is not None:
        query = query.where(STUDY_EVENT.c.seq <= upto)
    query = query.order_by(STUDY_EVENT.c.seq).execution_options(yield_per=2000)
    for row in connection.execute(query).mappings():
        digests = {name: bytes(row[name] or b"").hex() for name in ("evidence", "previous_mac", "mac", "redaction")}
        yield Event(**{**row, **digests})


def erased_name(mac: Mac, hospital_id: str, study_uid: str) -> str:
    """What a withdrawn study is called where nothing may tell whose it was: keyed, so that it is known again."""
    return _ERASED + mac("withdrawn" + canonical({"hospital": hospital_id, "study": study_uid.strip(" \0")}))[:32]


def has_erased(connection: sa.Connection, hospital_id: str) -> bool:
    """Whether a study of this hospital bears a keyed name."""
    after = _ERASED[:-1] + chr(ord(_ERASED[-1]) + 1)
    where = STUDY.c.hospital_id == hospital_id, STUDY.c.study_uid >= _ERASED, STUDY.c.study_uid < after
    return connection.execute(sa.select(STUDY.c.study_uid).where(*where).limit(1)).first() is not None


def redact(connection: sa.Connection, hospital_id: str, study_uid: str, *, name: str, mac: Mac) -> None:
    """Let the history of a study bear a keyed name instead of its UID; the chain stays whole, and is checked as before.

    Only who has the key can do it: each event is sealed anew in its place.
    """
    for event in list(walk(connection, hospital_id, study_uid=study_uid)):
        after = event.redacted(name, mac)
        where = STUDY_EVENT.c.hospital_id == hospital_id, STUDY_EVENT.c.seq == event.seq
        values = {"study_uid": name, "redaction": bytes.fromhex(after.redaction)}
        connection.execute(STUDY_EVENT.update().where(*where).values(**values))
