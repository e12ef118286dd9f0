"""Pieces of descriptions that no rule of the vocabulary could read, so that somebody adds rules.

A piece may be a name, so its text is kept only from the tenth person on whose description has it; before that the ledger
holds a keyed digest and pseudonyms. A name that ten persons share tells nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import UNREAD_PERSON, UNREAD_TEXT

__all__ = ["COMMON", "MOST", "Unread", "UnreadPiece", "enter_unread", "unread_texts"]

COMMON = 10  # persons from whom on a piece is shown
MOST = 1000  # persons that are counted of a piece: enough to put it first


@dataclass(frozen=True)
class UnreadPiece:
    """A piece of the description of one study; `digest` is keyed."""

    digest: str
    text: str
    modality_group: str


@dataclass(frozen=True)
class Unread:
    """A piece that is common; `n_persons` ends at `MOST`."""

    text: str
    modality_group: str
    n_persons: int


def enter_unread(ledger: Ledger, found: Sequence[tuple[int, UnreadPiece]]) -> None:
    """Count pieces by person (patient_key); the same ones again change nothing."""
    pieces = {piece.digest: piece for _, piece in found}
    pairs = {(piece.digest, key) for key, piece in found}
    if not pieces:
        return
    with ledger.writing() as connection:
        asked = UNREAD_PERSON.c.digest.in_(sorted(pieces))
        known = {tuple(row) for row in connection.execute(sa.select(UNREAD_PERSON).where(asked))}
        counts = {digest: sum(1 for other, _ in known if other == digest) for digest in pieces}
        new = sorted((digest, key) for digest, key in pairs - known if counts[digest] < MOST)
        if new:
            rows = [{"digest": digest, "patient_key": key} for digest, key in new]
            connection.execute(UNREAD_PERSON.insert(), rows)
        for digest, _ in new:
            counts[digest] += 1
        common = {digest for digest, n in counts.items() if n >= COMMON}
        told = set(
            connection.execute(sa.select(UNREAD_TEXT.c.digest).where(UNREAD_TEXT.c.digest.in_(sorted(common)))).scalars()
        )
        if rows := [
            {"digest": digest, "text": pieces[digest].text, "modality_group": pieces[digest].modality_group}
            for digest in sorted(common - told)
        ]:
            connection.execute(UNREAD_TEXT.insert(), rows)


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
