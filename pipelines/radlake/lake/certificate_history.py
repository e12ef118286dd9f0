"""What the history tells: the way of one study, and what changed between two certificates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from radlake.lake.certificate import Certificate
from radlake.lake.certificate_store import CertificateRefused, documents
from radlake.lake.events import Event, walk
from radlake.lake.ledger_tables import STUDY

__all__ = ["ChangedStudy", "certificate_of", "changed_studies", "history_of"]


@dataclass(frozen=True)
class ChangedStudy:
    """A study that has events between two certificates; `before` is empty for one that was not known."""

    name: str
    before: str
    after: str
    reason: str
    n_events: int


def certificate_of(connection: sa.Connection, hospital_id: str, day: date) -> Certificate:
    """The last certificate of a hospital and day.

    Raises
    ------
    CertificateRefused
        If there is none.
    """
    for _, text in reversed(documents(connection, hospital_id)):
        if (found := Certificate.from_document(text)).day == day:
            return found
    raise CertificateRefused(hospital=hospital_id, day=day, reason="none was issued of that day")


def changed_studies(connection: sa.Connection, old: Certificate, new: Certificate) -> list[ChangedStudy]:
    """Studies that changed between two certificates of a hospital, in the order of their changes."""
    events: dict[str, list[Event]] = {}
    for event in walk(connection, old.hospital_id, after=old.head_seq, upto=new.head_seq):
        events.setdefault(event.study_uid, []).append(event)
    before: dict[str, str] = {}
    for event in walk(connection, old.hospital_id, upto=old.head_seq):
        if event.study_uid in events:
            before[event.study_uid] = event.state
    columns = STUDY.c.study_uid, STUDY.c.lake_study_uid
    query = sa.select(*columns).where(STUDY.c.hospital_id == old.hospital_id, STUDY.c.lake_study_uid != "")
    names = {uid: name for uid, name in connection.execute(query) if uid in events}
    return [
        ChangedStudy(
            names.get(uid, f"study of event {changes[0].seq}"),
            before.get(uid, ""),
            changes[-1].state,
            changes[-1].reason,
            len(changes),
        )
        for uid, changes in events.items()
    ]


def history_of(connection: sa.Connection, uid: str) -> Iterator[Event]:
    """Events of a study, by its original UID or its UID in the lake, of every hospital that has it."""
    where = (STUDY.c.study_uid == uid) | (STUDY.c.lake_study_uid == uid)
    query = sa.select(STUDY.c.hospital_id, STUDY.c.study_uid).where(where).order_by(STUDY.c.hospital_id)
    for hospital_id, study_uid in connection.execute(query).all():
        yield from walk(connection, hospital_id, study_uid=study_uid)
