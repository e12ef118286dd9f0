"""Pieces of descriptions that no rule reads: shown when many persons have them, never before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from radlake.lake.evidence import UnreadPiece
from radlake.lake.ledger import Ledger
from radlake.lake.ledger_tables import UNREAD_TEXT
from radlake.lake.unread import COMMON, Unread, enter_unread, unread_texts

KNOT = UnreadPiece(digest="d1", text="髁间窝", modality_group="DX")
NAME = UnreadPiece(digest="d2", text="王秀兰", modality_group="CT")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield ledger
    ledger.close()


def test_a_piece_is_shown_from_the_tenth_person_on(ledger: Ledger) -> None:
    enter_unread(ledger, [(person, KNOT) for person in range(COMMON - 1)])
    assert unread_texts(ledger, limit=9) == []
    with ledger.reading() as connection:
        assert connection.execute(sa.select(UNREAD_TEXT)).all() == []
    enter_unread(ledger, [(77, KNOT)])
    assert unread_texts(ledger, limit=9) == [Unread("髁间窝", "DX", COMMON)]


def test_many_studies_of_one_person_count_once_and_a_batch_again_changes_nothing(ledger: Ledger) -> None:
    enter_unread(ledger, [(1, NAME)] * 50 + [(person, KNOT) for person in range(20)])
    enter_unread(ledger, [(1, NAME)] * 50 + [(person, KNOT) for person in range(20)])
    assert unread_texts(ledger, limit=9) == [Unread("髁间窝", "DX", 20)]
