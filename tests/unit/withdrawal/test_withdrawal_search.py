"""The search of a withdrawal in the pages of SQLite: what was deleted is found, what only looks like it is not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from radlake.withdrawal.names import Names
from radlake.withdrawal.subject import Subject
from radlake.withdrawal.verify import Verification, _in_database

METADATA = sa.MetaData()
STUDY = sa.Table("study", METADATA, sa.Column("study_uid", sa.String, index=True))
GONE = "1.2.840.99.491"


@pytest.fixture
def ledger(tmp_path: Path) -> sa.Engine:
    """Sixty studies, of which the 49th is called 1.2.840.99.49: in its index follows the byte 0x31, which is a 1."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    METADATA.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(STUDY), [{"study_uid": f"1.2.840.99.{n}"} for n in range(1, 61)])
    assert GONE.encode() in (tmp_path / "ledger.db").read_bytes()
    return engine


def remnants(engine: sa.Engine) -> list[tuple[str, str, int]]:
    subject = Subject(kind="study", digest="", studies=(), uids=(GONE,))
    return list(_in_database(engine, METADATA, Names(subject), Verification(searched=Counter()), set()))


def test_values_that_lie_side_by_side_are_no_name(ledger: sa.Engine, tmp_path: Path) -> None:
    assert remnants(ledger) == []
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.db"]


def test_what_was_deleted_and_lies_there_still_is_found(ledger: sa.Engine) -> None:
    with ledger.begin() as connection:
        connection.execute(sa.insert(STUDY).values(study_uid=GONE))
    assert {kind for _, kind, _ in remnants(ledger)} == {"value of study.study_uid"}
    with ledger.begin() as connection:
        connection.execute(sa.text("PRAGMA secure_delete = OFF"))
        connection.execute(sa.delete(STUDY).where(STUDY.c.study_uid == GONE))
    assert [(place, kind) for place, kind, _ in remnants(ledger)] == [("ledger.db", "uid")] * 2
