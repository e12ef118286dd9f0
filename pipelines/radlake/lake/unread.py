"""Pieces of descriptions that no rule of the vocabulary could read, so that somebody adds rules.

A piece may be a name, so its text is kept only from the tenth person on whose description has it; before that the
ledger holds a keyed digest and pseudonyms. A name that ten persons share tells nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from radlake.lake.evidence import UnreadPiece
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import UNREAD_PERSON, UNREAD_TEXT
from radlake.lake.statements import in_parts, put_row

__all__ = ["COMMON", "MOST", "Unread", "enter_unread", "unread_texts"]

COMMON = 10  # persons from whom on a piece is shown
MOST = 1000  # persons that are counted of a piece: enough to put it first


@dataclass(frozen=True)
class Unread:
    """A piece that is common; `n_persons` ends at `MOST`."""

    text: str
    modality_group: str
    n_persons: int


def enter_unread(ledger: Ledger, found: Sequence[tuple[int, UnreadPiece]]) -> None:
    """Count pieces by person (patient_key); the same ones again change nothing."""
    pieces = {piece.digest: piece for _, piece in found}
    persons: dict[str, set[int]] = {digest: set() for digest in pieces}
    for patient_key, piece in found:
        persons[piece.digest].add(patient_key)
    for part in in_parts(sorted(pieces)):
        with ledger.writing() as connection:
            _enter(connection, [pieces[digest] for digest in part], persons)


def _enter(connection: sa.Connection, pieces: Sequence[UnreadPiece], persons: Mapping[str, set[int]]) -> None:
    digests = [piece.digest for piece in pieces]
    known: dict[str, set[int]] = {digest: set() for digest in digests}
    for digest, patient_key in connection.execute(sa.select(UNREAD_PERSON).where(UNREAD_PERSON.c.digest.in_(digests))):
        known[digest].add(patient_key)
    new = [
        {"digest": digest, "patient_key": key}
        for digest in digests
        for key in sorted(persons[digest] - known[digest])[: max(0, MOST - len(known[digest]))]
    ]
    if new:
        connection.execute(UNREAD_PERSON.insert(), new)
    for piece in pieces:
        if len(known[piece.digest] | persons[piece.digest]) >= COMMON > len(known[piece.digest]):
            key = {"digest": piece.digest}
            put_row(connection, UNREAD_TEXT, key, {"text": piece.text, "modality_group": piece.modality_group})


def unread_texts(ledger: Ledger, *, limit: int) -> list[Unread]:
    """The commonest pieces, most persons first."""
    n_persons = sa.func.count().label("n_persons")
    query = (
        sa.select(UNREAD_TEXT.c.text, UNREAD_TEXT.c.modality_group, n_persons)
        .select_from(UNREAD_TEXT.join(UNREAD_PERSON, UNREAD_PERSON.c.digest == UNREAD_TEXT.c.digest))
        .group_by(UNREAD_TEXT.c.digest, UNREAD_TEXT.c.text, UNREAD_TEXT.c.modality_group)
        .order_by(n_persons.desc(), UNREAD_TEXT.c.text)
        .limit(limit)
    )
    with ledger.reading() as connection:
        return [Unread(*row) for row in connection.execute(query)]
